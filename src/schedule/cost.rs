//! A model of what a launch of the recurrence costs on a GPU, by which the scheduler chooses where it may not measure.
//!
//! The rates are those of a card in the middle of the range. Only their proportions matter: which of a device's limits a launch
//! meets first. All times are estimates.

use super::launch::{Launch, Recurrence};
use crate::kernel::{Division, Shares};
use crate::plan::{Capabilities, StepWeights};

/// From a dispatch to the next one that waits for it, in µs.
const DISPATCH: f64 = 4.0;
/// From a step to the next one inside a workgroup, beside its loads and products: two barriers, the sum of the shares, the cell.
const STEP: f64 = 0.5;
/// A load from memory that is not in the first cache, in µs.
const LATENCY: f64 = 0.5;
/// Loads of 16 bytes that a thread has under way; twice as many where it has few rows.
const LOADS_AT_ONCE: f64 = 8.0;
/// Bytes of a line of the first cache, which neighbouring threads had better read whole.
const LINE: f64 = 128.0;
/// Threads that a compute unit holds.
const UNIT_THREADS: f64 = 1024.0;
/// Multiply-adds of a compute unit in a µs, at the share of its peak that these kernels reach.
const UNIT_FMAS: f64 = 100e3;
/// Bytes that a compute unit loads from the second cache in a µs.
const UNIT_BYTES: f64 = 60e3;
/// Bytes that all compute units together load from the second cache in a µs.
const ALL_BYTES: f64 = 1.5e6;

/// Estimated µs of a pass with a launch.
pub(super) fn of_launch(what: &Recurrence, launch: &Launch, capabilities: &Capabilities) -> f64 {
    let shares = what.shares(launch.rows, launch.units, launch.threads);
    let units = capabilities.busy_threads as f64 / UNIT_THREADS; // compute units
    let groups = shares.padded().div_ceil(launch.units) as f64
        * what.batch.div_ceil(launch.rows) as f64
        * what.directions as f64;
    // Workgroups of a compute unit run at once as far as it holds their threads, else one after the other.
    let a_unit = (groups / units).ceil().max(1.0);
    let waves = (a_unit * launch.threads as f64 / UNIT_THREADS).ceil();
    let inputs = what.input.map_or(0, |terms| Shares { terms, ..shares }.turns());
    let turns = shares.turns() + inputs;
    let weights = 4.0 * turns as f64 * launch.threads as f64; // vec4 loads of a workgroup and step
    let bytes = weights
        * match capabilities.step_weights {
            StepWeights::F32 => 16.0,
            StepWeights::F16 => 8.0,
            StepWeights::Int8 => 4.0,
        };
    let bytes = bytes * (LINE * weights / (bytes * (launch.units / shares.span()) as f64)).max(1.0);
    // Padded terms and units count: the threads compute them.
    let fmas = 4.0 * weights * launch.rows as f64;
    let multiply = a_unit * fmas / UNIT_FMAS;
    let of_step = match launch.division {
        Division::Sequence => {
            let kept = shares.turns() <= 4;
            let load = if kept { 0.0 } else { load(bytes, a_unit, groups) + latency(shares.turns(), launch.rows, 1.0) };
            STEP + sums(&shares) + multiply.max(load)
        }
        _ => DISPATCH + sums(&shares) + latency(turns, launch.rows, waves) + multiply.max(load(bytes, a_unit, groups)),
    };
    let dispatches = what.steps.div_ceil(launch.steps.max(1)) as f64;
    what.steps as f64 * of_step + if launch.division == Division::Sequence { dispatches * DISPATCH } else { 0.0 }
}

/// µs in which the weights come from the second cache.
fn load(bytes: f64, groups_of_a_unit: f64, groups: f64) -> f64 {
    (bytes * groups_of_a_unit / UNIT_BYTES).max(bytes * groups / ALL_BYTES)
}

/// µs in which a thread waits for its loads, 4 a turn.
fn latency(turns: u32, rows: u32, waves: f64) -> f64 {
    let at_once = if rows <= 2 { 2.0 * LOADS_AT_ONCE } else { LOADS_AT_ONCE };
    waves * LATENCY * (4.0 * turns as f64 / at_once).ceil().max(1.0)
}

/// µs for the sum of the shares.
fn sums(shares: &Shares) -> f64 {
    0.005 * shares.shares() as f64
}
