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

/// Refuses nodes out of order and layers with too few or too many inputs.
pub(super) fn check_order(nodes: &[Node]) -> Result<()> {
    for (at, node) in nodes.iter().enumerate() {
        let takes = node.layer.operator().inputs();
        if node.sources.len() != takes {
            return Err(Error::Config(format!(
                "{} reads {} tensors; its layer takes {takes}",
                node.name,
                node.sources.len()
            )));
        }
        if let Some(late) = node.reads(at).flatten().find(|&index| index >= at) {
            return Err(Error::Config(format!("{} reads node {late}, which does not come before it", node.name)));
        }
    }
    Ok(())
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
