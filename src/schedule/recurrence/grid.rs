//! Steps of a grid: dispatches of many steps whose workgroups wait for each other, each with a repair behind it.

use super::forward::ForwardPass;
use super::stage::Step;
use crate::error::Result;
use crate::kernel::{GRID_FORWARD, GRID_REPAIR, ScanForward, ScanForwardConstants, barrier_words, repair_memory};
use crate::plan::{BufferId, Launch, Role};
use crate::schedule::builder::Builder;
use crate::schedule::launch::grid_spins;
use crate::schedule::strategy::MOST_ITERATIONS;

/// End of the names of barriers.
pub(super) const BARRIER: &str = ".barrier";
/// Threads of a workgroup of a repair.
const REPAIR_THREADS: u32 = 256;

/// The barrier of a layer's grids.
#[derive(Debug)]
pub(super) struct Grid {
    /// [1 + dispatches x words of a dispatch]; the first counts repairs.
    barrier: BufferId,
    /// Words of a dispatch.
    words: u32,
    dispatches: u32,
}

impl Grid {
    pub fn new(builder: &mut Builder, pass: &ForwardPass, launch: &Launch) -> Result<Grid> {
        let sizes = pass.sizes;
        let words = barrier_words(sizes.directions, sizes.batch, launch.rows);
        let of_chunk = |chunk: usize| (pass.h.chunk_range(chunk).len() as u32).div_ceil(launch.steps);
        let dispatches: u32 = (0..pass.h.chunks.len()).map(of_chunk).sum();
        let len = 1 + u64::from(dispatches) * u64::from(words);
        let barrier = builder.buffer(format!("{}{BARRIER}", pass.name), len, Role::Scratch)?;
        Ok(Grid { barrier, words, dispatches })
    }

    /// Clears the words of all dispatches.
    pub fn begin(&self, builder: &mut Builder) {
        builder.fill(self.barrier, 1..1 + self.dispatches * self.words, 0.0);
    }

    /// Steps of a dispatch and their repair. `params`, `constants` and `buffers` are those of a scan; the last buffer is not used.
    pub fn forward(
        &self,
        builder: &mut Builder,
        pass: &ForwardPass,
        step: &Step,
        (params, constants): (ScanForward, ScanForwardConstants),
        buffers: [BufferId; 8],
    ) {
        let (sizes, steps) = (pass.sizes, step.steps.len() as u32);
        let [xw, r, bias, h, c, saved, words, _] = buffers;
        let buffers = [xw, r, bias, h, c, saved, words, self.barrier];
        let cell = Some(sizes.cell);
        let grid = ScanForward { site: 1 + step.dispatch * self.words, zoneout_c: grid_spins(steps), ..params };
        builder.push(&GRID_FORWARD, cell, &constants, &grid, &buffers);

        let workgroups = sizes.hidden.div_ceil(constants.units) * (self.words - 1);
        let repair = ScanForward { site: grid.site, zoneout_h: workgroups, ..params };
        let memory = repair_memory(sizes.hidden);
        let constants =
            ScanForwardConstants { rows: 1, units: sizes.hidden, threads: REPAIR_THREADS, memory, ..constants };
        let iterations = sizes.hidden.div_ceil(REPAIR_THREADS) * (sizes.hidden / 4 + 4) + 4;
        let most = if builder.capabilities.short_loops { (MOST_ITERATIONS / iterations).max(1) } else { steps };
        for first in (0..steps).step_by(most as usize) {
            let kept = if pass.train { first } else { 0 }; // steps of c and of saved values
            let c_out = repair.c_out + kept * sizes.c_slot();
            let part = ScanForward {
                steps: most.min(steps - first),
                xw_offset: repair.xw_offset + first * sizes.gate_slot(),
                h_in: repair.h_in + first * sizes.h_slot(),
                c_in: match (first, pass.train) {
                    (0, _) => repair.c_in,
                    (_, true) => c_out - sizes.c_slot(),
                    (_, false) => c_out,
                },
                c_out,
                saved_offset: repair.saved_offset + kept * sizes.planes() * sizes.slot(),
                first_step: repair.first_step + first,
                ..repair
            };
            builder.push(&GRID_REPAIR, cell, &constants, &part, &buffers);
        }
    }
}
