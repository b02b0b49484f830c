//! Nodes: layers with their names and inputs.

use crate::error::{Error, Result};
use crate::layer::{DeviceTensor, Layer, Site, StateSlot};

/// A layer in a network.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name: prefix of its buffers and of its tensors in files.
    pub name: String,
    /// Features of each input.
    pub inputs: Vec<usize>,
    /// The layer's configuration.
    pub layer: Layer,
    /// Inputs, as many as its layer takes.
    pub sources: Vec<Source>,
    /// Initial states, in the order of its state values: h, c, ... of each layer and direction; none: zero.
    pub initial: Vec<Source>,
    /// Name of the node whose parameters it uses, too.
    pub shares: Option<String>,
}

/// A tensor that a node reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The output of the node before; of the first node, the first input of the network.
    Previous,
    /// An input of the network.
    Input(usize),
    /// The output of a node that comes before the one that reads it.
    Node(usize),
    /// A final state of a node: index of the node, and of the state among its state values.
    State(usize, usize),
    /// A further output of a node, without a gradient: index of the node, and of the output.
    Beside(usize, usize),
}

impl Source {
    /// The tensor, for the node of index `at`.
    pub(crate) fn resolved(self, at: usize) -> Source {
        match self {
            Source::Previous => at.checked_sub(1).map_or(Source::Input(0), Source::Node),
            other => other,
        }
    }

    /// The node that computes it.
    pub(crate) fn node(self) -> Option<usize> {
        match self {
            Source::Node(at) | Source::State(at, _) | Source::Beside(at, _) => Some(at),
            Source::Input(_) | Source::Previous => None,
        }
    }
}

/// A state of a recurrent layer that other nodes can read and give: [B, width], for each layer of the stack and each direction h, then
/// the states beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateValue {
    /// h, c, ...; with the layer and direction where there are several (`h_l0_reverse`).
    pub name: String,
    /// Index of its slot among [`Operator::states`](crate::layer::Operator::states).
    pub slot: usize,
    /// Its place among the slot's parts of [B, width].
    pub part: usize,
    /// Units.
    pub width: usize,
}

impl Node {
    /// A node of `input` features that reads the one before it.
    pub fn new(name: impl Into<String>, input: usize, layer: impl Into<Layer>) -> Node {
        Node {
            name: name.into(),
            inputs: vec![input],
            layer: layer.into(),
            sources: vec![Source::Previous],
            initial: Vec::new(),
            shares: None,
        }
    }

    /// A node of several inputs, with their features and sources.
    pub fn of(name: impl Into<String>, layer: impl Into<Layer>, inputs: Vec<usize>, sources: Vec<Source>) -> Node {
        Node { inputs, sources, ..Node::new(name, 0, layer) }
    }

    /// Features of its first input.
    pub fn input(&self) -> usize {
        self.inputs.first().copied().unwrap_or(0)
    }

    /// Features of its output.
    pub fn output(&self) -> usize {
        self.layer.operator().output(&self.inputs)
    }

    /// Refuses settings and sizes out of range.
    pub(crate) fn validate(&self) -> Result<()> {
        self.layer.operator().validate(&self.name, &self.inputs)
    }

    /// The table of its parameters.
    pub(crate) fn parameters(&self) -> Vec<DeviceTensor> {
        self.layer.operator().parameters(self.shares.as_ref().unwrap_or(&self.name), &self.inputs)
    }

    /// Names and shapes of its parameters.
    pub(crate) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let parameters = self.parameters().into_iter().flat_map(|tensor| tensor.parameters);
        parameters.map(|parameter| (parameter.name, parameter.shape)).collect()
    }

    /// The states of its layer.
    pub(crate) fn states(&self) -> Vec<StateSlot> {
        self.layer.operator().states(&self.inputs)
    }

    /// True if the layer carries states from step to step.
    pub(crate) fn is_recurrent(&self) -> bool {
        !self.states().is_empty()
    }

    /// The states that other nodes can read and give.
    pub(crate) fn state_values(&self) -> Vec<StateValue> {
        if !self.layer.operator().shares_states() {
            return Vec::new();
        }
        let slots = self.states();
        let stacked = slots.iter().any(|slot| slot.layer > 0);
        let mut values = Vec::new();
        let pairs = slots.iter().enumerate().filter(|(_, slot)| !slot.repeats_h);
        let layers = slots.iter().map(|slot| slot.layer).max().map_or(0, |last| last + 1);
        for (layer, direction) in (0..layers).flat_map(|layer| [(layer, 0), (layer, 1)]) {
            for (at, slot) in pairs.clone().filter(|(_, slot)| slot.layer == layer && direction < slot.directions) {
                for plane in 0..slot.planes {
                    let kind = if plane == 0 { slot.name.to_string() } else { format!("{}{plane}", slot.name) };
                    let name = match (stacked, direction) {
                        (false, 0) => kind,
                        (false, _) => format!("{kind}_reverse"),
                        (true, 0) => format!("{kind}_l{layer}"),
                        (true, _) => format!("{kind}_l{layer}_reverse"),
                    };
                    let width = slot.features / slot.planes / slot.directions;
                    values.push(StateValue { name, slot: at, part: plane * slot.directions + direction, width });
                }
            }
        }
        values
    }

    /// Its site in a plan: steps and axes are those of each input.
    pub(super) fn site(
        &self,
        batch: u32,
        input_steps: Vec<u32>,
        axes: Vec<Option<usize>>,
        ragged: bool,
        train: bool,
    ) -> Site {
        let (name, inputs, steps) = (self.name.clone(), self.inputs.clone(), input_steps[0]);
        Site { name, inputs, batch, steps, input_steps, axes, ragged, train }
    }
}

/// Refuses layers that need the whole sequence, since a part of a sequence could not continue from the states of the part before;
/// `what` names the refused action.
pub(crate) fn check_carried(nodes: &[Node], what: &str) -> Result<()> {
    for Node { name, layer, initial, .. } in nodes {
        if let Some(why) = layer.operator().needs_whole_sequence() {
            return Err(Error::Config(format!("{name} {why}, which needs the whole sequence, so it cannot {what}")));
        }
        if !initial.is_empty() {
            return Err(Error::Config(format!(
                "{name} begins with the states of another node, so it cannot {what}; decode a network step by step with a decoder"
            )));
        }
    }
    Ok(())
}
