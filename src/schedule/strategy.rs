//! Division of the recurrence into dispatches, and of a dispatch among workgroups and threads.

use crate::plan::{Capabilities, Strategy};

/// Iterations of a shader's loops that a dispatch may take: some drivers end loops after 65,535, counted over nested loops
/// together.
pub(crate) const MOST_ITERATIONS: u32 = 50_000;

/// Description of a strategy, for a plan's text.
pub(crate) fn describe(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::PerStep => {
            "per step: one dispatch a time step and layer (recurrent product, gates, activations, cell update; both \
             directions in it), for any size"
        }
        Strategy::WholeSequence => {
            "whole sequence: each workgroup carries its batch rows through many time steps in one dispatch, without \
             barriers between workgroups (recurrent product, gates, activations, cell update; both directions in it)"
        }
    }
}

/// The forward or the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Forward,
    Backward,
}

/// Division of a dispatch of the recurrence among workgroups and threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launch {
    /// Batch rows of a workgroup, which share each weight that is loaded: 1, 4 or 8.
    pub rows: u32,
    /// Hidden units of a workgroup.
    pub units: u32,
    /// Hidden units that a thread computes at once, which share each load of a row's state.
    pub span: u32,
    /// Threads of a workgroup.
    pub threads: u32,
    /// Time steps of a dispatch.
    pub steps: u32,
}

impl Launch {
    /// Chosen for a layer of H hidden units, B rows in D directions, T steps. `plain` is true if a step's code is short: drivers
    /// take too long to compile longer code for many rows and units of a thread.
    pub fn new(
        pass: Pass,
        [hidden, batch, directions, steps]: [u32; 4],
        plain: bool,
        capabilities: &Capabilities,
    ) -> Launch {
        let all_rows = directions as u64 * batch as u64;
        // Sharing loads pays if enough threads remain to keep the device busy.
        let busy = |rows: u64, span: u64| all_rows * hidden as u64 >= rows * span * capabilities.busy_threads;
        let strategy = Strategy::choose(hidden, steps, capabilities);
        // A whole sequence also needs at least two workgroups.
        let fits = |rows: u64| {
            let groups = strategy == Strategy::PerStep || all_rows >= 2 * rows;
            batch as u64 >= rows && groups && busy(rows, 1)
        };
        let most: &[u32] = if plain { &[8, 4] } else { &[4] };
        let rows = most.iter().copied().find(|&rows| fits(rows as u64)).unwrap_or(1);
        let wide = match pass {
            Pass::Forward => 2,
            Pass::Backward => 4,
        };
        let span =
            if plain && rows > 1 && hidden.is_multiple_of(4) && busy(rows as u64, wide) { wide as u32 } else { 1 };
        match strategy {
            Strategy::PerStep => {
                let threads = if capabilities.workgroup_tiles { 64 } else { 8 };
                Launch { rows, units: threads * span, span, threads, steps: 1 }
            }
            Strategy::WholeSequence => {
                let threads = hidden.div_ceil(span).next_multiple_of(if capabilities.workgroup_tiles { 64 } else { 8 });
                let threads = threads.min(256);
                let iterations = hidden.div_ceil(threads * span) * (hidden + 20) + 10;
                let steps = if capabilities.short_loops { (MOST_ITERATIONS / iterations).max(1) } else { u32::MAX };
                Launch { rows, units: hidden, span, threads, steps }
            }
        }
    }
}
