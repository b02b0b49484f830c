//! Graphs of nodes: inputs and outputs by name, and the time axes along the edges.

use super::node::{Node, Source};
use crate::activation::Activation;
use crate::error::{Error, Result};
use crate::layer::Time;
use std::collections::HashSet;

/// Nodes in topological order, with the inputs and outputs of the network.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The inputs.
    pub inputs: Vec<GraphInput>,
    /// The nodes; each reads inputs and nodes before it.
    pub nodes: Vec<Node>,
    /// The outputs.
    pub outputs: Vec<GraphOutput>,
    /// Time axes: first one of each input, then those that nodes make.
    pub(crate) axes: Vec<Axis>,
    /// Time axis of each node's output; `None` for a vector.
    pub(crate) times: Vec<Option<usize>>,
}

/// An input of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphInput {
    /// Its name.
    pub name: String,
    /// Features of a step.
    pub features: usize,
    /// True for a vector [B, F], without a time axis.
    pub vector: bool,
}

/// An output of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphOutput {
    /// Its name.
    pub name: String,
    /// The tensor.
    pub from: Source,
}

/// A time axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axis {
    /// That of an input.
    Input,
    /// The axis `from`, as a node changes it.
    Changed { from: usize, node: usize },
    /// Of so many steps.
    Made(u32),
}

/// Names of the input and the output of a chain.
pub(crate) const CHAIN: [&str; 2] = ["x", "y"];

/// Something that is a graph: a [`Graph`], or a list of nodes.
pub trait AsGraph {
    /// The graph.
    ///
    /// # Errors
    /// Nodes out of order, layers whose inputs are not what they take, and outputs that are not used.
    fn graph(&self) -> Result<Graph>;
}

impl AsGraph for Graph {
    fn graph(&self) -> Result<Graph> {
        Ok(self.clone())
    }
}

/// The input is that of the first node, the output that of the last.
impl AsGraph for [Node] {
    fn graph(&self) -> Result<Graph> {
        let features = self.first().map_or(0, Node::input);
        let [input, output] = CHAIN.map(String::from);
        let outputs = match self.len() {
            0 => Vec::new(),
            count => vec![GraphOutput { name: output, from: Source::Node(count - 1) }],
        };
        Graph::new(vec![GraphInput { name: input, features, vector: false }], self.to_vec(), outputs)
    }
}

impl AsGraph for Vec<Node> {
    fn graph(&self) -> Result<Graph> {
        self[..].graph()
    }
}

impl<const N: usize> AsGraph for [Node; N] {
    fn graph(&self) -> Result<Graph> {
        self[..].graph()
    }
}

impl Graph {
    /// A graph, with the time axes along its edges.
    ///
    /// # Errors
    /// Nodes out of order, layers whose inputs are not what they take, and outputs that are not used.
    pub fn new(inputs: Vec<GraphInput>, nodes: Vec<Node>, outputs: Vec<GraphOutput>) -> Result<Graph> {
        let axes = vec![Axis::Input; inputs.len().max(1)];
        let mut graph = Graph { inputs, nodes: Vec::new(), outputs: Vec::new(), axes, times: Vec::new() };
        for node in nodes {
            graph.push(node)?;
        }
        graph.finish(outputs)
    }

    /// Adds a node.
    pub(crate) fn push(&mut self, mut node: Node) -> Result<()> {
        let at = self.nodes.len();
        for source in node.sources.iter_mut().chain(&mut node.initial) {
            *source = source.resolved(at);
        }
        self.check_node(&node)?;
        let time = self.time_of(&node)?;
        self.times.push(time);
        self.nodes.push(node);
        Ok(())
    }

    /// Sets the outputs, after the last node.
    pub(crate) fn finish(mut self, outputs: Vec<GraphOutput>) -> Result<Graph> {
        self.check_outputs(&outputs)?;
        self.outputs = outputs;
        Ok(self)
    }

    /// Nodes that have parameters of their own.
    pub(crate) fn owners(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.shares.is_none())
    }

    /// True for the name of a running statistic, which is no parameter that is trained.
    pub(crate) fn is_statistic(&self, name: &str) -> bool {
        self.owners().flat_map(Node::parameters).any(|tensor| tensor.name == name && !tensor.trained)
    }

    /// Features of a tensor; `None` if they depend on the number of steps.
    pub(crate) fn width(&self, source: Source) -> Option<usize> {
        match source {
            Source::Input(k) => Some(self.inputs[k].features),
            Source::Previous => None,
            Source::Node(at) => Some(self.nodes[at].output()),
            Source::State(at, k) => Some(self.nodes[at].state_values()[k].width),
            Source::Beside(..) => None,
        }
    }

    /// Names of the outputs.
    pub(crate) fn output_names(&self) -> Vec<&str> {
        self.outputs.iter().map(|output| output.name.as_str()).collect()
    }

    /// The last activation that a tensor went through.
    pub(crate) fn activation(&self, mut source: Source) -> Activation {
        while let Source::Node(at) = source {
            let Node { layer, sources, .. } = &self.nodes[at];
            match layer.operator().output_activation() {
                Some(activation) => return activation,
                None => source = sources[0],
            }
        }
        Activation::Linear
    }

    /// The time axis of a tensor; `None` for a vector.
    pub(crate) fn axis(&self, source: Source) -> Option<usize> {
        match source {
            Source::Input(k) => (!self.inputs[k].vector).then_some(k),
            Source::Node(at) | Source::Beside(at, _) => self.times[at],
            Source::State(..) | Source::Previous => None,
        }
    }

    /// The name of a tensor, for messages.
    pub(crate) fn name(&self, source: Source) -> String {
        match source {
            Source::Input(k) => match &self.inputs[k].name {
                name if *name == CHAIN[0] => "the network's input".into(),
                name => format!("input \"{name}\""),
            },
            Source::Node(at) => self.nodes[at].name.clone(),
            Source::State(at, k) => {
                format!("state {} of {}", self.nodes[at].state_values()[k].name, self.nodes[at].name)
            }
            Source::Beside(at, k) => {
                format!("{} of {}", self.nodes[at].layer.operator().beside()[k], self.nodes[at].name)
            }
            Source::Previous => "the node before".into(),
        }
    }

    /// Refuses a tensor that does not exist before node `at`, named `reader`.
    pub(crate) fn check_source(&self, reader: &str, source: Source) -> Result<()> {
        let wrong = |what: String| Err(Error::Config(format!("{reader} reads {what}")));
        let before = self.nodes.len();
        match source {
            Source::Input(k) if k >= self.inputs.len() => wrong(format!("input {k} of {}", self.inputs.len())),
            Source::Node(at) | Source::State(at, _) | Source::Beside(at, _) if at >= before => {
                wrong(format!("node {at}, which does not come before it"))
            }
            Source::State(at, k) if k >= self.nodes[at].state_values().len() => wrong(format!(
                "state {k} of {}, which gives {}",
                self.nodes[at].name,
                self.nodes[at].state_values().len()
            )),
            Source::Beside(at, k) if k >= self.nodes[at].layer.operator().beside().len() => {
                wrong(format!("a further output of {}, which has none", self.nodes[at].name))
            }
            Source::Previous => wrong("the node before it, and there is none".into()),
            _ => Ok(()),
        }
    }

    /// Refuses a node whose inputs are not what its layer takes.
    fn check_node(&self, node: &Node) -> Result<()> {
        let Node { name, inputs, sources, initial, .. } = node;
        let takes = node.layer.operator().inputs();
        if sources.len() != takes || inputs.len() != takes {
            return Err(Error::Config(format!("{name} reads {} tensors; its layer takes {takes}", sources.len())));
        }
        // A stack of too many layers has no list of states.
        node.validate()?;
        for (&source, &width) in sources.iter().zip(inputs) {
            self.check_source(name, source)?;
            match self.width(source) {
                Some(gives) if gives == width => {}
                Some(gives) => {
                    let below = self.name(source);
                    return Err(Error::Config(format!("{name} takes {width} features, but {below} has {gives}")));
                }
                None => {
                    return Err(Error::Config(format!(
                        "{name} reads {}, which has no gradient and as many features as there are steps; only outputs of the \
                         network can be that",
                        self.name(source)
                    )));
                }
            }
        }
        if initial.is_empty() {
            return Ok(());
        }
        let values = node.state_values();
        if initial.len() != values.len() {
            return Err(Error::Config(format!(
                "{name} is given {} initial states; it has {}",
                initial.len(),
                values.len()
            )));
        }
        for (&source, value) in initial.iter().zip(values) {
            self.check_source(name, source)?;
            if self.axis(source).is_some() {
                return Err(Error::Config(format!(
                    "initial state {} of {name} is {}, which is a sequence; it must be a vector",
                    value.name,
                    self.name(source)
                )));
            }
            if self.width(source) != Some(value.width) {
                return Err(Error::Config(format!(
                    "initial state {} of {name} has {} units; {} has {}",
                    value.name,
                    value.width,
                    self.name(source),
                    self.width(source).unwrap_or(0)
                )));
            }
        }
        Ok(())
    }

    /// The time axis of a node's output; adds those that the node makes.
    fn time_of(&mut self, node: &Node) -> Result<Option<usize>> {
        let Node { name, sources, layer, .. } = node;
        let operator = layer.operator();
        let axes: Vec<Option<usize>> = sources.iter().map(|&source| self.axis(source)).collect();
        if operator.takes_sequence() && axes[0].is_none() {
            return Err(Error::Config(format!(
                "{name} needs a sequence, but {} gives one vector; if that is an LSTM, set return_sequences(true) on it",
                self.name(sources[0])
            )));
        }
        Ok(match (operator.time(), axes[0]) {
            (Time::Kept, first) => {
                if let Some(k) = axes.iter().position(|axis| axis.is_some() != first.is_some()) {
                    return Err(Error::Config(format!(
                        "{name} joins {} and {}, of which one is a sequence and the other a vector; repeat the vector over time",
                        self.name(sources[0]),
                        self.name(sources[k])
                    )));
                }
                first
            }
            (Time::Of(k), _) => axes[k],
            (Time::Ended, _) | (Time::Changed, None) => None,
            (Time::Changed, Some(from)) => self.add_axis(Axis::Changed { from, node: self.nodes.len() }),
            (Time::Made(steps), None) => self.add_axis(Axis::Made(steps)),
            (Time::Made(_), Some(_)) => {
                let below = self.name(sources[0]);
                return Err(Error::Config(format!("{name} repeats a vector, but {below} is a sequence")));
            }
        })
    }

    fn add_axis(&mut self, axis: Axis) -> Option<usize> {
        self.axes.push(axis);
        Some(self.axes.len() - 1)
    }

    /// Refuses outputs that do not exist, names that are taken, and nodes that nothing reads.
    fn check_outputs(&self, outputs: &[GraphOutput]) -> Result<()> {
        let mut names = HashSet::new();
        if let Some(Node { name, .. }) = self.nodes.iter().find(|node| !names.insert(node.name.as_str())) {
            return Err(Error::Config(format!("two nodes have the name {name}; each needs its own")));
        }
        for (k, GraphOutput { name, from }) in outputs.iter().enumerate() {
            self.check_source(&format!("output \"{name}\""), *from)?;
            if let Source::Input(_) = from {
                return Err(Error::Config(format!("output \"{name}\" is an input; it must be a node's")));
            }
            if outputs[..k].iter().any(|other| other.name == *name) {
                return Err(Error::Config(format!("two outputs have the name \"{name}\"")));
            }
        }
        for (k, GraphInput { name, .. }) in self.inputs.iter().enumerate() {
            if self.inputs[..k].iter().any(|other| other.name == *name) {
                return Err(Error::Config(format!("two inputs have the name \"{name}\"")));
            }
        }
        let mut is_read = vec![false; self.nodes.len()];
        let sources = self.nodes.iter().flat_map(|node| node.sources.iter().chain(&node.initial));
        let sources = sources.chain(outputs.iter().map(|output| &output.from));
        sources.filter_map(|source| source.node()).for_each(|at| is_read[at] = true);
        match is_read.iter().position(|is_read| !is_read) {
            Some(at) => Err(Error::Config(format!(
                "no node reads the output of {}; make it an output of the network, or leave it out",
                self.nodes[at].name
            ))),
            None => Ok(()),
        }
    }

    /// Steps of every axis, for inputs of these steps.
    ///
    /// # Errors
    /// A sequence that is too short for a layer.
    pub(crate) fn steps(&self, inputs: &[usize]) -> Result<Vec<usize>> {
        let mut all: Vec<usize> = Vec::new();
        for (k, axis) in self.axes.iter().enumerate() {
            all.push(match *axis {
                Axis::Input => inputs.get(k).or(inputs.last()).copied().unwrap_or(1),
                Axis::Made(steps) => steps as usize,
                Axis::Changed { from, node } => {
                    let Node { name, layer, .. } = &self.nodes[node];
                    match layer.operator().output_steps(all[from]) {
                        0 => {
                            return Err(Error::Shape(format!(
                                "{name} has no output for a sequence of {} steps; give it longer ones",
                                all[from]
                            )));
                        }
                        steps => steps,
                    }
                }
            });
        }
        Ok(all)
    }

    /// Lengths of the sequences along an axis, for lengths along each input; `None`: all have all steps.
    pub(crate) fn lengths(&self, mut axis: usize, inputs: &[Option<&[usize]>]) -> Option<Vec<usize>> {
        let mut changes = Vec::new();
        while let Axis::Changed { from, node } = self.axes[axis] {
            changes.push(self.nodes[node].layer.operator());
            axis = from;
        }
        let mut lengths = match self.axes[axis] {
            Axis::Made(_) => return None,
            _ => inputs.get(axis).copied().flatten()?.to_vec(),
        };
        for operator in changes.into_iter().rev() {
            lengths.iter_mut().for_each(|length| *length = operator.output_steps(*length));
        }
        Some(lengths)
    }

    /// Axes that are joined by a node and must have the same steps and lengths, with its name.
    pub(crate) fn joined(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        self.nodes.iter().filter(|node| node.layer.operator().time() == Time::Kept).flat_map(|node| {
            let axes: Vec<usize> = node.sources.iter().filter_map(|&source| self.axis(source)).collect();
            let first = axes.first().copied();
            let others = axes.into_iter().skip(1).filter(move |&other| Some(other) != first);
            others.filter_map(move |other| Some((node.name.as_str(), first?, other)))
        })
    }

    /// True if it is a chain of nodes with one input and one output, which is that of the last.
    pub(crate) fn is_chain(&self) -> bool {
        let mut nodes = self.nodes.iter().enumerate();
        let follows =
            nodes.all(|(at, node)| node.sources == [Source::Previous.resolved(at)] && node.initial.is_empty());
        let last = self.nodes.len().wrapping_sub(1);
        follows && self.inputs.len() == 1 && self.outputs.len() == 1 && self.outputs[0].from == Source::Node(last)
    }
}
