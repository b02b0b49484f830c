//! Plans for a whole network: predict, evaluate, stream, train.

use super::node::{Node, check_carried, check_order};
use super::pass::{ForwardResult, backward, forward};
use super::place::{declare, declare_states, describe, leave, place, places, split_time};
use super::segments::{self, Segmented};
use super::update::{self, Hyper, target};
use super::{Batch, Purpose};
use crate::error::Result;
use crate::plan::{BufferId, Capabilities, Plan, Role};
use crate::schedule::{Builder, Sequence, size};

/// A plan, with the buffers that its host reads and writes.
#[derive(Clone, Debug)]
pub struct NetworkPlan {
    /// The plan.
    pub plan: Plan,
    /// Input [T, B, I].
    pub x: Sequence,
    /// Output [T or 1, B, F]; without chunks if training goes through [T, B, F] in segments, since the whole output is not kept.
    pub y: Sequence,
    /// Target [T or 1, B, features], if there is a loss; see [`Loss::target_width`](crate::Loss::target_width).
    pub target: Option<Sequence>,
    /// Factor of each row's loss, [T or 1, B], if the purpose is weighted: the row's weight over the number of terms of the mean
    /// loss.
    pub row_weights: Option<BufferId>,
    /// The mean loss, if there is one.
    pub loss: Option<BufferId>,
    /// States of every recurrent layer, [D, B, units] each, if the plan reads and writes them: h and c of one layer after the other.
    pub states: Vec<BufferId>,
    /// Numbers that the host gives the optimiser at each step, for each group of parameters; none if the plan trains nothing.
    pub hyper: Vec<Hyper>,
    /// 32-bit words that the host writes: the key of the random bits (2), for training with dropout, then the lengths of the sequences
    /// (B), if they have lengths.
    pub words: Option<BufferId>,
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
        Purpose::Train { update, .. } => update::update(plan, update, &trained)?,
        _ => Vec::new(),
    };
    let (words, row_weights) = (plan.find("words"), plan.find(update::ROW_WEIGHTS));
    let states = states.into_iter().flatten().collect();
    Ok(NetworkPlan { plan: builder.finish()?, x, y, target, row_weights, loss, states, hyper, words })
}
