//! Sequences shifted in time.

use super::operator::Site;
use crate::error::Result;
use crate::kernel::{self, RowShift, ShiftConstants, ShiftLimit};
use crate::schedule::{Builder, Sequence};

/// A shift in time: the destination's time t has the source's time t + shift + by_row · each row's own part.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeShift {
    /// Steps for all rows.
    pub shift: i32,
    /// Each row's own part.
    pub row: RowShift,
    /// Its factor.
    pub by_row: i32,
    /// The side within the row's length.
    pub limit: ShiftLimit,
    /// Reach and stride of windows, for [`RowShift::Same`].
    pub windows: [u32; 2],
    /// T, which bounds lengths.
    pub steps: u32,
    /// True to add to the destination, false to overwrite it.
    pub add: bool,
}

impl TimeShift {
    /// No shift, for lengths of the site's steps.
    pub fn of(site: &Site, row: RowShift) -> TimeShift {
        TimeShift { shift: 0, row, by_row: 1, limit: ShiftLimit::None, windows: [1, 1], steps: site.steps, add: false }
    }
}

/// Copies a sequence [.., B, F] to the shifted times of another. Each comes with the time of its first step. The destination has
/// zeros where the source has no such step.
pub(super) fn shift(
    plan: &mut Builder,
    site: &Site,
    (x, x_time): (&Sequence, i32),
    (y, y_time): (&Sequence, i32),
    by: TimeShift,
) -> Result<()> {
    let words = plan.words(site.batch)?;
    for to in 0..y.chunks.len() {
        let range = y.chunk_range(to);
        let (into, dst_offset) = y.at(range.start);
        for from in 0..x.chunks.len() {
            let source = x.chunk_range(from);
            let (of, src_offset) = x.at(source.start);
            let params = kernel::Shift {
                steps: range.len() as u32,
                batch: site.batch,
                features: y.features,
                src_offset,
                src_steps: source.len() as u32,
                src_time: x_time + source.start as i32,
                dst_offset,
                time: y_time + range.start as i32,
                shift: by.shift,
                by_row: by.by_row,
                window: by.windows[0],
                stride: by.windows[1],
                first_step: plan.first_step(),
                total_steps: by.steps,
                accumulate: (by.add || from > 0) as u32,
            };
            let constants = ShiftConstants { row: by.row, limit: by.limit, ragged: site.ragged };
            plan.push(&kernel::SHIFT, None, &constants, &params, &[words, of, into]);
        }
    }
    Ok(())
}
