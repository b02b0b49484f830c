//! The gradient of a recurrent layer's output, in the order of the scan.

use super::backward::{BackwardPass, Upstream};
use super::output::OutputPart;
use super::sizes::LstmSizes;
use crate::plan::BufferId;
use crate::schedule::builder::Builder;
use crate::schedule::sequence::Sequence;
use std::ops::Range;

/// Gradient of the output of some steps.
#[derive(Clone, Debug)]
pub struct OutputGradient {
    /// Address of the first of `steps`.
    pub at: (BufferId, u32),
    /// Steps of the scan that have one.
    pub steps: Range<u32>,
    /// Stride of a step.
    pub step: u32,
    /// Stride of a direction.
    pub direction: u32,
    /// Stride of a row.
    pub row: u32,
}

impl OutputGradient {
    /// The gradient of one step, in a slot [D, B, features].
    pub fn of_step(at: (BufferId, u32), step: u32, [batch, features]: [u32; 2]) -> OutputGradient {
        OutputGradient { at, steps: step..step + 1, step: 0, direction: batch * features, row: features }
    }
}

impl LstmSizes {
    /// Copies a gradient [1, B, D·K] to a slot [D, B, K].
    fn copy_last(&self, builder: &mut Builder, dy: &Sequence, to: (BufferId, u32)) {
        let LstmSizes { batch, width, .. } = *self;
        let (from, slot) = ([0, width as i32, dy.row as i32, 1], [0, (batch * width) as i32, width as i32, 1]);
        builder.copy([1, self.directions, batch, width], dy.at(0), from, to, slot, false);
    }

    /// Adds the gradient of a last state, a slot [D, B, K], to that of an output which is the state, [1, B, D·K].
    pub fn add_last(&self, builder: &mut Builder, state: BufferId, dy: &Sequence) {
        let LstmSizes { batch, width, .. } = *self;
        let (slot, to) = ([0, (batch * width) as i32, width as i32, 1], [0, width as i32, dy.row as i32, 1]);
        builder.copy([1, self.directions, batch, width], (state, 0), slot, dy.at(0), to, true);
    }
}

impl BackwardPass<'_> {
    /// Output gradients of a chunk: in place, or copied into the order of the scan.
    pub(super) fn output_gradients(
        &self,
        builder: &mut Builder,
        upstream: &Upstream,
        chunk: &Range<u32>,
    ) -> OutputGradient {
        let (sizes, fused) = (self.sizes, self.sizes.fused());
        let last_here = chunk.end == sizes.steps;
        match upstream {
            Upstream::Last(dy) if fused => {
                let last = if last_here && sizes.carries() == 0 { sizes.steps - 1..sizes.steps } else { 0..0 };
                OutputGradient { at: dy.at(0), steps: last, step: 0, direction: sizes.width, row: dy.row }
            }
            Upstream::Whole(dy) if fused && sizes.history_is_output() && self.finals.is_none() => {
                // dy has the same chunks as the histories.
                let steps = chunk.clone();
                OutputGradient { at: dy.at(chunk.start), steps, step: dy.step, direction: 0, row: dy.row }
            }
            Upstream::Last(dy) => {
                builder.fill(self.scratch.dy, 0..chunk.len() as u32 * sizes.h_slot(), 0.0);
                if last_here {
                    sizes.copy_last(builder, dy, self.last_slot(chunk));
                }
                self.in_scan_order(chunk)
            }
            Upstream::Whole(dy) => {
                self.copy_to_scan_order(builder, dy, chunk);
                let at_the_end = !fused || sizes.carries() == 0;
                if let (true, true, Some((dh_n, _))) = (last_here, at_the_end, self.finals) {
                    builder.add_run(sizes.h_slot(), (dh_n, 0), self.last_slot(chunk));
                }
                self.in_scan_order(chunk)
            }
        }
    }

    /// The last step's slot of a chunk's output gradients.
    fn last_slot(&self, chunk: &Range<u32>) -> (BufferId, u32) {
        (self.scratch.dy, (chunk.len() as u32 - 1) * self.sizes.h_slot())
    }

    /// A chunk's output gradients in the order of the scan.
    fn in_scan_order(&self, chunk: &Range<u32>) -> OutputGradient {
        let LstmSizes { batch, width, .. } = *self.sizes;
        let (at, step) = ((self.scratch.dy, 0), self.sizes.h_slot());
        OutputGradient { at, steps: chunk.clone(), step, direction: batch * width, row: width }
    }

    fn copy_to_scan_order(&self, builder: &mut Builder, dy: &Sequence, chunk: &Range<u32>) {
        let sizes = self.sizes;
        // If steps add gradients here, theirs count past the end of a sequence, and the output's do not.
        let trims = sizes.ragged && !sizes.fused() && !sizes.repeats_output;
        for direction in sizes.each_direction() {
            for part in sizes.output_order(direction).segments(chunk.clone(), dy.chunk_steps) {
                let slot = (part.start - chunk.start) * sizes.h_slot();
                let part = OutputPart {
                    direction,
                    start: part.start,
                    steps: part.len() as u32,
                    from: sizes.output_rows(dy, direction, part.start),
                    to: sizes.slot_rows((self.scratch.dy, slot), direction),
                };
                part.copy(builder, sizes, trims.then_some(self.key_and_lengths));
            }
        }
    }

    /// Copies the gradients of the last states to the buffers from which the backward pass begins.
    pub(super) fn last_states(&self, builder: &mut Builder, upstream: &Upstream) {
        let (sizes, sums) = (self.sizes, self.scratch.sums);
        match self.finals {
            Some((_, dc_n)) => builder.copy_run(sizes.c_slot(), (dc_n, 0), (sums, self.dc())),
            None => builder.fill(sums, self.dc()..self.dc() + sizes.c_slot(), 0.0),
        }
        if !sizes.sums_past() {
            return;
        }
        let (past, slot) = (self.past(), sizes.slot());
        match (sizes.fused(), upstream, self.finals) {
            // Sequences end at different steps, but the last slot has the last state of each.
            (true, Upstream::Last(dy), _) => sizes.copy_last(builder, dy, (sums, past)),
            (true, Upstream::Whole(_), Some((dh_n, _))) => builder.copy_run(slot, (dh_n, 0), (sums, past)),
            // It is part of the last output's gradient, or there is none.
            (false, ..) | (true, Upstream::Whole(_), None) => builder.fill(sums, past..past + slot, 0.0),
        }
    }
}
