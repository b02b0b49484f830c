//! One time step of a layer from its input, for streams.

use super::declare::{constants, kernel};
use super::shares::Shares;
use super::{Call, Carries, Kernel, Region, ScanForward, Touch};
use crate::cpu::fused_step;
use crate::plan::StepWeights;

constants! {
    /// Constants of [`FUSED_STEP`]: those of the forward steps, and the width of the input.
    FusedStepConstants {
        /// H.
        h: u32,
        /// H.
        k: u32,
        /// False: it is a step of inference.
        train: bool,
        /// False.
        drop: bool,
        /// States carried past the cell.
        carries: Carries,
        /// Activations of the cell, as [`Settings::kinds`](crate::cell::Settings::kinds) packs them.
        kinds: u32,
        /// Batch rows of a workgroup.
        rows: u32,
        /// Hidden units of a workgroup.
        units: u32,
        /// 1.
        span: u32,
        /// Threads of a workgroup.
        threads: u32,
        /// Terms of the recurrent product: H, or 0 if there is none.
        terms: u32,
        /// 1.
        heads: u32,
        /// Workgroup memory, in elements of 16 bytes.
        memory: u32,
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
        groups: |p, c| [c.h.div_ceil(c.units) as u64, p.batch.div_ceil(c.rows) as u64, p.directions as u64],
        flops: |p, c| {
            p.directions as u64 * p.batch as u64 * c.h as u64 * (8 * (c.input as u64 + c.terms as u64) + 30)
        },
        touches: |p, c, call| touches(&p, &c, call),
        cell: true,
        parts: ["forward_step", "forward_shares"],
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

/// Empty (the plan check rejects it) if threads, units or memory are not as the kernel needs them.
fn touches(p: &ScanForward, c: &FusedStepConstants, call: &Call) -> Vec<Touch> {
    let FusedStepConstants { h, k, terms, rows, units, threads, memory, input, .. } = *c;
    let shares = Shares { backward: false, hidden: h, heads: 1, terms, rows, units, threads };
    let plain = k == h && c.heads == 1 && c.span == 1 && !c.train && !c.drop && (terms == h || terms == 0) && input > 0;
    if !plain || !shares.holds() || memory < fused_step_memory(&shares, input) {
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
        c.carries.key_and_lengths(p.batch, false),
    ]
}
