//! The backward pass of a plan from gradients of its outputs that the host gives after the forward pass: a tape on the device.

use super::graph::Graph;
use super::node::Source;
use super::pass::{ForwardResult, Gradients, Trained, Wanted, backward};
use super::place::Placed;
use super::update::numbered;
use crate::error::Result;
use crate::layer::Place;
use crate::plan::{BufferId, Role};
use crate::schedule::{Builder, Sequence};
use crate::train::Update;

/// Buffers of a backward pass.
#[derive(Clone, Debug)]
pub struct Tape {
    /// Gradients of the outputs [T or 1, B, F], written by the host; `None` for an output without a gradient.
    pub d_outputs: Vec<Option<Sequence>>,
    /// Gradients of the inputs [T, B, I]; `None` for indices, or if the gradient is not computed.
    pub d_inputs: Vec<Option<Sequence>>,
    /// States of recurrent nodes that begin with what the host gives; empty in a training step.
    pub states: Vec<TapeState>,
}

/// States of a recurrent node.
#[derive(Clone, Debug)]
pub struct TapeState {
    /// Index of the node.
    pub node: usize,
    /// Initial states by slot, written by the host.
    pub initial: Vec<BufferId>,
    /// Final states by slot.
    pub(crate) last: Vec<Place>,
    /// Gradients of the initial states by slot; empty if the outputs do not depend on them.
    pub d_initial: Vec<BufferId>,
}

/// A forward pass of a graph, to plan its tape.
pub(super) struct Forwarded<'a> {
    pub graph: &'a Graph,
    pub placed: &'a [Placed<'a>],
    pub passed: &'a ForwardResult,
    /// Initial states by node, written by the host; empty if all are zero.
    pub states: &'a [Vec<BufferId>],
    pub batch: u32,
}

impl Forwarded<'_> {
    /// Plans the backward pass: for an update the gradients of what is not frozen, else all. Returns the weights with their gradients,
    /// too.
    pub fn tape(&self, plan: &mut Builder, update: Option<&Update>) -> Result<(Tape, Vec<Trained>)> {
        let Forwarded { graph, placed, passed, .. } = *self;
        let (mut given, mut d_outputs) = (Vec::new(), Vec::new());
        for (k, output) in graph.outputs.iter().enumerate() {
            let (Source::Node(_) | Source::State(..)) = output.from else {
                d_outputs.push(None);
                continue;
            };
            let y = passed.values.get(output.from)?;
            let dy = plan.sequence(&numbered("dy", k), [y.steps, self.batch, y.features], 0, Role::Input)?;
            given.push((output.from, dy.clone()));
            d_outputs.push(Some(dy));
        }
        let wanted = Wanted { inputs: update.is_none(), states: update.is_none(), update };
        let Gradients { trained, dx, mut initials } = backward(plan, placed, passed, given, None, wanted)?;
        let mut states = Vec::new();
        for (node, initial) in self.states.iter().enumerate() {
            if !initial.is_empty() {
                let last = passed.traces[node].final_states();
                let d_initial = std::mem::take(&mut initials[node]);
                states.push(TapeState { node, initial: initial.clone(), last, d_initial });
            }
        }
        Ok((Tape { d_outputs, d_inputs: dx, states }, trained))
    }
}
