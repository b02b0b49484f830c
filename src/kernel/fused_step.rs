//! One time step of a layer from its input, for streams.

use super::declare::{constants, kernel};
use super::scan::groups;
use super::shares::Shares;
use super::{Call, Kernel, Region, ScanForward, ScanForwardConstants, Touch};
use crate::cpu::fused_step;
use crate::plan::StepWeights;

constants! {
    /// Constants of [`FUSED_STEP`]. It is a step of inference, with one head, and K is H.
    FusedStepConstants like ScanForwardConstants {
        /// I.
        input: u32,
    }
}

kernel! {
    /// One time step of all directions in inference: W·x + R·h' as one sum, gates, activations and cell update.
    ///
    /// Its parameters are those of a forward step, of which some have a meaning of their own: x begins at `xw_offset`, and its rows
    /// are `saved_offset` apart; h' begins at `h_in`, the states beside h at `c_in`, where the new ones take their place; the new h
    /// begins at 0.
    FUSED_STEP = fused_step(ScanForward, FusedStepConstants) {
        bindings: [read w, read r, read bias, read x, read before, write h, write c, read words],
        workgroup: [0, 1, 1],
        groups: |p, c| groups(c.common.h, c.common.units, p.batch, c.common.rows, p.directions),
        flops: |p, c| {
            let [h, terms] = [c.common.h, c.input + c.common.terms].map(u64::from);
            p.directions as u64 * p.batch as u64 * h * (8 * terms + 30)
        },
        touches: |p, c, call| touches(&p, &c, call),
        cell: true,
        parts: ["forward_step", "shares", "forward_shares"],
    }
}

/// [`FUSED_STEP`] with input and recurrent weights in f16.
pub static FUSED_STEP_HALF: Kernel = Kernel { name: "fused_step_half", weights: StepWeights::F16, ..FUSED_STEP };

/// [`FUSED_STEP`] with input and recurrent weights as whole numbers.
pub static FUSED_STEP_INT8: Kernel = Kernel { name: "fused_step_int8", weights: StepWeights::Int8, ..FUSED_STEP };

/// Elements of workgroup memory that a step takes, for a division of its recurrent product among threads.
pub(crate) fn fused_step_memory(shares: &Shares, input: u32) -> u32 {
    let inputs = Shares { terms: input, ..*shares };
    let staged = shares.rows * (inputs.turns() + shares.turns()) * shares.shares();
    staged.max(inputs.step_memory(0))
}

impl ScanForwardConstants {
    /// True for a step of inference with one head and without a projection.
    pub(super) fn is_plain_inference(&self) -> bool {
        self.k == self.h && self.heads == 1 && self.span == 1 && !self.train && !self.drop
    }

    /// True if threads, units and memory are as a step needs them that adds the product of so many inputs.
    pub(super) fn holds_with(&self, input: u32) -> bool {
        let shares = self.shares();
        shares.holds() && self.memory >= fused_step_memory(&shares, input)
    }
}

/// Empty (the plan check rejects it) if threads, units or memory are not as the kernel needs them.
fn touches(p: &ScanForward, c: &FusedStepConstants, call: &Call) -> Vec<Touch> {
    let &FusedStepConstants { common, input } = c;
    let ScanForwardConstants { h, terms, .. } = common;
    if !common.is_plain_inference() || (terms != h && terms != 0) || input == 0 || !common.holds_with(input) {
        return Vec::new();
    }
    let (d, units) = (p.directions, p.directions * p.batch);
    let weights = |terms| {
        let [rows, columns] = call.kernel.weights.elements(d, terms, h);
        Touch::reads(Region::span(0, rows, columns))
    };
    let states = call.cell.map_or(1, |cell| cell.states.len() as u32);
    let extra = call.cell.is_some_and(|cell| cell.extra) as u32;
    let c_slot = Region::span(p.c_in, states * units, h);
    vec![
        weights(input),
        weights(terms),
        Touch::reads(Region::span(0, d * (p.biases + extra), 4 * h)),
        Touch::reads(Region::strided(p.xw_offset, [(p.batch, p.saved_offset as i32), (input, 1)])),
        Touch::reads(Region::span(p.h_in, units, h)),
        Touch::writes(Region::span(0, units, h)),
        Touch { read: Some(c_slot), write: Some(c_slot) },
        common.carries.key_and_lengths(p.batch, false),
    ]
}
