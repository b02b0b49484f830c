//! Samples: plans of a layer's steps alone, from which the time of a launch is taken.

use super::backward::{self, Backward, Upstream};
use super::forward::{self, Forward, Initial};
use super::grid::BARRIER;
use super::sizes::{Drops, G, LstmSizes, Pass};
use super::weights::{LayerWeights, Norms};
use super::{CARRY, CELL, PRODUCT, PRODUCT_NORM, PROJECT};
use crate::cell::{CELLS, Settings};
use crate::error::{Error, Result};
use crate::kernel::FILL;
use crate::plan::{Capabilities, Command, Plan, Recurrence, Role};
use crate::schedule::builder::Builder;

/// Features of a sample's input. Its product is not part of the sample.
const INPUT: u32 = 4;

/// Plan of the steps of a pass, `repeats` times, as the scheduler launches them in a layer of this shape. What other kernels would have
/// written, W·x before all, is 0.
pub(crate) fn sample(what: &Recurrence, repeats: u32, capabilities: &Capabilities) -> Result<Plan> {
    let sizes = sizes(what)?;
    let mut builder = Builder::trusted(format!("the steps of {what}, {repeats} times"), capabilities.clone());
    let plan = &mut builder;
    let weights = declare(plan, &sizes, "", Role::Weight)?;
    let x = plan.sequence("x", [sizes.steps, sizes.batch, sizes.input], 0, Role::Input)?;
    let (weights, train) = (std::slice::from_ref(&weights), what.backward);
    let initial = match what.input {
        Some(_) => Initial::States(vec![[
            (plan.buffer("h before", sizes.h_slot() as u64, Role::State)?, 0),
            (plan.buffer("c before", sizes.c_slot() as u64, Role::State)?, 0),
        ]]),
        None => Initial::Zero,
    };
    let stack = Forward { weights, x: &x, initial: &initial, train, whole: true };
    let traces = forward::lstm(plan, &sizes, &stack)?;
    if what.backward {
        let dy = plan.sequence("dy", [sizes.steps, sizes.batch, sizes.directions * sizes.width], 0, Role::Input)?;
        let gradients = declare(plan, &sizes, "grad ", Role::Gradient)?;
        let gradients = std::slice::from_ref(&gradients);
        let stack = Backward { weights, gradients, traces: &traces, states: None, wants_dx: false };
        backward::lstm(plan, &sizes, &stack, Upstream::Whole(dy))?;
    }
    let mut plan = builder.finish()?;
    // Kernels with a cell are those of steps. Barriers of grids are cleared before each run.
    let clears = |command: &Command| {
        command.call.kernel.name == FILL.name && plan.buffers[command.buffers[0].0].name.ends_with(BARRIER)
    };
    let is_step = |command: &&Command| {
        let kernel = command.call.kernel;
        kernel.takes_cell && kernel.name.contains("_backward") == what.backward || !what.backward && clears(command)
    };
    let steps: Vec<Command> = plan.commands.iter().filter(is_step).cloned().collect();
    plan.commands = (0..repeats).flat_map(|_| steps.iter().cloned()).collect();
    // The commands are those of a plan that was checked, on the same buffers.
    plan.set_trusted(true);
    Ok(plan)
}

/// Most steps of a sample of a pass whose largest tensor has at most `bytes`; at least one.
pub(crate) fn most_steps(what: &Recurrence, bytes: u64) -> Result<u32> {
    let largest = sizes(what)?.per_step(what.backward).into_iter().map(|(_, elements)| 4 * elements).max().unwrap_or(4);
    // One step more for the state before the first.
    Ok((bytes / largest).saturating_sub(1).clamp(1, what.steps as u64) as u32)
}

/// Sizes of a layer that has this pass.
fn sizes(what: &Recurrence) -> Result<LstmSizes> {
    let &Recurrence { backward, hidden, heads, terms, input, batch, directions, steps, fused, plain, .. } = what;
    let unknown = || Error::Plan(format!("no layer has the pass {what:?}"));
    let cell = CELLS.iter().find(|cell| cell.name == what.cell).ok_or_else(unknown)?;
    let multiplies = terms > 0;
    let stages = match (fused, multiplies) {
        (true, true) => vec![&PRODUCT, &CELL],
        (true, false) => vec![&CELL],
        (false, true) => vec![&PRODUCT, &CELL, &PROJECT, &CARRY],
        // Any stage that keeps the steps apart.
        (false, false) => vec![&PRODUCT, &PRODUCT_NORM, &CELL],
    };
    let zoneout = if !plain && heads == 1 { 0.1 } else { 0.0 };
    let sizes = LstmSizes {
        name: "sample".into(),
        cell,
        settings: Settings::default(),
        steps,
        batch,
        input: input.unwrap_or(INPUT),
        hidden,
        width: if multiplies { terms * heads } else { hidden },
        heads,
        stages,
        layers: 1,
        directions,
        biases: 2,
        ragged: false,
        backwards: false,
        in_scan_order: false,
        repeats_output: false,
        drops: Drops { zoneout_h: zoneout, zoneout_c: zoneout, ..Drops::default() },
    };
    let pass = if backward { Pass::Backward } else { Pass::Forward };
    if (Recurrence { input, ..sizes.recurrence(pass) }) == *what { Ok(sizes) } else { Err(unknown()) }
}

/// Declares a layer's weights, or their gradients.
fn declare(plan: &mut Builder, sizes: &LstmSizes, prefix: &str, role: Role) -> Result<LayerWeights> {
    let LstmSizes { hidden, width, input, directions, .. } = *sizes;
    let mut tensor = |name: &str, len: u64| plan.buffer(format!("{prefix}{name}"), directions as u64 * len, role);
    let gates = (G * hidden) as u64;
    let has = |stage| sizes.stages.contains(&stage);
    Ok(LayerWeights {
        w: tensor("w", input as u64 * gates)?,
        r: tensor("r", sizes.r_len() / directions as u64)?,
        bias: tensor("bias", sizes.parameters() as u64 * gates)?,
        projection: has(&PROJECT).then(|| tensor("projection", width as u64 * hidden as u64)).transpose()?,
        norm: match has(&PRODUCT_NORM) {
            true => Some(Norms {
                x: tensor("norm x", gates)?,
                h: tensor("norm h", gates)?,
                c: tensor("norm c", 2 * hidden as u64)?,
            }),
            false => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::kernel::Division;
    use crate::plan::{Launch, StepWeights, Strategy, Tunable, TunedLaunch};

    const PLAIN: Recurrence = Recurrence {
        backward: false,
        cell: "standard",
        hidden: 12,
        heads: 1,
        terms: 12,
        input: None,
        batch: 5,
        directions: 1,
        steps: 3,
        fused: true,
        plain: true,
    };

    /// The pass in every form that layers give it.
    fn passes() -> Vec<Recurrence> {
        let mut all = vec![
            PLAIN,
            Recurrence { plain: false, ..PLAIN },
            Recurrence { directions: 2, batch: 1, ..PLAIN },
            Recurrence { heads: 3, terms: 4, plain: false, ..PLAIN },
            Recurrence { cell: "min_lstm", terms: 0, ..PLAIN },
            Recurrence { cell: "s_lstm", ..PLAIN },
            Recurrence { steps: 1, ..PLAIN },
        ];
        let backward = all.iter().map(|&pass| Recurrence { backward: true, ..pass }).collect::<Vec<_>>();
        all.extend(backward);
        all.extend([
            Recurrence { terms: 6, fused: false, ..PLAIN },
            Recurrence { terms: 0, fused: false, ..PLAIN },
            Recurrence { terms: 0, fused: false, backward: true, ..PLAIN },
        ]);
        all
    }

    /// Every candidate can be forced, and a sample then has its steps and no other command.
    #[test]
    fn a_sample_is_the_steps_by_the_candidate() {
        let software = Capabilities { shared_terms: false, workgroup_tiles: false, ..Capabilities::default() };
        let grids = Capabilities { grid_workgroups: 64, strategy: Some(Strategy::Grid), ..Capabilities::default() };
        for capabilities in [Capabilities::default(), software, grids] {
            let from_input = Recurrence { input: Some(7), steps: 1, ..PLAIN };
            for what in passes().into_iter().chain(capabilities.shared_terms.then_some(from_input)) {
                let all = Launch::candidates(&what, &capabilities);
                assert!(all.contains(&Launch::by_model(&what, &capabilities)), "{what}");
                for launch in all {
                    let choices = capabilities.choices.with(Tunable::Recurrence(what), TunedLaunch::Recurrence(launch));
                    let plan = sample(&what, 2, &Capabilities { choices, ..capabilities.clone() }).unwrap();
                    let steps = 2 * what.steps.div_ceil(launch.steps) as usize;
                    // A grid's barrier is cleared before its steps, and a repair follows.
                    let all = if launch.division == Division::Grid { 3 * steps } else { steps };
                    let kernel = match what.input {
                        Some(_) => "fused_step",
                        None => launch.division.kernel(what.backward, StepWeights::F32).name,
                    };
                    assert_eq!((plan.commands.len(), plan.dispatches_of(kernel)), (all, steps), "{what}: {launch}");
                    for command in plan.commands.iter().filter(|command| command.call.kernel.name == kernel) {
                        let constant = |name: &str| {
                            let names = command.call.kernel.constants.iter();
                            names
                                .zip(&command.call.constants)
                                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                                .unwrap()
                                .1
                        };
                        let launched = ["rows", "units", "span", "threads"].map(|name| *constant(name));
                        assert_eq!(
                            launched,
                            [launch.rows, launch.units, launch.span, launch.threads],
                            "{what}: {launch}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn samples_run() {
        for what in passes() {
            let device = Device::cpu();
            let plan = sample(&what, 1, device.capabilities()).unwrap();
            crate::wait::block_on(device.compile_with(plan, |_| None)).unwrap().run().unwrap();
        }
    }

    #[test]
    fn steps_of_a_sample_are_bounded_by_its_memory() {
        let long = Recurrence { steps: 1000, ..PLAIN };
        // W·x of a step has 4 x 4 x 5 x 12 bytes.
        assert_eq!(most_steps(&long, 960 * 11).unwrap(), 10);
        assert_eq!((most_steps(&long, 1).unwrap(), most_steps(&PLAIN, 1 << 30).unwrap()), (1, 3));
    }
}
