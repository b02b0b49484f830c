//! Forward and backward passes through nodes.

use super::place::{Placed, declare};
use crate::error::{Error, Result};
use crate::layer::{DeviceTensor, Inputs, Output, Place, StateGradients, Trace, Upstream};
use crate::plan::{BufferId, Role};
use crate::schedule::{Builder, Sequence};

/// A weight with its gradient.
#[derive(Debug)]
pub(crate) struct Trained {
    /// The weight.
    pub weight: BufferId,
    /// Its gradient.
    pub gradient: BufferId,
    /// The parameters that it holds.
    pub tensor: DeviceTensor,
}

impl Trained {
    /// Number of elements.
    pub fn len(&self) -> u32 {
        self.tensor.len as u32
    }
}

/// Result of a forward pass.
pub(super) struct ForwardResult {
    /// Trace of each node.
    pub traces: Vec<Box<dyn Trace>>,
    /// Output of the last node.
    pub y: Sequence,
}

/// Gradients of a backward pass.
pub(super) struct Gradients {
    /// Weights with their gradients, from the last node to the first.
    pub trained: Vec<Trained>,
    /// Gradient of the input; `None` if the caller does not need it or if there is none.
    pub dx: Option<Sequence>,
}

/// Plans the forward pass of nodes, from the given initial states of each node, or from zero.
pub(super) fn forward(
    plan: &mut Builder,
    nodes: &[Placed],
    x: &Sequence,
    starts: &[Vec<Place>],
) -> Result<ForwardResult> {
    let (mut outputs, mut traces): (Vec<Sequence>, Vec<_>) = Default::default();
    for (at, Placed { node, site, weights }) in nodes.iter().enumerate() {
        let inputs: Vec<Sequence> =
            node.reads(at).map(|index| index.map_or(x, |index| &outputs[index]).clone()).collect();
        let start = starts.get(at).map_or(&[][..], Vec::as_slice);
        let Output { y, trace } = node.layer.operator().forward(plan, site, Inputs { x: &inputs, weights, start })?;
        outputs.push(y);
        traces.push(trace);
    }
    let y = outputs.pop().unwrap_or_else(|| x.clone());
    Ok(ForwardResult { traces, y })
}

/// Plans the backward pass of nodes, from the gradient of the last one's output, and with gradients of each node's states if they
/// continue beyond this pass. The gradients of an output that several nodes read are added.
pub(super) fn backward(
    plan: &mut Builder,
    nodes: &[Placed],
    traces: &[Box<dyn Trace>],
    dy: Sequence,
    states: Option<&[StateGradients]>,
    wants_dx: bool,
) -> Result<Gradients> {
    let mut trained = Vec::new();
    // Gradient of each node's output.
    let mut gradients: Vec<Option<Sequence>> = vec![None; nodes.len()];
    let mut dx = None;
    match gradients.last_mut() {
        Some(last) => *last = Some(dy),
        None => return Ok(Gradients { trained, dx: Some(dy) }),
    }
    for (at, Placed { node, site, weights }) in nodes.iter().enumerate().rev() {
        let Some(dy) = gradients[at].take() else {
            return Err(Error::Plan(format!("no node reads the output of {}", node.name)));
        };
        let declared = declare(plan, node, "grad ", Role::Gradient)?;
        for ((tensor, &weight), &gradient) in node.parameters().into_iter().zip(weights).zip(&declared) {
            if tensor.len > 0 {
                trained.push(Trained { weight, gradient, tensor });
            }
        }
        let upstream = Upstream {
            dy: &dy,
            weights,
            gradients: &declared,
            states: states.map(|states| &states[at]).filter(|states| !states.finals.is_empty()),
            wants_dx: wants_dx || node.reads(at).any(|index| index.is_some()),
        };
        for (index, gradient) in node.reads(at).zip(traces[at].backward(plan, site, upstream)?) {
            let sum = match index {
                Some(index) => &mut gradients[index],
                None => &mut dx,
            };
            match sum {
                None => *sum = Some(gradient),
                Some(sum) => plan.copy_sequence(&gradient, sum, site.batch, true),
            }
        }
    }
    Ok(Gradients { trained, dx })
}
