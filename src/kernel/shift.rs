//! Shifts in time: padding, and the last steps of each sequence.

use super::declare::{constants, kernel, kinds, params};
use super::{Call, Region, Touch};
use crate::cpu::Args;
use crate::real::Real;

kinds! {
    /// The part of a shift that each row has of its own, from its length.
    RowShift {
        /// None.
        None,
        /// The steps that padding "same" puts in front; see [`same_padding`].
        Same,
        /// The length.
        Length,
    }
}

kinds! {
    /// The side of a shift whose times must be within a row's length.
    ShiftLimit {
        /// Neither.
        None,
        /// The source.
        Source,
        /// The destination.
        Destination,
    }
}

params! {
    /// `dst[s, b, f] (+)= src[t, b, f]` at t = s + shift + by_row · the row's own part, both counted in time. A source that has no
    /// such step has zero there.
    Shift {
        /// Steps of the destination.
        steps: u32,
        /// B.
        batch: u32,
        /// Features of a row.
        features: u32,
        /// First element of the source [src_steps, B, features].
        src_offset: u32,
        /// Steps of the source.
        src_steps: u32,
        /// Time of its first step.
        src_time: i32,
        /// First element of the destination [steps, B, features].
        dst_offset: u32,
        /// Time of its first step.
        time: i32,
        /// Steps from the destination's time to the source's.
        shift: i32,
        /// Factor of the row's own part.
        by_row: i32,
        /// Steps of a window, for [`RowShift::Same`].
        window: u32,
        /// Steps from one window to the next.
        stride: u32,
        /// The step of the whole sequence that is time 0.
        first_step: u32,
        /// T, which bounds lengths.
        total_steps: u32,
        /// 1: add to the destination; 0: overwrite it.
        accumulate: u32,
    }
}

constants! {
    /// Constants of [`SHIFT`].
    ShiftConstants {
        /// The row's own part.
        row: RowShift,
        /// The side within the row's length.
        limit: ShiftLimit,
        /// True if sequences have lengths.
        ragged: bool,
    }
}

kernel! {
    /// Copy of a sequence shifted in time, with zeros where there is no source.
    SHIFT = shift(Shift, ShiftConstants) {
        bindings: [read words, read src, write dst],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.steps, p.batch, p.features], flops: p.accumulate as u64,
        touches: |p, c| [
            Touch::reads(Region::span(2, c.ragged as u32, p.batch)),
            Touch::reads(Region::span(p.src_offset, p.src_steps * p.batch, p.features)),
            Touch::updates(Region::span(p.dst_offset, p.steps * p.batch, p.features), p.accumulate == 1),
        ],
    }
}

/// Steps that TensorFlow's padding "same" puts in front of `steps` steps: half of those that the last window reaches past the end,
/// rounded down. Twin of the function in `shaders/common/indexing.wgsl`.
pub fn same_padding(steps: u32, window: u32, stride: u32) -> u32 {
    let windows = steps.div_ceil(stride).max(1);
    ((windows - 1) * stride + window).saturating_sub(steps) / 2
}

/// Twin of `shaders/shift.wgsl`.
fn shift<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Shift = call.params();
    let ShiftConstants { row: kind, limit, ragged } = call.constants();
    let ([key_and_lengths, src], [dst], _) = args.parts(0);
    let n = p.features as usize;
    for row in 0..p.batch as usize {
        let len = match ragged {
            true => key_and_lengths[2 + row].word().saturating_sub(p.first_step).min(p.total_steps),
            false => p.total_steps,
        };
        let own = match kind {
            RowShift::None => 0,
            RowShift::Same => same_padding(len, p.window, p.stride),
            RowShift::Length => len,
        };
        for s in 0..p.steps {
            let to_time = p.time + s as i32;
            let time = to_time + p.shift + p.by_row * own as i32;
            let within = match limit {
                ShiftLimit::None => true,
                ShiftLimit::Source => (0..len as i32).contains(&time),
                ShiftLimit::Destination => (0..len as i32).contains(&to_time),
            };
            let from = time - p.src_time;
            let to = &mut dst[p.dst_offset as usize + (s as usize * p.batch as usize + row) * n..][..n];
            if within && (0..p.src_steps as i32).contains(&from) {
                let from = &src[p.src_offset as usize + (from as usize * p.batch as usize + row) * n..][..n];
                for (to, &from) in to.iter_mut().zip(from) {
                    *to = if p.accumulate == 1 { *to + from } else { from };
                }
            } else if p.accumulate == 0 {
                to.fill(F::zero());
            }
        }
    }
}
