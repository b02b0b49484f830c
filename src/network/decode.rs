//! A graph cut for decoding step by step: what is computed once, and what runs at each step.

use super::graph::{Graph, GraphInput, GraphOutput};
use super::node::{Node, Source};
use crate::error::{Error, Result};
use crate::layer::{Layer, Time};

/// The parts of a graph that one of its inputs cuts it into.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    /// Computes the tensors that steps read; `None` if all of these are inputs.
    pub once: Option<Graph>,
    /// The nodes that depend on the input: input 0 is that one, of one step; the others are [`Cut::read`].
    pub step: Graph,
    /// Tensors of the whole graph that steps read, with their time axes there.
    pub read: Vec<(Crossing, Option<usize>)>,
    /// Tensors of the whole graph in which states of step nodes begin: node of `step`, index among its state values, and tensor.
    pub starts: Vec<(usize, usize, Crossing)>,
}

/// A tensor that goes from one part to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crossing {
    /// An input of the whole graph, by its index among the others.
    Input(usize),
    /// An output of `once`.
    Output(usize),
}

/// Cuts a graph at an input, which is fed step by step.
///
/// # Errors
/// Layers that need the input's whole sequence.
pub(crate) fn cut(graph: &Graph, input: usize) -> Result<Cut> {
    let mut depends: Vec<bool> = Vec::new();
    for node in &graph.nodes {
        let of = |source: &Source| *source == Source::Input(input) || source.node().is_some_and(|at| depends[at]);
        let dependent = node.sources.iter().chain(&node.initial).any(of);
        depends.push(dependent);
    }
    let mut cutter = Cutter { graph, input, depends, once: Vec::new(), read: Vec::new(), starts: Vec::new() };
    let step = cutter.step()?;
    let once = cutter.once_graph()?;
    let read = cutter.read.iter().map(|&source| (cutter.crossing(source), graph.axis(source))).collect();
    let starts = cutter.starts.iter().map(|&(node, state, source)| (node, state, cutter.crossing(source))).collect();
    Ok(Cut { once, step, read, starts })
}

struct Cutter<'a> {
    graph: &'a Graph,
    input: usize,
    /// True for nodes that depend on the input.
    depends: Vec<bool>,
    /// Tensors that are computed once.
    once: Vec<Source>,
    read: Vec<Source>,
    starts: Vec<(usize, usize, Source)>,
}

impl Cutter<'_> {
    /// The index of a node among those that depend on the input.
    fn index(&self, at: usize) -> usize {
        self.depends[..at].iter().filter(|&&depends| depends).count()
    }

    fn is_step(&self, source: Source) -> bool {
        source == Source::Input(self.input) || source.node().is_some_and(|at| self.depends[at])
    }

    /// A tensor as the step graph has it.
    fn moved(&mut self, source: Source) -> Source {
        match source {
            Source::Input(k) if k == self.input => Source::Input(0),
            Source::Node(at) if self.depends[at] => Source::Node(self.index(at)),
            Source::State(at, k) if self.depends[at] => Source::State(self.index(at), k),
            Source::Beside(at, k) if self.depends[at] => Source::Beside(self.index(at), k),
            other => {
                let known = self.read.iter().position(|read| *read == other);
                let k = known.unwrap_or_else(|| {
                    self.read.push(other);
                    self.read.len() - 1
                });
                Source::Input(1 + k)
            }
        }
    }

    /// The graph of a step.
    fn step(&mut self) -> Result<Graph> {
        let graph = self.graph;
        let mut nodes = Vec::new();
        for (at, node) in graph.nodes.iter().enumerate().filter(|(at, _)| self.depends[*at]).collect::<Vec<_>>() {
            self.check(node)?;
            for (state, &source) in node.initial.iter().enumerate() {
                self.starts.push((self.index(at), state, source));
            }
            let sources = node.sources.iter().map(|&source| self.moved(source)).collect();
            nodes.push(Node { sources, initial: Vec::new(), ..node.clone() });
        }
        let dependent: Vec<&GraphOutput> = graph.outputs.iter().filter(|output| self.is_step(output.from)).collect();
        let outputs = dependent
            .into_iter()
            .map(|output| GraphOutput { name: output.name.clone(), from: self.moved(output.from) });
        let outputs: Vec<GraphOutput> = outputs.collect();
        let mut inputs = vec![graph.inputs[self.input].clone()];
        for (k, &source) in self.read.iter().enumerate() {
            let features = graph.width(source).ok_or_else(|| Error::Plan("a tensor without a width".into()))?;
            let name = format!("context {k}");
            inputs.push(GraphInput { name, features, vector: graph.axis(source).is_none() });
        }
        Graph::new(inputs, nodes, outputs)
    }

    /// Refuses a node that needs the input's whole sequence.
    fn check(&self, node: &Node) -> Result<()> {
        let Node { name, layer, sources, initial, .. } = node;
        let operator = layer.operator();
        let input = &self.graph.inputs[self.input].name;
        let refused = |why: &str| {
            Err(Error::Config(format!(
                "{name} {why}, so input \"{input}\" cannot be fed step by step; decode another input"
            )))
        };
        if initial.iter().any(|&source| self.is_step(source)) {
            return refused("begins with states that depend on the input");
        }
        if matches!(layer, Layer::Attention(attention) if attention.is_causal()) {
            return refused("attends up to its own step, which a single step does not know");
        }
        match operator.time() {
            // The first input is fed; what the others hold must be whole.
            Time::Of(axis) if operator.needs_whole_sequence().is_some() => {
                let whole = sources.iter().enumerate().all(|(k, &source)| k == axis || !self.is_step(source));
                if whole { Ok(()) } else { refused("needs the whole sequence") }
            }
            _ => match operator.needs_whole_sequence() {
                Some(why) => refused(why),
                None => Ok(()),
            },
        }
    }

    /// The graph of what is computed once.
    fn once_graph(&mut self) -> Result<Option<Graph>> {
        let wanted = self.read.iter().copied().chain(self.starts.iter().map(|&(.., source)| source));
        for source in wanted.collect::<Vec<_>>() {
            if source.node().is_some() && !self.once.contains(&source) {
                self.once.push(source);
            }
        }
        if self.once.is_empty() {
            return Ok(None);
        }
        let nodes = &self.graph.nodes;
        let mut needed = vec![false; nodes.len()];
        self.once.iter().filter_map(|source| source.node()).for_each(|at| needed[at] = true);
        for at in (0..nodes.len()).rev() {
            if needed[at] {
                let sources = nodes[at].sources.iter().chain(&nodes[at].initial);
                sources.filter_map(|source| source.node()).for_each(|below| needed[below] = true);
            }
        }
        let index = |at: usize| needed[..at].iter().filter(|&&needed| needed).count();
        let moved = |source: Source| match source {
            Source::Input(k) => Source::Input(self.other_input(k)),
            Source::Node(at) => Source::Node(index(at)),
            Source::State(at, k) => Source::State(index(at), k),
            Source::Beside(at, k) => Source::Beside(index(at), k),
            Source::Previous => Source::Previous,
        };
        let kept = nodes.iter().zip(&needed).filter(|(_, needed)| **needed).map(|(node, _)| Node {
            sources: node.sources.iter().map(|&source| moved(source)).collect(),
            initial: node.initial.iter().map(|&source| moved(source)).collect(),
            ..node.clone()
        });
        let mut inputs = self.graph.inputs.clone();
        inputs.remove(self.input);
        let outputs = self
            .once
            .iter()
            .enumerate()
            .map(|(k, &source)| GraphOutput { name: format!("context {k}"), from: moved(source) });
        Graph::new(inputs, kept.collect(), outputs.collect()).map(Some)
    }

    /// The index of another input among the others.
    fn other_input(&self, k: usize) -> usize {
        if k > self.input { k - 1 } else { k }
    }

    fn crossing(&self, source: Source) -> Crossing {
        match source {
            Source::Input(k) => Crossing::Input(self.other_input(k)),
            other => Crossing::Output(self.once.iter().position(|once| *once == other).unwrap_or(0)),
        }
    }
}
