//! Random networks of small nodes, for the crate and for the naive oracle. A case follows from its seed alone.
#![allow(dead_code)]

use super::Draw;
use super::graph_oracle::*;
use super::recurrent_oracle::{ActivationKind, OracleActivation, RecurrentCell};
use ndarray::Array3;
use std::collections::BTreeMap;
use wgpu_lstm::network::{Graph, GraphInput, GraphOutput, Node, Source};
use wgpu_lstm::{
    Activation, Add, Attention, AttentionPool, Average, BatchNorm, Concat, Conv1d, Dense, Embedding, Gru, Inputs,
    Layer, LayerNorm, Loss, Losses, Lstm, Maximum, Model, Multiply, Network, Padding, Pool, Repeat, Targets, Value,
    WindowPool, ZeroPad,
};

/// Entries of embeddings.
const ENTRIES: usize = 5;

/// A tensor with its features, and its time axis if it is a sequence.
#[derive(Clone, Copy, Debug)]
struct Known {
    tensor: Tensor,
    width: usize,
    axis: Option<usize>,
}

/// A time axis: T, and the length of each sequence.
#[derive(Clone, Debug)]
pub struct Axis {
    pub steps: usize,
    pub lengths: Vec<usize>,
}

/// An input.
#[derive(Clone, Copy, Debug)]
pub struct CaseInput {
    pub width: usize,
    /// True for indices of an embedding.
    pub indices: bool,
}

/// A network.
pub struct Case {
    pub inputs: Vec<CaseInput>,
    /// Those of the inputs, then those that nodes make, in their order.
    pub axes: Vec<Axis>,
    pub layers: Vec<Layer>,
    /// The nodes; their parameters are for the caller to fill in.
    pub oracle: GraphOracle,
    /// Tensors that are outputs, by name.
    pub outputs: Vec<(String, Tensor)>,
    /// Weights of their losses.
    pub weights: Vec<f32>,
    pub batch: usize,
    pub ragged: bool,
    /// For what is left to draw.
    pub draw: Draw,
    widths: Vec<Vec<usize>>,
    known: Vec<Known>,
}

impl Case {
    /// The case of a seed.
    pub fn new(seed: u64) -> Case {
        let mut draw = Draw::new(seed);
        let (batch, ragged) = (1 + draw.below(3), draw.below(2) == 0);
        let mut case = Case {
            inputs: Vec::new(),
            axes: Vec::new(),
            layers: Vec::new(),
            oracle: GraphOracle::default(),
            outputs: Vec::new(),
            weights: Vec::new(),
            batch,
            ragged,
            draw,
            widths: Vec::new(),
            known: Vec::new(),
        };
        for _ in 0..1 + case.below(3) {
            case.input();
        }
        let nodes = 2 + case.below(8);
        while case.layers.len() < nodes {
            case.node();
        }
        case.end();
        case
    }

    fn below(&mut self, n: usize) -> usize {
        self.draw.below(n)
    }

    /// An input; of indices, with its embedding.
    fn input(&mut self) {
        let steps = 1 + self.below(6);
        let lengths = (0..self.batch).map(|_| if self.ragged { 1 + self.below(steps) } else { steps }).collect();
        let indices = self.below(4) == 0;
        let width = if indices { 1 } else { 1 + self.below(4) };
        let (at, axis) = (self.inputs.len(), Some(self.axes.len()));
        // Axes of inputs come before those of nodes
        self.axes.push(Axis { steps, lengths });
        self.inputs.push(CaseInput { width, indices });
        self.known.push(Known { tensor: Tensor::Input(at), width, axis });
    }

    /// Adds a node, and what of it can be read.
    fn push(
        &mut self,
        layer: impl Into<Layer>,
        op: OracleOp,
        inputs: &[Known],
        initial: Vec<Tensor>,
        shares: Option<usize>,
        [width, axis]: [Option<usize>; 2],
    ) -> Known {
        let at = self.layers.len();
        let shares = shares.map(|other| format!("node{other}"));
        let tensors = inputs.iter().map(|known| known.tensor).collect();
        self.layers.push(layer.into());
        self.widths.push(inputs.iter().map(|known| known.width).collect());
        self.oracle.nodes.push(OracleNode { name: format!("node{at}"), op, inputs: tensors, initial, shares });
        let known = Known { tensor: Tensor::Node(at), width: width.unwrap_or(inputs[0].width), axis };
        self.known.push(known);
        known
    }

    /// One of the tensors that can be read; of indices, what an embedding makes of them.
    fn any(&mut self, fits: impl Fn(&Known) -> bool) -> Option<Known> {
        let all: Vec<Known> = self.known.iter().copied().filter(fits).collect();
        if all.is_empty() {
            return None;
        }
        let one = all[self.below(all.len())];
        match one.tensor {
            Tensor::Input(k) if self.inputs[k].indices => {
                let width = 1 + self.below(4);
                let layer = Embedding::new(ENTRIES, width);
                Some(self.push(layer, OracleOp::Embedding(width), &[one], vec![], None, [Some(width), one.axis]))
            }
            _ => Some(one),
        }
    }

    fn sequence(&mut self) -> Option<Known> {
        self.any(|known| known.axis.is_some())
    }

    fn vector(&mut self) -> Option<Known> {
        self.any(|known| known.axis.is_none())
    }

    /// A tensor that has this width and axis: one that is there, or what a dense layer makes of one.
    fn like(&mut self, width: usize, axis: Option<usize>) -> Option<Known> {
        let indices: Vec<bool> = self.inputs.iter().map(|input| input.indices).collect();
        let plain = move |known: &Known| !matches!(known.tensor, Tensor::Input(k) if indices[k]);
        if self.below(2) == 0
            && let Some(known) = self.any(|known| plain(known) && known.width == width && known.axis == axis)
        {
            return Some(known);
        }
        let from = self.any(|known| known.axis == axis)?;
        Some(self.dense(from, width, None))
    }

    fn activation(&mut self) -> (Activation, Activated) {
        let each = |kind, alpha| Activated::Each(OracleActivation::new(kind, alpha, 0.0));
        match self.below(6) {
            0 => (Activation::Sigmoid, each(ActivationKind::Sigmoid, 0.0)),
            1 => (Activation::Relu, each(ActivationKind::Relu, 0.0)),
            2 => (Activation::Softmax, Activated::Softmax),
            3 => (Activation::Elu { alpha: 0.5 }, each(ActivationKind::Elu, 0.5)),
            _ => (Activation::Tanh, each(ActivationKind::Tanh, 0.0)),
        }
    }

    fn dense(&mut self, from: Known, units: usize, shares: Option<usize>) -> Known {
        let (activation, same) = match self.below(2) {
            0 => (Activation::Linear, Activated::Linear),
            _ => self.activation(),
        };
        let (activation, same) = match shares.map(|at| (&self.layers[at], &self.oracle.nodes[at].op)) {
            Some((Layer::Dense(dense), OracleOp::Dense(same))) => {
                let (layer, op) = (dense.clone(), OracleOp::Dense(*same));
                return self.push(layer, op, &[from], vec![], shares, [Some(units), from.axis]);
            }
            _ => (activation, same),
        };
        let layer = Dense::new(units).activation(activation).bias(self.below(4) > 0);
        self.push(layer, OracleOp::Dense(same), &[from], vec![], shares, [Some(units), from.axis])
    }

    /// One of the kinds of nodes, where the tensors for it are there.
    fn node(&mut self) -> Option<()> {
        match self.below(22) {
            0 | 1 => {
                let from = self.any(|_| true)?;
                let units = 1 + self.below(4);
                self.dense(from, units, None);
            }
            2 => {
                let from = self.any(|_| true)?;
                let (layer, same) = self.activation();
                self.push(layer, OracleOp::Activation(same), &[from], vec![], None, [None, from.axis]);
            }
            3 => {
                let from = self.any(|known| known.width > 1)?;
                let layer = LayerNorm::new().epsilon(0.5);
                self.push(layer, OracleOp::LayerNorm(0.5), &[from], vec![], None, [None, from.axis]);
            }
            4 => {
                let from = self.any(|_| true)?;
                let op = OracleOp::BatchNorm { epsilon: 0.5, by_batch: false };
                self.push(BatchNorm::new().epsilon(0.5), op, &[from], vec![], None, [None, from.axis]);
            }
            5..=8 => self.recurrent()?,
            9..=11 => self.merge()?,
            12 => self.pool()?,
            13 => self.repeat()?,
            14..=16 => self.attention()?,
            17 => self.convolution()?,
            18 => self.window_pool()?,
            19 => self.zero_pad()?,
            _ => self.shared()?,
        }
        Some(())
    }

    /// An LSTM or GRU, often from states that other nodes give.
    fn recurrent(&mut self) -> Option<()> {
        let from = self.sequence()?;
        let (lstm, two, whole) = (self.below(2) == 0, self.below(3) == 0, self.below(3) > 0);
        let directions = 1 + two as usize;
        let states = directions * if lstm { 2 } else { 1 };
        let first = if self.below(3) > 0 { self.vector() } else { None };
        let hidden = first.map_or(1 + self.below(4), |first| first.width);
        let mut initial = Vec::new();
        if let Some(first) = first {
            initial.push(first.tensor);
            while initial.len() < states {
                initial.push(self.like(hidden, None)?.tensor);
            }
        }
        let (cell, layer): (_, Layer) = match lstm {
            true => (RecurrentCell::Lstm, Lstm::new(hidden).bidirectional(two).return_sequences(whole).into()),
            false => (RecurrentCell::GruResetAfter, Gru::new(hidden).bidirectional(two).return_sequences(whole).into()),
        };
        self.recurrent_node(layer, OracleOp::Recurrent { cell, hidden, directions, whole }, from, initial, None);
        Some(())
    }

    fn recurrent_node(&mut self, layer: Layer, op: OracleOp, from: Known, initial: Vec<Tensor>, shares: Option<usize>) {
        let OracleOp::Recurrent { cell, hidden, directions, whole } = op else { unreachable!("{op:?}") };
        let axis = if whole { from.axis } else { None };
        self.push(layer, op, &[from], initial, shares, [Some(directions * hidden), axis]);
        let (at, planes) = (self.layers.len() - 1, if cell == RecurrentCell::Lstm { 2 } else { 1 });
        let states =
            (0..directions * planes).map(|k| Known { tensor: Tensor::State(at, k), width: hidden, axis: None });
        self.known.extend(states);
    }

    /// Several tensors of one time axis joined.
    fn merge(&mut self) -> Option<()> {
        let first = self.any(|_| true)?;
        let mut all = vec![first];
        for _ in 0..1 + self.below(2) {
            all.push(self.like(first.width, first.axis)?);
        }
        let count = all.len();
        let (layer, op): (Layer, _) = match self.below(5) {
            0 => (Add::new(count).into(), OracleOp::Add),
            1 => (Multiply::new(count).into(), OracleOp::Multiply),
            2 => (Average::new(count).into(), OracleOp::Average),
            3 => (Maximum::new(count).into(), OracleOp::Maximum),
            _ => (Concat::new(count).into(), OracleOp::Concat),
        };
        // Of equal ones, either can have the gradient.
        let twice = (0..count).any(|k| all[..k].iter().any(|other| other.tensor == all[k].tensor));
        if op_is_maximum(&op) && twice {
            return None;
        }
        let width = if let OracleOp::Concat = op { Some(count * first.width) } else { None };
        self.push(layer, op, &all, vec![], None, [width, first.axis]);
        Some(())
    }

    /// A vector repeated, over some steps or over those of a sequence.
    fn repeat(&mut self) -> Option<()> {
        let from = self.vector()?;
        if self.below(2) == 0 {
            let over = self.sequence()?;
            self.push(Repeat::over_steps(), OracleOp::RepeatOver, &[from, over], vec![], None, [None, over.axis]);
            return Some(());
        }
        let steps = 1 + self.below(4);
        self.axes.push(Axis { steps, lengths: vec![steps; self.batch] });
        let axis = Some(self.axes.len() - 1);
        self.push(Repeat::new(steps), OracleOp::Repeat(steps), &[from], vec![], None, [None, axis]);
        Some(())
    }

    /// Attention of a sequence or a vector to a sequence, or over time.
    fn attention(&mut self) -> Option<()> {
        let value = self.sequence()?;
        if self.below(4) == 0 {
            let tanh = self.below(2) == 0;
            let (layer, op) = (AttentionPool::new().tanh(tanh), OracleOp::AttentionPool { tanh });
            self.push(layer, op, &[value], vec![], None, [None, None]);
            return Some(());
        }
        let keys = self.below(3) == 0;
        let width = if keys { 1 + self.below(4) } else { value.width };
        let axis = self.any(|_| true)?.axis;
        let query = self.like(width, axis)?;
        let mut all = vec![query, value];
        if keys {
            all.push(self.like(width, value.axis)?);
        }
        let (layer, score) = match self.below(3) {
            0 => (Attention::new(), Score::Dot),
            1 => (Attention::scaled(), Score::Scaled),
            _ => (Attention::additive(), Score::Additive),
        };
        let (learnt, causal) = (self.below(2) == 0, query.axis.is_some() && self.below(3) == 0);
        let layer = layer.learnt_scale(learnt).causal(causal).keys(keys);
        let op = OracleOp::Attention { score, causal };
        self.push(layer, op, &all, vec![], None, [Some(value.width), query.axis]);
        Some(())
    }

    /// Windows with their padding, and true if they keep the time axis.
    fn windows(&mut self, dilated: bool) -> (Windows, Padding, bool) {
        let (size, stride) = (1 + self.below(3), 1 + self.below(2));
        let dilation = if dilated { 1 + self.below(2) } else { 1 };
        let reach = (size - 1) * dilation + 1;
        let (ends, padding) = match self.below(4) {
            0 => (Ends::Valid, Padding::Valid),
            1 => (Ends::Same, Padding::Same),
            2 => (Ends::Causal, Padding::Causal),
            _ => (Ends::Both(size / 2), Padding::Both(size / 2)),
        };
        let kept = match ends {
            Ends::Valid => reach == 1,
            Ends::Same | Ends::Causal => true,
            Ends::Both(padding) => reach == 2 * padding + 1,
        };
        (Windows { size, stride, dilation, ends }, padding, stride == 1 && kept)
    }

    /// The axis that a node makes of another, if no sequence becomes empty.
    fn changed(&mut self, axis: Option<usize>, steps: impl Fn(usize) -> usize) -> Option<usize> {
        let Axis { steps: all, lengths } = &self.axes[axis?];
        let new = Axis { steps: steps(*all), lengths: lengths.iter().map(|&length| steps(length)).collect() };
        if new.steps == 0 || new.lengths.contains(&0) {
            return None;
        }
        self.axes.push(new);
        Some(self.axes.len() - 1)
    }

    fn along(&mut self, axis: Option<usize>, windows: Windows, kept: bool) -> Option<usize> {
        if kept { axis } else { self.changed(axis, |steps| windows.count(steps)) }
    }

    fn convolution(&mut self) -> Option<()> {
        let from = self.sequence()?;
        let (windows, padding, kept) = self.windows(true);
        let axis = Some(self.along(from.axis, windows, kept)?);
        let groups = if from.width.is_multiple_of(2) && self.below(2) == 0 { 2 } else { 1 };
        let filters = groups * (1 + self.below(2));
        let (activation, same) = self.activation();
        let layer = Conv1d::new(filters, windows.size).stride(windows.stride).dilation(windows.dilation);
        let layer = layer.padding(padding).groups(groups).activation(activation).bias(self.below(3) > 0);
        let op = OracleOp::Conv { windows, groups, filters, activation: same };
        self.push(layer, op, &[from], vec![], None, [Some(filters), axis]);
        Some(())
    }

    fn window_pool(&mut self) -> Option<()> {
        let from = self.sequence()?;
        let (windows, padding, kept) = self.windows(false);
        let axis = Some(self.along(from.axis, windows, kept)?);
        let (layer, op) = match self.below(3) {
            0 => (WindowPool::max(windows.size), OracleOp::MaxPool(windows)),
            counts => {
                let count_padding = counts == 1;
                let layer = WindowPool::mean(windows.size).count_padding(count_padding);
                (layer, OracleOp::MeanPool { windows, count_padding })
            }
        };
        self.push(layer.stride(windows.stride).padding(padding), op, &[from], vec![], None, [None, axis]);
        Some(())
    }

    fn zero_pad(&mut self) -> Option<()> {
        let from = self.sequence()?;
        let (left, right) = (self.below(3), 1 + self.below(2));
        let axis = self.changed(from.axis, |steps| left + steps + right);
        self.push(ZeroPad::new(left, right), OracleOp::ZeroPad { left, right }, &[from], vec![], None, [None, axis]);
        Some(())
    }

    fn pool(&mut self) -> Option<()> {
        let from = self.sequence()?;
        let (layer, op) = match self.below(4) {
            0 => (Pool::Last, OracleOp::Last),
            1 => (Pool::Mean, OracleOp::Mean),
            2 => (Pool::Max, OracleOp::Max),
            _ => (Pool::Sum, OracleOp::Sum),
        };
        self.push(layer, op, &[from], vec![], None, [None, None]);
        Some(())
    }

    /// A node that uses the weights of an earlier one.
    fn shared(&mut self) -> Option<()> {
        let fits = |at: &usize| {
            let node = &self.oracle.nodes[*at];
            node.shares.is_none() && matches!(node.op, OracleOp::Dense(_) | OracleOp::Recurrent { .. })
        };
        let all: Vec<usize> = (0..self.layers.len()).filter(fits).collect();
        if all.is_empty() {
            return None;
        }
        let at = all[self.below(all.len())];
        let width = self.widths[at][0];
        let indices: Vec<bool> = self.inputs.iter().map(|input| input.indices).collect();
        let plain =
            move |known: &Known| known.width == width && !matches!(known.tensor, Tensor::Input(k) if indices[k]);
        match (self.layers[at].clone(), self.oracle.nodes[at].op.clone()) {
            (Layer::Dense(dense), OracleOp::Dense(_)) => {
                let from = self.any(plain)?;
                let units = Layer::from(dense).output(width);
                self.dense(from, units, Some(at));
            }
            (layer, op) => {
                let from = self.any(move |known| plain(known) && known.axis.is_some())?;
                self.recurrent_node(layer, op, from, vec![], Some(at));
            }
        }
        Some(())
    }

    /// Makes outputs of all nodes that no other reads, and of one that is read.
    fn end(&mut self) {
        let read = |case: &Case, at: usize| {
            let reads = |tensor: &Tensor| match tensor {
                Tensor::Node(other) | Tensor::State(other, _) => *other == at,
                Tensor::Input(_) => false,
            };
            case.oracle.nodes.iter().any(|node| node.inputs.iter().chain(&node.initial).any(reads))
        };
        let mut outputs: Vec<usize> = (0..self.layers.len()).filter(|&at| !read(self, at)).collect();
        let also = self.below(self.layers.len());
        if self.below(2) == 0 && !outputs.contains(&also) {
            outputs.push(also);
        }
        for at in outputs {
            self.outputs.push((format!("y{at}"), Tensor::Node(at)));
            self.weights.push([0.5, 1.0, 2.0][at % 3]);
        }
    }

    /// The network inside the crate.
    pub fn graph(&self) -> Graph {
        let inputs = self.inputs.iter().enumerate();
        let inputs =
            inputs.map(|(k, input)| GraphInput { name: format!("x{k}"), features: input.width, vector: false });
        let source = |tensor: &Tensor| match *tensor {
            Tensor::Input(k) => Source::Input(k),
            Tensor::Node(at) => Source::Node(at),
            Tensor::State(at, k) => Source::State(at, k),
        };
        let node = |at: usize| {
            let own = &self.oracle.nodes[at];
            let sources = own.inputs.iter().map(source).collect();
            let node = Node::of(&own.name, self.layers[at].clone(), self.widths[at].clone(), sources);
            Node { initial: own.initial.iter().map(source).collect(), shares: own.shares.clone(), ..node }
        };
        let nodes = (0..self.layers.len()).map(node).collect();
        let outputs =
            self.outputs.iter().map(|(name, tensor)| GraphOutput { name: name.clone(), from: source(tensor) });
        let outputs = outputs.collect();
        Graph::new(inputs.collect(), nodes, outputs).unwrap_or_else(|error| panic!("{}: {error}", self.describe()))
    }

    /// The squared error of each output, times its weight.
    pub fn losses(&self) -> Losses {
        let named = self.outputs.iter().zip(&self.weights);
        named.fold(Losses::new(), |all, ((name, _), &weight)| all.weighted(name, Loss::MeanSquaredError, weight))
    }

    /// The nodes, for messages.
    pub fn describe(&self) -> String {
        let mut text = format!("{:?}, B = {}, {:?}\n", self.inputs, self.batch, self.axes);
        for (node, layer) in self.oracle.nodes.iter().zip(&self.layers) {
            text += &format!(
                "{} {:?} from {:?} {:?}, shares {:?}\n",
                node.name, layer, node.inputs, node.initial, node.shares
            );
        }
        text + &format!("{:?}", self.outputs)
    }
}

fn op_is_maximum(op: &OracleOp) -> bool {
    matches!(op, OracleOp::Maximum)
}

/// The public way: a model, its data, and the oracle with the same parameters.
impl Case {
    /// The network.
    pub fn network(&self) -> Network {
        let mut net = Network::new();
        let mut inputs = Vec::new();
        for (k, input) in self.inputs.iter().enumerate() {
            inputs.push(if input.indices {
                net.tokens(format!("x{k}"))
            } else {
                net.input(format!("x{k}"), input.width)
            });
        }
        let mut nodes: Vec<Value> = Vec::new();
        for (own, layer) in self.oracle.nodes.iter().zip(&self.layers) {
            let value = |tensor: &Tensor| match *tensor {
                Tensor::Input(k) => inputs[k],
                Tensor::Node(at) => nodes[at],
                Tensor::State(at, k) => net.states(nodes[at])[k],
            };
            let (states, read): (Vec<Value>, Vec<Value>) =
                (own.initial.iter().map(value).collect(), own.inputs.iter().map(value).collect());
            let builder = match &own.shares {
                Some(owner) => {
                    let at = self.oracle.nodes.iter().position(|node| node.name == *owner).unwrap();
                    net.again(nodes[at])
                }
                None => net.layer(layer.clone()),
            };
            nodes.push(builder.named(&own.name).starts_from(states).of(read));
        }
        for (name, tensor) in &self.outputs {
            let Tensor::Node(at) = *tensor else { unreachable!("outputs are nodes") };
            net.output(name, nodes[at]);
        }
        net
    }

    /// Draws parameters, for the model and for the oracle.
    pub fn draw_parameters(&mut self, model: &mut Model) {
        let mut parameters = model.parameters().unwrap();
        for (name, values) in &mut parameters {
            let variance = name.ends_with("running_var");
            values.mapv_inplace(|_| if variance { 0.5 + self.draw.next().abs() } else { 0.8 * self.draw.next() });
        }
        let wide = |values: &ndarray::ArrayD<f32>| values.iter().map(|&v| f64::from(v)).collect();
        self.oracle.params = parameters.iter().map(|(name, values)| (name.clone(), wide(values))).collect();
        model.set_parameters(parameters).unwrap();
    }

    /// Draws inputs [B, T, F], with numbers in padded steps, too.
    pub fn draw_inputs(&mut self) -> Vec<Array3<f32>> {
        let mut all = Vec::new();
        for (k, input) in self.inputs.clone().into_iter().enumerate() {
            let shape = (self.batch, self.axes[k].steps, input.width);
            let mut x = self.draw.array3(shape);
            if input.indices {
                x.mapv_inplace(|value| (value.abs() * ENTRIES as f32).floor().min(ENTRIES as f32 - 1.0));
            }
            all.push(x);
        }
        all
    }

    /// Inputs by name, with lengths if sequences have some.
    pub fn named<'a>(&self, inputs: &'a [Array3<f32>]) -> Inputs<'a> {
        inputs.iter().enumerate().fold(Inputs::new(), |all, (k, x)| {
            let all = all.add(format!("x{k}"), x.view());
            if self.ragged { all.lengths(self.axes[k].lengths.clone()) } else { all }
        })
    }

    /// Rows of inputs up to their ends.
    pub fn rows(&self, inputs: &[Array3<f32>]) -> Vec<Vec<Steps>> {
        let rows = |(k, x): (usize, &Array3<f32>)| {
            let lengths = &self.axes[k].lengths;
            let wide = |step: ndarray::ArrayView1<f32>| step.iter().map(|&v| f64::from(v)).collect();
            x.outer_iter()
                .zip(lengths)
                .map(|(row, &length)| row.outer_iter().take(length).map(wide).collect())
                .collect()
        };
        inputs.iter().enumerate().map(rows).collect()
    }

    /// Targets of the shapes of outputs.
    pub fn draw_targets(
        &mut self,
        outputs: &BTreeMap<String, ndarray::ArrayD<f32>>,
    ) -> BTreeMap<String, ndarray::ArrayD<f32>> {
        let draw = &mut self.draw;
        outputs.iter().map(|(name, y)| (name.clone(), y.mapv(|_| draw.next()))).collect()
    }

    /// Targets by name.
    pub fn named_targets<'a>(&self, targets: &'a BTreeMap<String, ndarray::ArrayD<f32>>) -> Targets<'a> {
        targets.iter().fold(Targets::new(), |all, (name, y)| all.add(name, y.view()))
    }
}
