//! Plans for a whole network: predict, evaluate, stream, train.

use super::graph::{AsGraph, Graph};
use super::node::check_carried;
use super::pass::{ForwardResult, Wanted, backward, forward};
use super::place::{Placed, declare, declare_states, describe, leave, place, places, split_time};
use super::segments::{self, Segmented};
use super::tape::{Forwarded, Tape};
use super::update::{self, Hyper, OutputLoss, loss_of, numbered};
use super::{Batch, Purpose};
use crate::error::{Error, Result};
use crate::plan::{BufferId, Capabilities, Plan, Role};
use crate::schedule::{Builder, Sequence, size, words_name};
use crate::train::Losses;

/// A plan, with the buffers that its host reads and writes.
#[derive(Clone, Debug)]
pub struct NetworkPlan {
    /// The plan.
    pub plan: Plan,
    /// Inputs [T, B, I]; T = 1 for a vector.
    pub inputs: Vec<Sequence>,
    /// Outputs.
    pub outputs: Vec<PlanOutput>,
    /// The mean loss (several: their weighted sum), if there is one; the sum of the batches' if gradients are added up.
    pub loss: Option<BufferId>,
    /// States of every recurrent layer, [D, B, units] each, if the plan reads and writes them: h and c of one layer after the other.
    pub states: Vec<BufferId>,
    /// Numbers that the host gives the optimiser at each step, for each group of parameters; none if the plan trains nothing.
    pub hyper: Vec<Hyper>,
    /// Time axes with their 32-bit words that the host writes: the key of the random bits (2), for training with dropout, then the
    /// lengths of the sequences (B), if they have lengths.
    pub words: Vec<(usize, BufferId)>,
    /// Output of each node, [T or 1, B, F]; empty if training goes through time in segments.
    pub values: Vec<Sequence>,
    /// The backward pass from gradients that the host gives, if the plan has one.
    pub tape: Option<Tape>,
    /// Its phases.
    pub phases: Phases,
}

/// Phases of a plan: the indices of their first commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phases {
    /// The forward pass. What is before it sets gradients to 0 that batches add up.
    pub forward: usize,
    /// The backward pass from gradients that the host gives; that of a plan with a loss follows its forward pass without a break.
    pub backward: usize,
    /// The optimiser's step; the plan's end if there is none.
    pub update: usize,
}

/// An output of a plan.
#[derive(Clone, Debug)]
pub struct PlanOutput {
    /// Output [T or 1, B, F]; without chunks if training goes through [T, B, F] in segments, since the whole output is not kept.
    pub y: Sequence,
    /// Target [T or 1, B, features], if there is a loss; see [`Loss::target_width`](crate::Loss::target_width).
    pub target: Option<Sequence>,
    /// Factor of each row's loss, [T or 1, B], if the purpose is weighted: the row's weight over the number of terms of the mean
    /// loss.
    pub row_weights: Option<BufferId>,
    /// Its mean loss times the loss's weight, if there is one.
    pub loss: Option<BufferId>,
}

impl NetworkPlan {
    /// The first input.
    pub fn x(&self) -> &Sequence {
        &self.inputs[0]
    }

    /// The first output.
    pub fn y(&self) -> &Sequence {
        &self.outputs[0].y
    }

    /// The target of the first output, if it has a loss.
    pub fn target(&self) -> Option<&Sequence> {
        self.outputs[0].target.as_ref()
    }

    /// The buffer of key and lengths along the first input, if the plan reads it.
    pub fn key_and_lengths(&self) -> Option<BufferId> {
        self.words.iter().find(|(axis, _)| *axis == 0).map(|&(_, id)| id)
    }
}

/// Plans a network for a batch: a [`Graph`], or nodes of a chain.
///
/// # Errors
/// Sizes out of range or beyond what the device can bind; layers that do not support the purpose.
pub fn network(
    nodes: &(impl AsGraph + ?Sized),
    batch: Batch,
    purpose: Purpose,
    capabilities: &Capabilities,
) -> Result<NetworkPlan> {
    graph_plan(&nodes.graph()?, &batch, purpose, capabilities)
}

/// [`network`] of a graph.
pub(crate) fn graph_plan(
    graph: &Graph,
    Batch { rows, steps, ragged, stateful, segment, accumulate }: &Batch,
    purpose: Purpose,
    capabilities: &Capabilities,
) -> Result<NetworkPlan> {
    let batch = size("the batch", *rows)?;
    let steps = graph.steps(steps)?;
    let steps: Vec<u32> =
        steps.into_iter().map(|steps| size("the number of time steps", steps)).collect::<Result<_>>()?;
    if *stateful {
        check_carried(&graph.nodes, "carry its state from batch to batch")?;
    }
    let title = match purpose {
        Purpose::Predict => "predict",
        Purpose::Stream => "stream",
        Purpose::Evaluate { .. } => "evaluate",
        Purpose::Train { .. } => "training step",
        Purpose::Pass => "forward and backward",
        Purpose::Step { .. } => "training step from gradients of the outputs",
    };
    let mut builder =
        Builder::trusted(format!("{title}: T = {}, B = {batch}", listed(&steps, graph)), capabilities.clone());
    let plan = &mut builder;
    let mut placed = place(graph, batch, &steps, *ragged, purpose.is_training());
    split_time(plan, &placed)?;
    let segment = match *segment {
        Some(segment) => segments::steps(plan, graph, purpose, [steps[0], size("a segment's steps", segment)?])?,
        None => None,
    };
    let longest = steps.iter().copied().max().unwrap_or(1);
    describe(plan, longest, segment, &placed)?;

    let inputs = declare_inputs(plan, graph, batch, &steps)?;
    for placed in &mut placed {
        placed.weights = declare(plan, placed.node, "", Role::Weight)?;
    }
    let carries = *stateful || matches!(purpose, Purpose::Stream);
    let states = match purpose {
        Purpose::Pass => initial_states(plan, &placed)?,
        _ if carries => declare_states(plan, &placed, Role::State, "")?,
        _ => Vec::new(),
    };
    let losses = losses_of(graph, purpose)?;
    let accumulated = if *accumulate { Some(clear_gradients(plan, &placed)?) } else { None };
    // Counted without the commands that come first in the end, since later ones are put among them.
    let forward_part = plan.count() - plan.early();
    let mut backward_part = forward_part;
    let weighted = matches!(purpose, Purpose::Train { weighted: true, .. } | Purpose::Evaluate { weighted: true, .. });
    let mut tape = None;
    let (outputs, values, loss, trained) = match segment {
        Some(segment) => {
            let sizes = [steps[0], batch, segment];
            let segmented =
                Segmented { graph, placed: &placed, x: &inputs[0], states: &states, sizes, ragged: *ragged };
            let loss =
                losses.first().copied().flatten().ok_or_else(|| Error::Plan("training without a loss".into()))?;
            let (output, loss, trained) = segmented.train(plan, &loss, weighted)?;
            (vec![output], Vec::new(), Some(loss), trained)
        }
        None => {
            let passed = forward(plan, &placed, &inputs, &places(&states))?;
            if carries {
                for ((placed, trace), states) in placed.iter().zip(&passed.traces).zip(&places(&states)) {
                    leave(plan, placed, trace.final_states(), states);
                }
            }
            let (outputs, given, loss) = plan_losses(plan, graph, &passed, &losses, batch, weighted)?;
            let trained = match purpose {
                Purpose::Train { update, .. } => {
                    let wanted = Wanted { update: Some(update), ..Wanted::default() };
                    backward(plan, &placed, &passed, given, None, wanted)?.trained
                }
                Purpose::Pass | Purpose::Step { .. } => {
                    let update = if let Purpose::Step { update } = purpose { Some(update) } else { None };
                    let initial = if update.is_none() { &states[..] } else { &[] };
                    backward_part = plan.count() - plan.early();
                    let forwarded = Forwarded { graph, placed: &placed, passed: &passed, states: initial, batch };
                    let (taped, trained) = forwarded.tape(plan, update)?;
                    tape = Some(taped);
                    trained
                }
                Purpose::Predict | Purpose::Stream | Purpose::Evaluate { .. } => Vec::new(),
            };
            (outputs, passed.values.nodes(), loss, trained)
        }
    };
    if let (Some(accumulated), Some(loss)) = (accumulated, loss) {
        plan.add_run(1, (loss, 0), (accumulated, 0));
    }
    let early = plan.early();
    let phases = Phases { forward: early + forward_part, backward: early + backward_part, update: plan.count() };
    let loss = loss.map(|loss| accumulated.unwrap_or(loss));
    let hyper = match purpose {
        Purpose::Train { update, .. } | Purpose::Step { update } => update::update(plan, update, &trained)?,
        _ => Vec::new(),
    };
    let words = (0..graph.axes.len()).filter_map(|axis| Some((axis, plan.find(&words_name(axis))?))).collect();
    let states = states.into_iter().flatten().collect();
    Ok(NetworkPlan { plan: builder.finish()?, inputs, outputs, values, loss, states, hyper, words, tape, phases })
}

/// Buffers of the initial states that the host gives, by node; empty for a node without, or whose states come from another.
fn initial_states(plan: &mut Builder, placed: &[Placed]) -> Result<Vec<Vec<BufferId>>> {
    let own = |placed: &Placed| placed.node.layer.operator().shares_states() && placed.node.initial.is_empty();
    let declare = |placed: &Placed| match own(placed) {
        true => Ok(declare_states(plan, std::slice::from_ref(placed), Role::Input, "")?.remove(0)),
        false => Ok(Vec::new()),
    };
    placed.iter().map(declare).collect()
}

/// Sets the gradients to 0 to which those of batches are added, and the sum of the batches' losses, whose buffer it returns.
fn clear_gradients(plan: &mut Builder, placed: &[Placed]) -> Result<BufferId> {
    plan.section("gradients of 0");
    let mut cleared: Vec<BufferId> = Vec::new();
    for Placed { node, .. } in placed {
        let buffers = declare(plan, node, "grad ", Role::Gradient)?;
        for (tensor, buffer) in node.parameters().iter().zip(buffers) {
            if tensor.len > 0 && !cleared.contains(&buffer) {
                plan.fill(buffer, 0..tensor.len as u32, 0.0);
                cleared.push(buffer);
            }
        }
    }
    let loss = plan.buffer("accumulated loss", 1, Role::Gradient)?;
    plan.fill(loss, 0..1, 0.0);
    plan.accumulate();
    Ok(loss)
}

/// Steps of the inputs, for a title.
fn listed(steps: &[u32], graph: &Graph) -> String {
    let inputs = &steps[..graph.inputs.len().max(1)];
    inputs.iter().map(u32::to_string).collect::<Vec<_>>().join(" and ")
}

/// Declares the inputs [T, B, I].
fn declare_inputs(plan: &mut Builder, graph: &Graph, batch: u32, steps: &[u32]) -> Result<Vec<Sequence>> {
    let declare = |(k, input): (usize, &super::GraphInput)| {
        let features = size("the number of input features", input.features)?;
        let steps = if input.vector { 1 } else { steps[k] };
        plan.sequence(&numbered("x", k), [steps, batch, features], 0, Role::Input)
    };
    graph.inputs.iter().enumerate().map(declare).collect()
}

/// The loss of each output, if the purpose has one.
fn losses_of<'a>(graph: &Graph, purpose: Purpose<'a>) -> Result<Vec<Option<OutputLoss<'a>>>> {
    let all: &Losses = match purpose {
        Purpose::Evaluate { loss, .. } | Purpose::Train { loss, .. } => loss,
        _ => return Ok(vec![None; graph.outputs.len()]),
    };
    let names: Vec<&str> = graph.outputs.iter().map(|output| output.name.as_str()).collect();
    Ok(all.by_output(&names)?.into_iter().map(|loss| loss.map(|(loss, weight)| OutputLoss { loss, weight })).collect())
}

type Planned = (Vec<PlanOutput>, Vec<(super::Source, Sequence)>, Option<BufferId>);

/// Plans the losses of the outputs: returns the outputs, the gradients of those with a loss, and the sum of the losses.
fn plan_losses(
    plan: &mut Builder,
    graph: &Graph,
    ForwardResult { values, .. }: &ForwardResult,
    losses: &[Option<OutputLoss>],
    batch: u32,
    weighted: bool,
) -> Result<Planned> {
    let (mut outputs, mut given, mut means) = (Vec::new(), Vec::new(), Vec::new());
    for (k, (output, loss)) in graph.outputs.iter().zip(losses).enumerate() {
        let y = values.get(output.from)?.clone();
        let (mut target, mut row_weights, mut mean) = (None, None, None);
        if let Some(loss) = loss {
            let (truth, loss) = loss_of(plan, loss, k, [y.steps, batch, y.features], weighted)?;
            given.push((output.from, loss.gradient(plan, &y, &truth, 0)?));
            let own = loss.mean(plan)?;
            means.push(own);
            (target, row_weights, mean) = (Some(truth), loss.row_weights(), Some(own));
        }
        outputs.push(PlanOutput { y, target, row_weights, loss: mean });
    }
    let total = match means[..] {
        [] => None,
        [one] => Some(one),
        [first, ..] => {
            let total = plan.buffer("total loss", 1, Role::Output)?;
            plan.copy_run(1, (first, 0), (total, 0));
            means[1..].iter().for_each(|&mean| plan.add_run(1, (mean, 0), (total, 0)));
            Some(total)
        }
    };
    Ok((outputs, given, total))
}
