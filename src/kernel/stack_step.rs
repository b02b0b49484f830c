//! A step of several layers of a stack at once.

use super::declare::{constants, kernel};
use super::scan::groups;
use super::{Call, Region, ScanForward, ScanForwardConstants, Touch};
use crate::cpu::stack_step;

constants! {
    /// Constants of [`STACK_STEP`]. It is a step of inference, with one head and without states carried past the cell, and K is H.
    StackStepConstants like ScanForwardConstants {
        /// L.
        layers: u32,
        /// T.
        steps: u32,
    }
}

kernel! {
    /// A step of each of several layers in inference, one direction: layer l is a step behind layer l − 1, whose output it reads.
    ///
    /// Its parameters are those of a forward step, of which some have a meaning of their own: `steps` is the number of layers of the
    /// call, `site` the first of them, and layer l takes step `first_step` − l.
    STACK_STEP = stack_step(ScanForward, StackStepConstants) {
        bindings: [read xw, read w, read r, read bias, write h, write c, read words],
        workgroup: [0, 1, 1],
        groups: |p, c| groups(c.common.h, c.common.units, p.batch, c.common.rows, p.steps),
        flops: |p, c| p.steps as u64 * p.batch as u64 * c.common.h as u64 * (16 * c.common.h as u64 + 30),
        touches: |p, c, call| touches(&p, &c, call),
        cell: true,
        parts: ["forward_step", "shares", "forward_shares"],
    }
}

/// Empty (the plan check rejects it) if threads, units, memory, layers or steps are not as the kernel needs them.
fn touches(p: &ScanForward, c: &StackStepConstants, call: &Call) -> Vec<Touch> {
    let &StackStepConstants { common, layers, steps } = c;
    let ScanForwardConstants { h, terms, carries, .. } = common;
    let (first, count, diagonal) = (p.site, p.steps, p.first_step);
    let plain = common.is_plain_inference() && terms == h && !carries.any();
    let inside = count > 0 && first + count <= layers && first + count <= diagonal + 1 && diagonal < first + steps;
    if !plain || !inside || !common.holds_with(h) {
        return Vec::new();
    }
    let slot = p.batch * h;
    let states = call.cell.map_or(1, |cell| cell.states.len() as u32);
    let extra = call.cell.is_some_and(|cell| cell.extra) as u32;
    // Layer l reads its own h' and that of the layer below, whose slots are those of the same diagonal.
    let own = |layer: u32| (layer * (1 + steps) + diagonal - layer) * slot;
    let slots = |at: u32, count: u32| Region::strided(at, [(count, (steps * slot) as i32), (slot, 1)]);
    let below = first.saturating_sub(1);
    let c_slots = Region::span(first * states * slot, count * states, slot);
    let weights = |matrices: u32| Touch::reads(Region::span(0, matrices * h, 4 * h));
    vec![
        if first == 0 { Touch::reads(Region::span(4 * diagonal * slot, p.batch, 4 * h)) } else { Touch::none() },
        if first + count > 1 { weights(layers - 1) } else { Touch::none() },
        weights(layers),
        Touch::reads(Region::span(0, layers * (p.biases + extra), 4 * h)),
        Touch { read: Some(slots(own(below), first + count - below)), write: Some(slots(own(first) + slot, count)) },
        Touch { read: Some(c_slots), write: Some(c_slots) },
        carries.key_and_lengths(p.batch, false),
    ]
}
