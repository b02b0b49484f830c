//! A single layer with all its gradients.

use super::Batch;
use super::graph::AsGraph;
use super::node::{Node, Source};
use super::pass::{Wanted, backward, forward};
use super::place::{declare, declare_states, describe, place, places, split_time};
use crate::error::{Error, Result};
use crate::layer::StateGradients;
use crate::plan::{BufferId, Capabilities, Plan, Role};
use crate::schedule::{Builder, Sequence, size};

/// Plan of a layer forward and backward, from gradients that the host gives.
#[derive(Clone, Debug)]
pub struct GradientPlan {
    /// The plan.
    pub plan: Plan,
    /// Input [T, B, I].
    pub x: Sequence,
    /// Gradient of the output, written by the host.
    pub dy: Sequence,
    /// Gradient of the input.
    pub dx: Sequence,
    /// Initial states, written by the host; as [`NetworkPlan::states`](super::NetworkPlan::states).
    pub initial: Vec<BufferId>,
    /// Gradients of the final states, written by the host.
    pub d_final: Vec<BufferId>,
    /// Gradients of the initial states.
    pub d_initial: Vec<BufferId>,
    /// Key of the random bits and lengths, as [`NetworkPlan::words`](super::NetworkPlan::words).
    pub words: Option<BufferId>,
}

/// Plans a layer that returns sequences forward and backward, for given gradients of its output and final states.
///
/// # Errors
/// Sizes out of range or beyond what the device can bind; a layer whose input has no gradient.
pub fn gradients(node: &Node, batch: Batch, capabilities: &Capabilities) -> Result<GradientPlan> {
    let (ragged, steps) = (batch.ragged, size("the number of time steps", batch.steps[0])?);
    let batch = size("the batch", batch.rows)?;
    let mut builder = Builder::trusted(format!("forward and backward: T = {steps}, B = {batch}"), capabilities.clone());
    let plan = &mut builder;
    let graph = std::slice::from_ref(node).graph()?;
    let mut placed = place(&graph, batch, &[steps], ragged, true);
    split_time(plan, &placed)?;
    describe(plan, steps, None, &placed)?;
    let x = plan.sequence("x", [steps, batch, size("the number of input features", node.input())?], 0, Role::Input)?;
    let dy = plan.sequence("dy", [steps, batch, node.output() as u32], 0, Role::Input)?;
    let initial = declare_states(plan, &placed, Role::Input, "")?;
    let finals = declare_states(plan, &placed, Role::Input, " final gradient")?.concat();
    let initials = declare_states(plan, &placed, Role::Output, " initial gradient")?.concat();
    for placed in &mut placed {
        placed.weights = declare(plan, node, "", Role::Weight)?;
        declare(plan, node, "grad ", Role::Gradient)?;
    }
    let passed = forward(plan, &placed, std::slice::from_ref(&x), &places(&initial))?;
    let states = [StateGradients { finals: finals.clone(), initials: initials.clone(), in_output: false }];
    let given = vec![(Source::Node(0), dy.clone())];
    let dx = backward(plan, &placed, &passed, given, Some(&states), Wanted::INPUTS)?.dx.remove(0);
    let dx = dx.ok_or_else(|| Error::Plan(format!("the input of {} has no gradient", node.name)))?;
    let words = plan.find("words");
    let (initial, plan) = (initial.concat(), builder.finish()?);
    Ok(GradientPlan { plan, x, dy, dx, initial, d_final: finals, d_initial: initials, words })
}
