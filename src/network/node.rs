//! Nodes: layers with their names and inputs.

use crate::error::{Error, Result};
use crate::layer::{DeviceTensor, Layer, Site};

/// A layer in a network.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name: prefix of its buffers and of its tensors in files.
    pub name: String,
    /// Input features.
    pub input: usize,
    /// The layer's configuration.
    pub layer: Layer,
    /// Inputs, as many as its layer takes.
    pub sources: Vec<Source>,
}

/// An input of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The output of the node before it; of the first node, the input of the network.
    Previous,
    /// The input of the network.
    Input,
    /// The output of a node that comes before the one that reads it.
    Node(usize),
}

impl Node {
    /// A node of `input` features that reads the one before it.
    pub fn new(name: impl Into<String>, input: usize, layer: impl Into<Layer>) -> Node {
        Node { name: name.into(), input, layer: layer.into(), sources: vec![Source::Previous] }
    }

    /// Indices of the nodes that it reads, if its own index is `at`; `None` is the input of the network.
    pub(super) fn reads(&self, at: usize) -> impl Iterator<Item = Option<usize>> {
        self.sources.iter().map(move |source| match *source {
            Source::Previous => at.checked_sub(1),
            Source::Input => None,
            Source::Node(index) => Some(index),
        })
    }

    /// Refuses settings and sizes out of range, and missing inputs.
    pub(crate) fn validate(&self) -> Result<()> {
        self.layer.operator().validate(&self.name, self.input)
    }

    /// The table of its parameters.
    pub(crate) fn parameters(&self) -> Vec<DeviceTensor> {
        self.layer.operator().parameters(&self.name, self.input)
    }

    /// Names and shapes of its parameters.
    pub(crate) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let parameters = self.parameters().into_iter().flat_map(|tensor| tensor.parameters);
        parameters.map(|parameter| (parameter.name, parameter.shape)).collect()
    }

    /// True if the layer carries states from step to step.
    pub(crate) fn is_recurrent(&self) -> bool {
        !self.layer.operator().states().is_empty()
    }

    /// Its site in a plan for these sizes.
    pub(super) fn site(&self, [batch, steps]: [u32; 2], ragged: bool, train: bool) -> Site {
        Site { name: self.name.clone(), input: self.input, batch, steps, ragged, train }
    }
}

/// Refuses nodes out of order, layers whose inputs are not what they take, and outputs that are not used.
pub(super) fn check_order(nodes: &[Node]) -> Result<()> {
    let Some(Node { input: features, .. }) = nodes.first() else { return Ok(()) };
    for (at, node) in nodes.iter().enumerate() {
        let Node { name, input, .. } = node;
        let takes = node.layer.operator().inputs();
        if node.sources.len() != takes {
            return Err(Error::Config(format!("{name} reads {} tensors; its layer takes {takes}", node.sources.len())));
        }
        for source in node.reads(at) {
            let (below, gives) = match source {
                Some(index) if index >= at => {
                    return Err(Error::Config(format!("{name} reads node {index}, which does not come before it")));
                }
                Some(index) => (nodes[index].name.as_str(), nodes[index].layer.output(nodes[index].input)),
                None => ("the network's input", *features),
            };
            if gives != *input {
                return Err(Error::Config(format!("{name} takes {input} features, but {below} has {gives}")));
            }
        }
    }
    let is_read = |index| nodes.iter().enumerate().any(|(at, node)| node.reads(at).any(|source| source == Some(index)));
    match (0..nodes.len() - 1).find(|&index| !is_read(index)) {
        Some(index) => Err(Error::Config(format!(
            "no node reads the output of {}; the output of a network is that of its last node",
            nodes[index].name
        ))),
        None => Ok(()),
    }
}

/// Refuses layers that need the whole sequence, since a part of a sequence could not continue from the states of the part before;
/// `what` names the refused action.
pub(crate) fn check_carried(nodes: &[Node], what: &str) -> Result<()> {
    for Node { name, layer, .. } in nodes {
        if let Some(why) = layer.operator().needs_whole_sequence() {
            return Err(Error::Config(format!("{name} {why}, which needs the whole sequence, so it cannot {what}")));
        }
    }
    Ok(())
}
