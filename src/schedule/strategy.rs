//! Strategies of the recurrence in words, and limits of a dispatch.

use crate::kernel::Division;
use crate::plan::{Launch, Strategy};

/// Iterations of a shader's loops that a dispatch may take: some drivers end loops after 65,535, counted over nested loops
/// together.
pub(crate) const MOST_ITERATIONS: u32 = 50_000;

/// Description of a launch of the recurrence, for a plan's text.
pub(crate) fn describe(launch: &Launch) -> String {
    let strategy = match launch.strategy {
        Strategy::PerStep => {
            "per step: one dispatch a time step and layer (recurrent product, gates, activations, cell update; both \
             directions in it), for any size"
        }
        Strategy::WholeSequence => {
            "whole sequence: each workgroup carries its batch rows through many time steps in one dispatch, without \
             barriers between workgroups (recurrent product, gates, activations, cell update; both directions in it)"
        }
        Strategy::Grid => {
            "grid: many time steps a dispatch, whose workgroups divide the hidden units and wait for each other at a barrier after each \
             step (recurrent product, gates, activations, cell update; both directions in it); a repair follows that computes the \
             steps if a workgroup did not come"
        }
    };
    match launch.division {
        Division::Scan => strategy.into(),
        Division::Step | Division::Sequence | Division::Grid => format!(
            "{strategy}; workgroups of {} rows x {} units, {} threads a unit",
            launch.rows,
            launch.units,
            launch.threads * launch.span / launch.units,
        ),
    }
}
