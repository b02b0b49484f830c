//! The recurrence by a grid: workgroups that run side by side and wait for each other after each step.

use super::declare::kernel;
use super::scan::groups;
use super::{Call, Division, Region, SCAN_FORWARD, ScanForward, ScanForwardConstants, Touch};
use crate::cpu::{Args, Bound, Buffer, Pick, scan_forward};

kernel! {
    /// Many time steps of all directions, like [`STEP_FORWARD`](super::STEP_FORWARD), in one dispatch: after each step the workgroups of the
    /// same rows and direction wait for each other at a barrier, for a bounded time. If one did not come, the results do not count, and
    /// [`GRID_REPAIR`], which must follow, computes them.
    ///
    /// Its parameters are those of a forward step, of which some have a meaning of their own: `site` is the first of the dispatch's words
    /// in `barrier` (1 + D · groups of rows of them, 0 before the dispatch), `zoneout_c` the number of spins of a workgroup.
    GRID_FORWARD = grid_forward(ScanForward, ScanForwardConstants) {
        bindings: [read xw, read r, read bias, write h, write c, write saved, read words, write barrier],
        workgroup: [0, 1, 1],
        groups: |p, c| groups(c.h, c.units, p.batch, c.rows, p.directions),
        flops: |p, c| p.flops(&c),
        touches: |p, c, call| p.grid_touches(&c, call),
        cell: true,
        parts: [
            "forward_step", "grid_tensors", "grid_barrier", "forward_cell", "shares", "forward_shares", "forward_weights"
        ],
    }
}

kernel! {
    /// The steps of a [`GRID_FORWARD`], if not all of its workgroups finished, by workgroups that do not depend on each other: each carries
    /// a row with all its units through time. Word 0 of `barrier` counts repairs.
    ///
    /// `site` is the grid's own, `zoneout_h` the number of its workgroups.
    GRID_REPAIR = grid_repair(ScanForward, ScanForwardConstants) {
        bindings: [read xw, read r, read bias, write h, write c, write saved, read words, write barrier],
        workgroup: [0, 1, 1],
        groups: |p, c| groups(c.h, c.units, p.batch, c.rows, p.directions),
        flops: |p, c| 0,
        touches: |p, c, call| p.repair_touches(&c, call),
        cell: true,
        parts: ["forward_step", "grid_tensors", "forward_cell", "shares", "forward_weights"],
    }
}

/// Words of a grid's dispatch in `barrier`: workgroups that have finished, then arrivals of each direction and group of rows.
pub(crate) fn barrier_words(directions: u32, batch: u32, rows: u32) -> u32 {
    1 + directions * batch.div_ceil(rows)
}

impl ScanForward {
    /// Empty (the plan check rejects it) if the layer is not one that a grid computes.
    fn grid_touches(&self, c: &ScanForwardConstants, call: &Call) -> Vec<Touch> {
        if !c.is_for_grids() || !self.h_in.is_multiple_of(4) {
            return Vec::new();
        }
        let block = Region::span(self.site, 1, barrier_words(self.directions, self.batch, c.rows));
        with_barrier(self.touches(c, call, Division::Grid), Touch::updates(block, true))
    }

    fn repair_touches(&self, c: &ScanForwardConstants, call: &Call) -> Vec<Touch> {
        let own = [c.units, c.rows, c.memory] == [c.h, 1, repair_memory(c.h)];
        if !c.is_for_grids() || !own || !self.h_in.is_multiple_of(4) {
            return Vec::new();
        }
        let finished = Some(Region::span(self.site, 1, 1));
        let repairs = Some(Region::span(0, 1, 1));
        let scan = ScanForwardConstants { memory: 0, ..*c };
        with_barrier(self.touches(&scan, call, Division::Scan), Touch { read: finished, write: repairs })
    }
}

/// A scan's touches with the barrier's in place of the mask's.
fn with_barrier(mut touches: Vec<Touch>, barrier: Touch) -> Vec<Touch> {
    if let Some(mask) = touches.last_mut() {
        *mask = barrier;
    }
    touches
}

/// Workgroup memory of a repair, in elements of 16 bytes: h' and h of a row.
pub(crate) fn repair_memory(hidden: u32) -> u32 {
    hidden / 2
}

impl ScanForwardConstants {
    /// True for a layer with one head, without a mask, zoneout or a projection, whose units come by fours.
    fn is_for_grids(&self) -> bool {
        let ScanForwardConstants { h, k, terms, heads, drop, carries, span, .. } = *self;
        [k, terms] == [h, h] && [heads, span] == [1, 1] && h.is_multiple_of(4) && !drop && !carries.zoneout()
    }
}

/// The scan, with the barrier's words after it where the mask of the scan is.
fn scan<F: Pick>(call: &Call, args: &mut Args<F>) {
    let none = Buffer::from(Vec::new());
    let bindings = SCAN_FORWARD.bindings;
    let mut buffers: Vec<Bound<F>> = args.buffers.iter_mut().take(bindings.len() - 1).map(Bound::again).collect();
    buffers.push(Bound::Read(&none));
    let Args { weights, team, .. } = *args;
    let (scratch, lacking) = (&mut *args.scratch, &mut *args.lacking);
    scan_forward(call, &mut Args { buffers: &mut buffers, bindings, weights, scratch, lacking, team });
}

/// Twin of `shaders/grid_forward.wgsl`, whose workgroups always finish here.
fn grid_forward<F: Pick>(call: &Call, args: &mut Args<F>) {
    scan(call, args);
    let (p, c): (ScanForward, ScanForwardConstants) = (call.params(), call.constants());
    let [across, rows, directions] = call.groups().map(|groups| groups as u32);
    let ([_, _, _, _], [_, _, _, barrier], _) = args.parts::<4, 4>(0);
    let words = barrier_words(p.directions, p.batch, c.rows) as usize;
    let block = &mut barrier[p.site as usize..][..words];
    block.fill(F::of_word((p.steps - 1) * across));
    block[0] = F::of_word(across * rows * directions);
}

/// Twin of `shaders/grid_repair.wgsl`.
fn grid_repair<F: Pick>(call: &Call, args: &mut Args<F>) {
    let p: ScanForward = call.params();
    let ([_, _, _, _], [_, _, _, barrier], _) = args.parts::<4, 4>(0);
    if barrier[p.site as usize].word() != p.zoneout_h {
        barrier[0] = F::of_word(barrier[0].word() + 1);
        scan(call, args);
    }
}
