//! Plans for a whole network: predict, evaluate, stream, train.

use super::node::{Node, check_carried, check_order};
use super::pass::{ForwardResult, Placed, backward, declare, forward};
use super::segments::{self, Segmented};
use super::update::{self, Losses};
use crate::error::Result;
use crate::layer::{Place, StateSlot};
use crate::plan::{BufferId, Capabilities, Plan, Role};
use crate::schedule::{Builder, Sequence, size};
use crate::train::{Loss, Update};

/// Purpose of a plan.
#[derive(Clone, Copy, Debug)]
pub enum Purpose<'a> {
    /// The output alone, from zero states.
    Predict,
    /// The output, from given states, which the final states overwrite.
    Stream,
    /// The output and its loss.
    Evaluate {
        /// The loss.
        loss: &'a Loss,
        /// True if the host gives each row a factor, in [`NetworkPlan::row_weights`].
        weighted: bool,
    },
    /// The loss, the gradients and the optimiser's step.
    Train {
        /// The loss.
        loss: &'a Loss,
        /// The optimiser, with clipping and regularisers.
        update: &'a Update,
        /// True if the host gives each row a factor, in [`NetworkPlan::row_weights`].
        weighted: bool,
    },
}

/// The sizes of a batch.
///
/// ```
/// use wgpu_lstm::network::Batch;
/// let batch = Batch::new(32, 100).ragged(true); // B = 32 sequences of up to T = 100 steps
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    pub(super) rows: usize,
    pub(super) steps: usize,
    pub(super) ragged: bool,
    stateful: bool,
    segment: Option<usize>,
}

impl Batch {
    /// B sequences of T steps.
    pub fn new(rows: usize, steps: usize) -> Batch {
        Batch { rows, steps, ragged: false, stateful: false, segment: None }
    }

    /// Gives each sequence a length of its own, which the host writes to [`NetworkPlan::words`].
    pub fn ragged(self, ragged: bool) -> Batch {
        Batch { ragged, ..self }
    }

    /// Continues from another batch: recurrent layers begin with the states in [`NetworkPlan::states`] and leave their final states
    /// there. No gradient flows through them (Williams and Peng 1990). [`Purpose::Stream`] is always stateful.
    pub fn stateful(self, stateful: bool) -> Batch {
        Batch { stateful, ..self }
    }

    /// Sets the steps of a segment: training keeps states at the starts of segments only, and repeats the forward pass between them;
    /// see [`TimeCheckpoints`](crate::TimeCheckpoints). Segments of T steps or more are plain training.
    pub fn segment(self, steps: Option<usize>) -> Batch {
        Batch { segment: steps, ..self }
    }
}

/// A plan, with the buffers that its host reads and writes.
#[derive(Clone, Debug)]
pub struct NetworkPlan {
    /// The plan.
    pub plan: Plan,
    /// Input [T, B, I].
    pub x: Sequence,
    /// Output [T or 1, B, F]; without chunks if training goes through [T, B, F] in segments, since the whole output is not kept.
    pub y: Sequence,
    /// Target [T or 1, B, features], if there is a loss; see [`Loss::target_width`].
    pub target: Option<Sequence>,
    /// Factor of each row's loss, [T or 1, B], if the purpose is weighted: the row's weight over the number of terms of the mean
    /// loss.
    pub row_weights: Option<BufferId>,
    /// The mean loss, if there is one.
    pub loss: Option<BufferId>,
    /// States of every recurrent layer, [D, B, units] each, if the plan reads and writes them: h and c of one layer after the other.
    pub states: Vec<BufferId>,
    /// Numbers that the host gives the optimiser at each step.
    pub hyper: Option<BufferId>,
    /// 32-bit words that the host writes: the key of the random bits (2), for training with dropout, then the lengths of the sequences
    /// (B), if they have lengths.
    pub words: Option<BufferId>,
}

/// Nodes with their sites, for a batch of these sizes.
pub(super) fn place<'a>(
    nodes: impl IntoIterator<Item = &'a Node>,
    [batch, mut steps]: [u32; 2],
    ragged: bool,
    train: bool,
) -> Vec<Placed<'a>> {
    let each = |node: &'a Node| {
        let placed = Placed { node, site: node.site([batch, steps], ragged, train), weights: Vec::new() };
        if node.layer.operator().ends_sequence() {
            steps = 1;
        }
        placed
    };
    nodes.into_iter().map(each).collect()
}

/// Sets chunks of time so that the largest tensor can be bound.
pub(super) fn split_time(plan: &mut Builder, nodes: &[Placed]) -> Result<()> {
    for Placed { node, site, .. } in nodes {
        for (tensor, elements) in node.layer.operator().step_tensors(site)? {
            plan.chunk_by(&tensor, elements)?;
        }
    }
    Ok(())
}

/// Plans a network for a batch of `batch` sequences of `steps` steps.
///
/// # Errors
/// Sizes out of range or beyond what the device can bind; layers that do not support the purpose.
pub fn network(
    nodes: &[Node],
    Batch { rows, steps, ragged, stateful, segment }: Batch,
    purpose: Purpose,
    capabilities: &Capabilities,
) -> Result<NetworkPlan> {
    let (batch, steps) = (size("the batch", rows)?, size("the number of time steps", steps)?);
    check_order(nodes)?;
    if stateful {
        check_carried(nodes, "carry its state from batch to batch")?;
    }
    let title = match purpose {
        Purpose::Predict => "predict",
        Purpose::Stream => "stream",
        Purpose::Evaluate { .. } => "evaluate",
        Purpose::Train { .. } => "training step",
    };
    let mut builder = Builder::trusted(format!("{title}: T = {steps}, B = {batch}"), capabilities.clone());
    let plan = &mut builder;
    let train = matches!(purpose, Purpose::Train { .. });
    let mut placed = place(nodes, [batch, steps], ragged, train);
    split_time(plan, &placed)?;
    let segment = match segment {
        Some(segment) => segments::steps(plan, nodes, purpose, [steps, size("a segment's steps", segment)?])?,
        None => None,
    };
    describe(plan, steps, segment, &placed)?;

    let input = size("the number of input features", nodes.first().map_or(0, |node| node.input))?;
    let x = plan.sequence("x", [steps, batch, input], 0, Role::Input)?;
    for placed in &mut placed {
        placed.weights = declare(plan, placed.node, "", Role::Weight)?;
    }
    let carries = stateful || matches!(purpose, Purpose::Stream);
    let states = if carries { declare_states(plan, &placed, Role::State, "")? } else { Vec::new() };
    let (y, target, loss, trained) = match (segment, purpose) {
        (Some(segment), Purpose::Train { loss, weighted, .. }) => {
            let segmented =
                Segmented { placed: &placed, x: &x, states: &states, sizes: [steps, batch, segment], ragged };
            let (y, target, loss, trained) = segmented.train(plan, loss, weighted)?;
            (y, Some(target), Some(loss), trained)
        }
        _ => {
            let ForwardResult { traces, y } = forward(plan, &placed, &x, &places(&states))?;
            for ((placed, trace), states) in placed.iter().zip(&traces).zip(&places(&states)) {
                leave(plan, placed, trace.final_states(), states);
            }
            match purpose {
                Purpose::Evaluate { loss: kind, weighted } | Purpose::Train { loss: kind, weighted, .. } => {
                    let (target, losses) = target(plan, kind, [y.steps, batch, y.features], weighted)?;
                    let gradient = losses.gradient(plan, &y, &target, 0)?;
                    let loss = losses.mean(plan)?;
                    let trained = match train {
                        true => backward(plan, &placed, &traces, gradient, None, false)?.trained,
                        false => Vec::new(),
                    };
                    (y, Some(target), Some(loss), trained)
                }
                Purpose::Predict | Purpose::Stream => (y, None, None, Vec::new()),
            }
        }
    };
    let hyper = match purpose {
        Purpose::Train { update, .. } => Some(update::update(plan, update, &trained)?),
        _ => None,
    };
    let (words, row_weights) = (plan.find("words"), plan.find(update::ROW_WEIGHTS));
    let states = states.into_iter().flatten().collect();
    Ok(NetworkPlan { plan: builder.finish()?, x, y, target, row_weights, loss, states, hyper, words })
}

/// Sets the plan's text on how recurrent layers go through time, and why.
pub(super) fn describe(plan: &mut Builder, steps: u32, segment: Option<u32>, nodes: &[Placed]) -> Result<()> {
    let mut all: Vec<String> = Vec::new();
    for Placed { node, site, .. } in nodes {
        let strategy = node.layer.operator().strategy(site, segment, &plan.capabilities)?;
        all.extend(strategy.filter(|text| !all.contains(text)));
    }
    let chunk = plan.chunk_steps(steps);
    all.push(if chunk == steps {
        "time is not split".to_string()
    } else {
        format!(
            "time is split into {} chunks of at most {chunk} steps, because bindings hold {} bytes",
            steps.div_ceil(chunk),
            plan.capabilities.max_binding_bytes
        )
    });
    if let Some(segment) = segment {
        all.push(format!(
            "states are kept at the start of {} segments of at most {segment} steps, which are gone through a second time for \
             backward",
            steps.div_ceil(segment)
        ));
    }
    plan.strategy(all.join("; "));
    Ok(())
}

/// Declares the target [T or 1, B, features] of predictions of these sizes, and their loss.
pub(super) fn target<'a>(
    plan: &mut Builder,
    kind: &'a Loss,
    [steps, batch, width]: [u32; 3],
    weighted: bool,
) -> Result<(Sequence, Losses<'a>)> {
    let features = size("the number of target features", kind.target_width(width as usize)?)?;
    let target = plan.sequence("target", [steps, batch, features], 0, Role::Input)?;
    Ok((target, Losses::new(plan, kind, [steps, batch, width], weighted)?))
}

/// Declares buffers for the states of each node.
pub(super) fn declare_states(
    plan: &mut Builder,
    nodes: &[Placed],
    role: Role,
    suffix: &str,
) -> Result<Vec<Vec<BufferId>>> {
    let each = |Placed { node, site, .. }: &Placed| {
        let states = node.layer.operator().states();
        let declare = |StateSlot { layer, name, features, .. }: StateSlot| {
            let len = features as u64 * site.batch as u64;
            plan.buffer(format!("{}.l{layer}.{name} state{suffix}", site.name), len, role)
        };
        states.into_iter().map(declare).collect()
    };
    nodes.iter().map(each).collect()
}

/// Addresses of the first elements of buffers, by node.
pub(super) fn places(states: &[Vec<BufferId>]) -> Vec<Vec<Place>> {
    states.iter().map(|states| states.iter().map(|&id| (id, 0)).collect()).collect()
}

/// Copies the final states of a node to the given addresses, if any.
pub(super) fn leave(plan: &mut Builder, Placed { node, site, .. }: &Placed, states: Vec<Place>, places: &[Place]) {
    for ((slot, from), &to) in node.layer.operator().states().iter().zip(states).zip(places) {
        plan.copy_run(slot.features as u32 * site.batch, from, to);
    }
}
