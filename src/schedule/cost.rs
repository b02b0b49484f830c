//! A model of what a launch of the recurrence costs, by which the scheduler chooses where it may not measure.
//!
//! The rates of a GPU are those of a card in the middle of the range, but for a dispatch and a barrier, which are an H100's
//! (benches/results/). Only their proportions matter: which of a device's limits a launch meets first. All times are estimates. `examples/bench --sweep` prints them beside measurements.

use crate::kernel::{Division, Shares};
use crate::plan::{Capabilities, Launch, Recurrence, StepWeights, Strategy};

/// Work of a pass with a launch, and the time that it takes by the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cost {
    /// Estimated µs.
    pub us: f64,
    /// Dispatches.
    pub dispatches: u64,
    /// Bytes of recurrent weights that all workgroups load, once a step; what is beyond their size comes from a cache.
    pub bytes: f64,
    /// Multiply-adds of recurrent products, those of padded terms and units included.
    pub fmas: f64,
    /// Threads of a dispatch.
    pub threads: u64,
}

/// From a dispatch to the next one that waits for it, in µs.
const DISPATCH: f64 = 2.0;
/// A barrier across workgroups, in µs: two loads from the second cache after an atomic operation there.
const BARRIER: f64 = 1.0;
/// From a step to the next one inside a workgroup, beside its loads and products: two barriers, the sum of the shares, the cell.
const STEP: f64 = 0.5;
/// A load from memory that is not in the first cache, in µs.
const LATENCY: f64 = 0.5;
/// Loads of 16 bytes that a thread has under way; twice as many where it has few rows.
const LOADS_AT_ONCE: f64 = 8.0;
/// Bytes that come at once from the second cache, which neighbouring threads had better read whole: 32 on NVIDIA's GPUs, 64 on Intel's and
/// AMD's GCN, 128 on RDNA.
const LINE: f64 = 64.0;
/// Threads that a compute unit holds.
const UNIT_THREADS: f64 = 1024.0;
/// Multiply-adds of a compute unit in a µs, at the share of its peak that these kernels reach.
const UNIT_FMAS: f64 = 60e3;
/// Bytes that a compute unit loads from the second cache in a µs.
const UNIT_BYTES: f64 = 60e3;
/// Bytes that all compute units together load from the second cache in a µs.
const ALL_BYTES: f64 = 3e6;

/// Rates of a software adapter, in µs; see [`on_software`].
struct Software {
    /// From a dispatch to the next one that waits for it.
    dispatch: f64,
    /// A thread in a step: the cell, and where threads share terms, barriers and sums.
    thread: f64,
    /// A load of 16 bytes of weights.
    load: f64,
    /// Four multiply-adds.
    fmas: f64,
}

/// The scan on a software adapter: round numbers that order the launches of `bench --sweep` on lavapipe best.
const SCAN: Software = Software { dispatch: 5.0, thread: 0.7, load: 0.02, fmas: 1e-3 };
/// Kernels whose threads share terms on a software adapter, in the same way.
const SHARED: Software = Software { dispatch: 10.0, thread: 0.05, load: 6e-3, fmas: 3e-3 };

/// Cost of a pass with a launch.
pub(crate) fn of_launch(what: &Recurrence, launch: &Launch, capabilities: &Capabilities) -> Cost {
    let work = Work::new(what, launch);
    let us = match capabilities.shared_terms {
        true => on_hardware(what, launch, &work, capabilities),
        false => on_software(what, launch, &work),
    };
    let loads = what.steps as f64 * work.groups * work.loads;
    Cost {
        us,
        dispatches: work.dispatches,
        bytes: loads * bytes_of_a_load(capabilities),
        fmas: 4.0 * loads * launch.rows as f64,
        threads: work.groups as u64 * launch.threads as u64,
    }
}

/// Work of a launch.
struct Work {
    /// Fours of weights that a thread loads one after the other; in turns of four where threads share terms.
    turns: u32,
    /// Threads that share the terms of a unit.
    shares: u32,
    /// Workgroups of a dispatch.
    groups: f64,
    /// Loads of four weights by a workgroup in a step.
    loads: f64,
    /// Dispatches of the pass.
    dispatches: u64,
}

impl Work {
    fn new(what: &Recurrence, launch: &Launch) -> Work {
        let shares: Shares = what.shares(launch.rows, launch.units, launch.threads);
        let padded = if launch.division == Division::Scan { what.hidden } else { shares.padded() };
        let groups =
            padded.div_ceil(launch.units) as f64 * what.batch.div_ceil(launch.rows) as f64 * what.directions as f64;
        let inputs = what.input.map_or(0, |terms| Shares { terms, ..shares }.turns());
        let (turns, threads) = match launch.division {
            Division::Scan => (what.terms, 1),
            Division::Step | Division::Sequence | Division::Grid => (shares.turns() + inputs, shares.shares()),
        };
        let loads = match launch.division {
            Division::Scan => what.terms as f64 * launch.units.min(what.hidden) as f64,
            // Padded terms and units count: the threads compute them.
            Division::Step | Division::Sequence | Division::Grid => 4.0 * turns as f64 * launch.threads as f64,
        };
        Work { turns, shares: threads, groups, loads, dispatches: what.steps.div_ceil(launch.steps.max(1)) as u64 }
    }
}

/// Bytes of four weights.
fn bytes_of_a_load(capabilities: &Capabilities) -> f64 {
    match capabilities.step_weights {
        StepWeights::F32 => 16.0,
        StepWeights::F16 => 8.0,
        StepWeights::Int8 => 4.0,
    }
}

/// Estimated µs on a GPU.
fn on_hardware(what: &Recurrence, launch: &Launch, work: &Work, capabilities: &Capabilities) -> f64 {
    let &Work { turns, groups, loads, .. } = work;
    let units = capabilities.busy_threads as f64 / UNIT_THREADS; // compute units
    // Workgroups of a compute unit run at once as far as it holds their threads, else one after the other.
    let a_unit = (groups / units).ceil().max(1.0);
    let waves = (a_unit * launch.threads as f64 / UNIT_THREADS).ceil();
    let bytes = lines(launch, loads, bytes_of_a_load(capabilities));
    let staged = 16.0 * launch.rows as f64 * what.shares(launch.rows, launch.units, launch.threads).items() as f64;
    let multiply = a_unit * 4.0 * loads * launch.rows as f64 / UNIT_FMAS;
    let sums = 0.005 * work.shares as f64;
    let of_step = match launch.division {
        Division::Sequence => {
            let kept = turns <= 4;
            let load = if kept { 0.0 } else { load(bytes, a_unit, groups) + latency(turns, launch.rows, 1.0) };
            STEP + sums + multiply.max(load)
        }
        // All of a workgroup's weights are in registers, or come as in a step of its own; h' comes from the second cache.
        Division::Grid => {
            let kept = turns <= 4;
            let load = if kept { 0.0 } else { load(bytes, a_unit, groups) + latency(turns, launch.rows, 1.0) };
            let staged = self::load(staged, a_unit, groups);
            BARRIER + STEP + LATENCY + staged + sums + multiply.max(load)
        }
        Division::Step | Division::Scan => {
            DISPATCH + sums + latency(turns, launch.rows, waves) + multiply.max(load(bytes + staged, a_unit, groups))
        }
    };
    let dispatches = match launch.division {
        Division::Sequence => work.dispatches as f64 * DISPATCH,
        // Each with a repair that finds nothing to do, and the barrier is cleared before.
        Division::Grid => (1 + 2 * work.dispatches) as f64 * DISPATCH,
        Division::Step | Division::Scan => 0.0,
    };
    what.steps as f64 * of_step + dispatches
}

/// Bytes that come for the loads of a workgroup: whole lines, of which neighbouring threads may read a part.
fn lines(launch: &Launch, loads: f64, bytes: f64) -> f64 {
    let together = (launch.units / launch.span) as f64 * bytes;
    loads * bytes * (LINE / together).max(1.0)
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

/// Estimated µs on a software adapter: threads are few, so all work of a step is added up, but workgroups run at once on two
/// processors.
fn on_software(what: &Recurrence, launch: &Launch, work: &Work) -> f64 {
    let rates = if launch.division == Division::Scan { SCAN } else { SHARED };
    let rows = launch.rows as f64;
    let thread = rates.thread * launch.threads as f64 * rows.max(launch.span as f64);
    let group = thread + work.loads * (rates.load + rates.fmas * rows);
    let processors = work.groups.min(2.0);
    let strategy = if launch.strategy == Strategy::PerStep { what.steps as f64 } else { work.dispatches as f64 };
    strategy * rates.dispatch + what.steps as f64 * group * work.groups / processors
}
