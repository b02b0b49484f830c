//! Nodes in their places for a batch: sizes, buffers of weights and states, and how time is split.

use super::graph::Graph;
use super::node::Node;
use crate::error::Result;
use crate::layer::{DeviceTensor, Place, Site, StateSlot};
use crate::plan::{BufferId, Role};
use crate::schedule::Builder;

/// A node with its site in a plan and its weights.
#[derive(Clone)]
pub(super) struct Placed<'a> {
    /// Its index in the graph.
    pub at: usize,
    pub node: &'a Node,
    pub site: Site,
    pub weights: Vec<BufferId>,
}

/// The nodes of a graph with their sites, for a batch of these sizes; `steps` are those of every axis.
pub(super) fn place<'a>(graph: &'a Graph, batch: u32, steps: &[u32], ragged: bool, train: bool) -> Vec<Placed<'a>> {
    let placed = |(at, node): (usize, &'a Node)| {
        let axes: Vec<Option<usize>> = node.sources.iter().map(|&source| graph.axis(source)).collect();
        let steps = axes.iter().map(|axis| axis.map_or(1, |axis| steps[axis])).collect();
        Placed { at, node, site: node.site(batch, steps, axes, ragged, train), weights: Vec::new() }
    };
    graph.nodes.iter().enumerate().map(placed).collect()
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

/// Buffers of the tensors of a node's table, or of their gradients (`prefix` "grad ", [`Role::Gradient`]).
pub(super) fn declare(plan: &mut Builder, node: &Node, prefix: &str, role: Role) -> Result<Vec<BufferId>> {
    let declare = |tensor: DeviceTensor| {
        let name = format!("{prefix}{}", tensor.name);
        // Nodes can share them, and gradients may have been declared before the pass that fills them.
        plan.find(&name).map_or_else(|| plan.buffer(name, tensor.len, role), Ok)
    };
    node.parameters().into_iter().map(declare).collect()
}

/// Declares buffers for the states of each node.
pub(super) fn declare_states(
    plan: &mut Builder,
    nodes: &[Placed],
    role: Role,
    suffix: &str,
) -> Result<Vec<Vec<BufferId>>> {
    let each = |Placed { node, site, .. }: &Placed| {
        let states = node.states();
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

/// Copies the final states of a node to the given addresses, if any, unless they are there.
pub(super) fn leave(plan: &mut Builder, Placed { node, site, .. }: &Placed, states: Vec<Place>, places: &[Place]) {
    for ((slot, from), &to) in node.states().iter().zip(states).zip(places).filter(|((_, from), to)| from != *to) {
        plan.copy_run(slot.features as u32 * site.batch, from, to);
    }
}
