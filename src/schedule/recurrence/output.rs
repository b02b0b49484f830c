//! A recurrent layer's output: its state history in the order of time.

use super::forward::ForwardPass;
use super::sizes::LstmSizes;
use super::trace::LayerTrace;
use crate::error::Result;
use crate::kernel::{self, NoConstants};
use crate::plan::{BufferId, Role};
use crate::schedule::builder::Builder;
use crate::schedule::sequence::{Direction, Sequence};

/// Reader of a layer's output.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Reader {
    /// A reader of the last states alone.
    LastStates,
    /// The layer above, which ignores values past the end of a sequence.
    NextLayer,
    /// The user.
    User,
}

/// Rows [B, features] of some steps: address of the first, and strides of steps and rows.
pub(super) struct Rows {
    pub at: (BufferId, u32),
    pub step: i32,
    pub row: u32,
}

/// Outputs, or their gradients, of one direction and some steps, to be copied between the orders of time and of the scan.
pub(super) struct OutputPart {
    pub direction: Direction,
    /// First step of the scan.
    pub start: u32,
    pub steps: u32,
    pub from: Rows,
    pub to: Rows,
}

impl OutputPart {
    /// Copies the rows; with `key_and_lengths`, values past the end of a sequence are set to 0.
    pub fn copy(&self, builder: &mut Builder, sizes: &LstmSizes, key_and_lengths: Option<BufferId>) {
        let OutputPart { from, to, .. } = self;
        let Some(key_and_lengths) = key_and_lengths else {
            let shape = [1, self.steps, sizes.batch, sizes.width];
            let strides = |rows: &Rows| [0, rows.step, rows.row as i32, 1];
            return builder.copy(shape, from.at, strides(from), to.at, strides(to), false);
        };
        let params = kernel::Trim {
            steps: self.steps,
            batch: sizes.batch,
            features: sizes.width,
            src_offset: from.at.1,
            src_step: from.step,
            src_row: from.row as i32,
            dst_offset: to.at.1,
            dst_step: to.step,
            dst_row: to.row as i32,
            time: builder.first_step() + self.direction.time(self.start),
            time_step: self.direction.stride(1),
        };
        builder.push(&kernel::TRIM, None, &NoConstants, &params, &[key_and_lengths, from.at.0, to.at.0]);
    }
}

impl LstmSizes {
    /// Rows of a direction in slots [D, B, K] of the scan.
    pub(super) fn slot_rows(&self, (buffer, at): (BufferId, u32), direction: Direction) -> Rows {
        let at = at + direction.index * self.batch * self.width;
        Rows { at: (buffer, at), step: self.h_slot() as i32, row: self.width }
    }

    /// Rows of a direction in a sequence [T, B, D·K] in the order of time, from a step of the scan on.
    pub(super) fn output_rows(&self, y: &Sequence, direction: Direction, start: u32) -> Rows {
        let order = self.output_order(direction);
        let (buffer, at) = y.at(order.time(start));
        Rows { at: (buffer, at + direction.index * self.width), step: order.stride(y.step), row: y.row }
    }
}

impl ForwardPass<'_> {
    /// The output [B, D·K] a step, in the order of time unless the layer keeps that of the scan. For one forward direction it is
    /// the history itself. Past the ends of sequences it is 0, unless the last output is repeated, which the history has there.
    pub(super) fn output(&self, builder: &mut Builder, reader: Reader) -> Result<Sequence> {
        let (sizes, h) = (self.sizes, &self.h);
        let trims = sizes.ragged && reader == Reader::User && !sizes.repeats_output;
        if sizes.history_is_output() && !trims {
            return Ok(h.clone());
        }
        let shape = [sizes.steps, sizes.batch, sizes.directions * sizes.width];
        let y = builder.sequence(&format!("{}.y", self.name), shape, 0, Role::Scratch)?;
        for direction in sizes.each_direction() {
            for chunk in 0..h.chunks.len() {
                for part in sizes.output_order(direction).segments(h.chunk_range(chunk), y.chunk_steps) {
                    let part = OutputPart {
                        direction,
                        start: part.start,
                        steps: part.len() as u32,
                        from: sizes.slot_rows(h.at(part.start), direction),
                        to: sizes.output_rows(&y, direction, part.start),
                    };
                    part.copy(builder, sizes, trims.then_some(self.key_and_lengths));
                }
            }
        }
        Ok(y)
    }
}

/// The last hidden states of all directions side by side, [1, B, D·K], as Keras returns them without `return_sequences`.
pub fn last_step(builder: &mut Builder, sizes: &LstmSizes, trace: &LayerTrace) -> Result<Sequence> {
    let (batch, width, directions) = (sizes.batch, sizes.width, sizes.directions);
    let (buffer, at) = trace.h_last;
    if directions == 1 {
        let (step, features) = (batch * width, width);
        return Ok(Sequence { chunks: vec![buffer], steps: 1, chunk_steps: 1, lead: at, step, row: width, features });
    }
    let last = builder.sequence(&format!("{}.last", sizes.name), [1, batch, directions * width], 0, Role::Scratch)?;
    builder.copy(
        [1, directions, batch, width],
        (buffer, at),
        [0, (batch * width) as i32, width as i32, 1],
        last.at(0),
        [0, width as i32, (directions * width) as i32, 1],
        false,
    );
    Ok(last)
}
