//! Strategies of the recurrence.

use serde::{Deserialize, Serialize};

/// Strategies of the recurrence: the way in which the time steps of a layer become dispatches.
///
/// ```
/// use wgpu_lstm::{Capabilities, Lstm, Strategy};
/// let capabilities = Capabilities { strategy: Some(Strategy::WholeSequence), ..Capabilities::default() };
/// let plan = Lstm::new(8).plan(3, 2, 50, &capabilities)?; // I = 3, B = 2, T = 50
/// assert_eq!(plan.dispatches_of("sequence_forward"), 1);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Strategy {
    /// One dispatch a step, whose workgroups divide the hidden units and batch rows. For any size.
    PerStep,
    /// One dispatch a chunk of time: a workgroup carries some batch rows, with all hidden units, through its steps.
    /// Workgroups are independent of each other. For layers whose recurrent weights fit a core's cache.
    WholeSequence,
    /// One dispatch a chunk of time, whose workgroups divide the hidden units and batch rows, as in a step, and wait for each other at a
    /// barrier after each step. Only for GPUs that were opened with [`GpuOptions::grid`](crate::GpuOptions::grid) and proved able to.
    Grid,
}

impl Strategy {
    /// The strategies that every device has.
    pub const ALL: [Strategy; 2] = [Strategy::PerStep, Strategy::WholeSequence];

    /// Name in plans and options.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::PerStep => "per-step",
            Strategy::WholeSequence => "whole-sequence",
            Strategy::Grid => "grid",
        }
    }
}
