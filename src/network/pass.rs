//! Forward and backward passes through nodes.

use super::node::Source;
use super::place::{Placed, declare};
use crate::error::{Error, Result};
use crate::layer::{DeviceTensor, Inputs, Output, Place, StateGradients, Trace, Upstream};
use crate::plan::{BufferId, Role};
use crate::schedule::{Builder, Sequence};
use crate::train::Update;

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
    /// Tensors that the nodes read and computed.
    pub values: Values,
}

/// Tensors of a pass through nodes, the first of which has the index `first`.
pub(super) struct Values {
    first: usize,
    inputs: Vec<Sequence>,
    nodes: Vec<NodeValues>,
}

/// Tensors that a node computes.
struct NodeValues {
    y: Sequence,
    beside: Vec<Sequence>,
    /// Final states, [1, B, width] each.
    states: Vec<Sequence>,
}

impl Values {
    /// A tensor. In a chain that is entered in its middle, the node before the first is the input.
    pub fn get(&self, source: Source) -> Result<&Sequence> {
        let node = |at: usize| at.checked_sub(self.first).and_then(|at| self.nodes.get(at));
        let found = match source {
            Source::Input(k) => self.inputs.get(k),
            Source::Node(at) if at < self.first => self.inputs.first(),
            Source::Node(at) => node(at).map(|values| &values.y),
            Source::State(at, k) => node(at).and_then(|values| values.states.get(k)),
            Source::Beside(at, k) => node(at).and_then(|values| values.beside.get(k)),
            Source::Previous => None,
        };
        found.ok_or_else(|| Error::Plan(format!("no tensor {source:?} was computed")))
    }

    /// The output of each node.
    pub fn nodes(&self) -> Vec<Sequence> {
        self.nodes.iter().map(|values| values.y.clone()).collect()
    }

    /// The output of the last node.
    pub fn last(&self) -> Sequence {
        self.nodes.last().map_or_else(|| self.inputs[0].clone(), |values| values.y.clone())
    }
}

/// Gradients of a backward pass.
pub(super) struct Gradients {
    /// Weights with their gradients, from the last node to the first.
    pub trained: Vec<Trained>,
    /// Gradient of each input; `None` if the caller does not need it or if there is none.
    pub dx: Vec<Option<Sequence>>,
    /// Gradients of each node's initial states, in the order of [`Operator::states`](crate::layer::Operator::states); empty if the
    /// caller does not need them.
    pub initials: Vec<Vec<BufferId>>,
}

/// Gradients that a backward pass computes beside those of the parameters that are trained.
#[derive(Clone, Copy, Default)]
pub(super) struct Wanted<'a> {
    /// True for those of the inputs.
    pub inputs: bool,
    /// True for those of the initial states.
    pub states: bool,
    /// Settings by which some parameters are frozen. Nodes are left out if they and all below them are.
    pub update: Option<&'a Update>,
}

impl Wanted<'_> {
    /// The gradients of the inputs.
    pub const INPUTS: Wanted<'static> = Wanted { inputs: true, states: false, update: None };

    /// For each node, true if the gradient of its output is needed.
    fn nodes(&self, nodes: &[Placed], first: usize) -> Vec<bool> {
        let Some(update) = self.update.filter(|update| update.freezes()) else { return vec![true; nodes.len()] };
        let mut needed: Vec<bool> = Vec::new();
        for Placed { node, .. } in nodes {
            let below =
                |source: &Source| source.node().and_then(|at| needed.get(at.checked_sub(first)?)) == Some(&true);
            let own = node.parameters().iter().any(|tensor| tensor.trained && update.group(tensor).is_some());
            needed.push(own || self.inputs || node.sources.iter().chain(&node.initial).any(below));
        }
        needed
    }
}

/// Plans the forward pass of nodes, from the given initial states of each node, or from zero.
pub(super) fn forward(
    plan: &mut Builder,
    nodes: &[Placed],
    inputs: &[Sequence],
    starts: &[Vec<Place>],
) -> Result<ForwardResult> {
    let first = nodes.first().map_or(0, |placed| placed.at);
    let mut values = Values { first, inputs: inputs.to_vec(), nodes: Vec::new() };
    let mut traces = Vec::new();
    for (k, placed) in nodes.iter().enumerate() {
        let Placed { node, site, weights, .. } = placed;
        plan.set_axis(site.axes[0].unwrap_or(0));
        let x: Vec<Sequence> = node.sources.iter().map(|&source| values.get(source).cloned()).collect::<Result<_>>()?;
        let given = starts.get(k).map_or(&[][..], Vec::as_slice);
        let start = if node.initial.is_empty() { given.to_vec() } else { initial_states(plan, placed, &values)? };
        let inputs = Inputs { x: &x, weights, start: &start };
        let Output { y, beside, trace } = node.layer.operator().forward(plan, site, inputs)?;
        let states = final_states(placed, trace.final_states());
        values.nodes.push(NodeValues { y, beside, states });
        traces.push(trace);
    }
    Ok(ForwardResult { traces, values })
}

/// Copies the initial states of a node together, as its layer has them.
fn initial_states(plan: &mut Builder, Placed { node, site, .. }: &Placed, values: &Values) -> Result<Vec<Place>> {
    plan.section(format!("{} forward", site.name));
    let slots = node.states();
    let mut places = Vec::new();
    for (at, slot) in slots.iter().enumerate() {
        let name = format!("{}.l{}.{} initial", site.name, slot.layer, slot.name);
        let buffer = plan.buffer(name, slot.features as u64 * site.batch as u64, Role::Scratch)?;
        // A state that repeats h begins as h does.
        let source = if slot.repeats_h { at - 1 } else { at };
        for (value, &from) in node.state_values().iter().zip(&node.initial).filter(|(value, _)| value.slot == source) {
            let width = value.width as u32;
            copy_rows(plan, values.get(from)?, site.batch, (buffer, value.part as u32 * site.batch * width));
        }
        places.push((buffer, 0));
    }
    Ok(places)
}

/// Copies a vector [1, B, F] to contiguous rows.
fn copy_rows(plan: &mut Builder, from: &Sequence, batch: u32, to: Place) {
    let features = from.features;
    let strides = [0, 0, from.row as i32, 1];
    plan.copy([1, 1, batch, features], from.at(0), strides, to, [0, 0, features as i32, 1], false);
}

/// The states that other nodes can read, from those that its layer leaves.
fn final_states(Placed { node, site, .. }: &Placed, places: Vec<Place>) -> Vec<Sequence> {
    let values = node.state_values();
    values
        .iter()
        .filter_map(|value| Some(state(value.part, value.width, site.batch, *places.get(value.slot)?)))
        .collect()
}

/// Part of a state's buffer as a vector [1, B, width].
fn state(part: usize, width: usize, batch: u32, (buffer, offset): Place) -> Sequence {
    let (part, width) = (part as u32, width as u32);
    Sequence {
        chunks: vec![buffer],
        steps: 1,
        chunk_steps: 1,
        lead: offset + part * batch * width,
        step: batch * width,
        row: width,
        features: width,
    }
}

/// Sums of the gradients of every tensor.
struct Sums {
    first: usize,
    inputs: Vec<Option<Sequence>>,
    outputs: Vec<Option<Sequence>>,
    states: Vec<Vec<Option<Sequence>>>,
}

impl Sums {
    /// Adds a gradient of a tensor to what there is.
    fn add(&mut self, plan: &mut Builder, source: Source, gradient: Sequence, batch: u32) -> Result<()> {
        let first = self.first;
        let sum = match source {
            Source::Input(k) => self.inputs.get_mut(k),
            Source::Node(at) if at < first => self.inputs.first_mut(),
            Source::Node(at) => self.outputs.get_mut(at - first),
            Source::State(at, k) => self.states.get_mut(at - first).and_then(|states| states.get_mut(k)),
            Source::Beside(..) | Source::Previous => None,
        };
        match sum {
            Some(sum @ None) => *sum = Some(gradient),
            Some(Some(sum)) => plan.copy_sequence(&gradient, sum, batch, true),
            None => return Err(Error::Plan(format!("the tensor {source:?} has no gradient"))),
        }
        Ok(())
    }
}

/// Plans the backward pass of nodes, from gradients of some tensors, and with gradients of each node's states if they
/// continue beyond this pass. The gradients of a tensor that several nodes read are added. Nodes on which nothing depends are left out.
pub(super) fn backward(
    plan: &mut Builder,
    nodes: &[Placed],
    ForwardResult { traces, values }: &ForwardResult,
    given: Vec<(Source, Sequence)>,
    carried: Option<&[StateGradients]>,
    wanted: Wanted,
) -> Result<Gradients> {
    let mut trained: Vec<Trained> = Vec::new();
    let mut of_initials = vec![Vec::new(); nodes.len()];
    let needed = wanted.nodes(nodes, values.first);
    let reads = |source: &Source| match source.node().and_then(|at| at.checked_sub(values.first)) {
        Some(at) => needed[at],
        // The node below a chain that is entered in its middle.
        None => source.node().is_some(),
    };
    let mut sums = Sums {
        first: values.first,
        inputs: vec![None; values.inputs.len()],
        outputs: vec![None; nodes.len()],
        states: nodes.iter().map(|placed| vec![None; placed.node.state_values().len()]).collect(),
    };
    for (source, gradient) in given {
        let batch = gradient.step / gradient.row.max(1);
        sums.add(plan, source, gradient, batch)?;
    }
    for (k, placed) in nodes.iter().enumerate().rev() {
        let Placed { node, site, weights, .. } = placed;
        let (dy, of_states) = (sums.outputs[k].take(), std::mem::take(&mut sums.states[k]));
        if !needed[k] {
            continue;
        }
        let reaches_states = of_states.iter().any(Option::is_some);
        let dy = match dy {
            Some(dy) => dy,
            None if reaches_states => zeros_like(plan, placed, &values.nodes[k].y)?,
            None => continue,
        };
        let declared = declare(plan, node, "grad ", Role::Gradient)?;
        let again = trained.iter().any(|trained| declared.contains(&trained.gradient));
        for ((tensor, &weight), &gradient) in node.parameters().into_iter().zip(weights).zip(&declared) {
            if tensor.len > 0 && tensor.trained && !again {
                trained.push(Trained { weight, gradient, tensor });
            }
        }
        let own = match reaches_states
            || !node.initial.is_empty()
            || wanted.states && node.layer.operator().shares_states()
        {
            true => Some(state_gradients(plan, placed, &of_states)?),
            false => None,
        };
        let carried = carried.map(|carried| &carried[k]).filter(|states| !states.finals.is_empty());
        let upstream = Upstream {
            dy: &dy,
            weights,
            gradients: &declared,
            states: own.as_ref().or(carried),
            wants_dx: wanted.inputs || node.sources.iter().any(reads),
        };
        plan.set_axis(site.axes[0].unwrap_or(0));
        plan.set_adds(again);
        let dx = traces[k].backward(plan, site, upstream)?;
        plan.set_adds(false);
        for (&source, gradient) in node.sources.iter().zip(dx) {
            sums.add(plan, source, gradient, site.batch)?;
        }
        for (value, &source) in node.state_values().iter().zip(&node.initial) {
            let Some(StateGradients { initials, .. }) = &own else { continue };
            let mut gradient = state(value.part, value.width, site.batch, (initials[value.slot], 0));
            if node.initial.iter().filter(|&&other| other == source).count() > 1 {
                // Gradients that are added up lie in buffers of their own.
                let name = format!("{}.d{} initial apart", site.name, value.name);
                let apart = plan.sequence(&name, [1, site.batch, gradient.features], 0, Role::Scratch)?;
                plan.copy_sequence(&gradient, &apart, site.batch, false);
                gradient = apart;
            }
            sums.add(plan, source, gradient, site.batch)?;
        }
        of_initials[k] = own.map(|own| own.initials).unwrap_or_default();
    }
    Ok(Gradients { trained, dx: sums.inputs, initials: of_initials })
}

/// A gradient of 0 of a node's output, which only its states pass on.
fn zeros_like(plan: &mut Builder, Placed { site, .. }: &Placed, y: &Sequence) -> Result<Sequence> {
    plan.section(format!("{} backward", site.name));
    let name = format!("{}.dy", site.name);
    let zeros = plan.sequence(&name, [y.steps, site.batch, y.features], 0, Role::Scratch)?;
    for (k, &chunk) in zeros.chunks.iter().enumerate() {
        plan.fill(chunk, 0..zeros.chunk_range(k).len() as u32 * zeros.step, 0.0);
    }
    Ok(zeros)
}

/// Buffers of the gradients of a node's states: those of the final states are filled, 0 where no node reads them.
fn state_gradients(
    plan: &mut Builder,
    Placed { node, site, .. }: &Placed,
    of_states: &[Option<Sequence>],
) -> Result<StateGradients> {
    plan.section(format!("{} backward", site.name));
    let mut all = StateGradients::default();
    for (at, slot) in node.states().iter().enumerate() {
        let len = slot.features as u32 * site.batch;
        let mut buffer = |what: &str| {
            plan.buffer(format!("{}.l{}.d{} {what}", site.name, slot.layer, slot.name), len as u64, Role::Scratch)
        };
        let (last, first) = (buffer("last")?, buffer("initial")?);
        let values = node.state_values();
        let values: Vec<_> = values.iter().zip(of_states).filter(|(value, _)| value.slot == at).collect();
        if values.is_empty() || values.iter().any(|(_, gradient)| gradient.is_none()) {
            plan.fill(last, 0..len, 0.0);
        }
        for (value, gradient) in values {
            if let Some(gradient) = gradient {
                copy_rows(plan, gradient, site.batch, (last, value.part as u32 * site.batch * value.width as u32));
            }
        }
        all.finals.push(last);
        all.initials.push(first);
    }
    Ok(all)
}
