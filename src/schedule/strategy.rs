//! How the recurrence is cut into dispatches, and how a dispatch shares out its work.

use super::forward::LstmSizes;
use crate::plan::Capabilities;

/// Turns of a shader's loops that a dispatch may take: some drivers end loops after 65,535, counted over nested loops
/// together.
const MOST_TURNS: u32 = 50_000;

/// How the time steps of a layer become dispatches.
///
/// ```
/// use wgpu_lstm::{Capabilities, Lstm, Strategy};
/// let capabilities = Capabilities { strategy: Some(Strategy::WholeSequence), ..Capabilities::default() };
/// let plan = Lstm::new(8).plan(3, 2, 50, &capabilities)?; // I = 3, B = 2, T = 50
/// assert_eq!(plan.dispatches_of("scan_forward"), 1);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// One dispatch a step: its workgroups share out hidden units and batch rows. For any size.
    PerStep,
    /// One dispatch a chunk of time: a workgroup carries some batch rows, with all hidden units, through its steps.
    /// Workgroups do not need each other. For layers whose recurrent weights a core keeps close.
    WholeSequence,
}

impl Strategy {
    /// All, for options.
    pub const ALL: [Strategy; 2] = [Strategy::PerStep, Strategy::WholeSequence];

    /// Name in plans and options.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::PerStep => "per-step",
            Strategy::WholeSequence => "whole-sequence",
        }
    }

    /// The one for a layer of H hidden units: what the capabilities ask for, else by size.
    pub fn choose(hidden: u32, capabilities: &Capabilities) -> Strategy {
        capabilities.strategy.unwrap_or(if hidden <= capabilities.whole_sequence_units {
            Strategy::WholeSequence
        } else {
            Strategy::PerStep
        })
    }

    /// What it does, for a plan's text.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Strategy::PerStep => {
                "per step: one dispatch a time step and layer (recurrent product, gates, activations, cell update; both \
                 directions in it), for any size"
            }
            Strategy::WholeSequence => {
                "whole sequence: each workgroup carries its batch rows through many time steps in one dispatch, without \
                 meeting others (recurrent product, gates, activations, cell update; both directions in it)"
            }
        }
    }
}

/// How a dispatch of the recurrence shares out its work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Launch {
    /// Batch rows of a workgroup, which share each weight that is loaded: 1, 4 or 8.
    pub rows: u32,
    /// Hidden units of a workgroup.
    pub units: u32,
    /// Threads of a workgroup.
    pub threads: u32,
    /// Time steps of a dispatch.
    pub steps: u32,
}

impl Launch {
    pub fn new(sizes: &LstmSizes, capabilities: &Capabilities) -> Launch {
        let (batch, hidden) = (sizes.batch, sizes.hidden);
        let all_rows = sizes.directions as u64 * batch as u64;
        let busy = |rows: u64| all_rows * hidden as u64 >= rows * capabilities.busy_threads;
        match Strategy::choose(hidden, capabilities) {
            Strategy::PerStep => {
                // Sharing a weight pays where enough threads remain to keep the device busy.
                let rows = [8, 4].into_iter().find(|&rows| batch >= rows && busy(rows as u64)).unwrap_or(1);
                Launch { rows, units: 64, threads: 64, steps: 1 }
            }
            Strategy::WholeSequence => {
                // At least two workgroups, and enough threads.
                let fits = |rows: u64| batch as u64 >= rows && all_rows >= 2 * rows && busy(rows);
                let rows = [8, 4].into_iter().find(|&rows| fits(rows as u64)).unwrap_or(1);
                let threads = hidden.next_multiple_of(64).min(256);
                let turns = hidden.div_ceil(threads) * (hidden + 10) + 10;
                let steps = if capabilities.short_loops { (MOST_TURNS / turns).max(1) } else { u32::MAX };
                Launch { rows, units: hidden, threads, steps }
            }
        }
    }
}
