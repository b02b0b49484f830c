//! LSTM, GRU and RNN nodes: their attributes and inputs as layers of this crate, which run on the device.
//!
//! [LSTM](https://onnx.ai/onnx/operators/onnx__LSTM.html), [GRU](https://onnx.ai/onnx/operators/onnx__GRU.html) and
//! [RNN](https://onnx.ai/onnx/operators/onnx__RNN.html) have D directions and G gates (4, 3 or 1): X [T, B, I], W [D, G·H, I], R [D, G·H, H], B [D, 2·G·H], sequence_lens `[B]`, initial_h
//! and initial_c [D, B, H], P [D, 3H]; Y [T, D, B, H], Y_h and Y_c [D, B, H]. With `layout` 1 the batch comes first.

use super::activation::Named;
use super::call::Outcome;
use super::node::Attributes;
use super::value::{Value, shape_name};
use crate::cell::Cell;
use crate::device::Device;
use crate::error::Error;
use crate::layer::{Bias, Lstm};
use crate::memory;
use crate::model::{LstmLayer, LstmOutput, LstmState};
use ndarray::{Array1, Array2, Array3, ArrayD, Axis, Ix3, s};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An error at the node, in words, or one of the device.
#[derive(Debug)]
pub(super) enum Wrong {
    Here(String),
    Device(Error),
}

impl<S: Into<String>> From<S> for Wrong {
    fn from(reason: S) -> Wrong {
        Wrong::Here(reason.into())
    }
}

/// Turns errors of sizes and values into words for the node; a device's errors stay as they are.
fn engine(error: Error) -> Wrong {
    match error {
        Error::Shape(_) | Error::Config(_) | Error::NotFinite { .. } => Wrong::Here(error.to_string()),
        other => Wrong::Device(other),
    }
}

/// The kinds of nodes, with the rows of each gate in this crate's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecurrentOp {
    Lstm,
    Gru,
    Rnn,
}

impl RecurrentOp {
    pub fn of(op: &str) -> Option<RecurrentOp> {
        match op {
            "LSTM" => Some(RecurrentOp::Lstm),
            "GRU" => Some(RecurrentOp::Gru),
            "RNN" => Some(RecurrentOp::Rnn),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            RecurrentOp::Lstm => "LSTM",
            RecurrentOp::Gru => "GRU",
            RecurrentOp::Rnn => "RNN",
        }
    }

    /// The index of each gate i, f, g, o (r, z, n) in a file's order i, o, f, c (z, r, h).
    pub fn gates(self) -> &'static [usize] {
        match self {
            RecurrentOp::Lstm => &[0, 2, 3, 1],
            RecurrentOp::Gru => &[1, 0, 2],
            RecurrentOp::Rnn => &[0],
        }
    }

    /// Activations of a direction: f, g, h of an LSTM, f, g of a GRU, f of an RNN, each by its place in a layer.
    pub fn activations(self) -> &'static [Place] {
        match self {
            RecurrentOp::Lstm => &[Place::Gate, Place::Candidate, Place::Output],
            RecurrentOp::Gru => &[Place::Gate, Place::Candidate],
            RecurrentOp::Rnn => &[Place::Candidate],
        }
    }
}

/// Places of activations in a recurrent layer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Gate,
    Candidate,
    Output,
}

/// The index of each peephole i, f, o in a file's order i, o, f.
pub(super) const PEEPHOLES: &[usize] = &[0, 2, 1];

// Inputs by position.
const X: usize = 0;
const W: usize = 1;
const R: usize = 2;
const B: usize = 3;
const LENGTHS: usize = 4;
const INITIAL_H: usize = 5;
const INITIAL_C: usize = 6;
const P: usize = 7;
const NAMES: [&str; 8] = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"];

/// Inputs that are weights.
const WEIGHTS: [usize; 4] = [W, R, B, P];

/// True if the input at this position is weights.
pub(super) fn is_weight(k: usize) -> bool {
    WEIGHTS.contains(&k)
}

/// Values of a node's inputs, by position.
pub(super) type Inputs<'a> = [Option<&'a Arc<Value>>];

/// One direction.
#[derive(Clone, Debug, PartialEq)]
struct Direction {
    reverse: bool,
    /// As many as [`RecurrentOp::activations`]; `None` for the defaults.
    activations: Option<Vec<crate::Activation>>,
}

/// A recurrent node, and its layers on a device once it has run.
#[derive(Debug)]
pub(super) struct Recurrent {
    pub kind: RecurrentOp,
    pub hidden: Option<usize>,
    directions: Vec<Direction>,
    clip: Option<f32>,
    coupled: bool,
    batch_first: bool,
    reset_after: bool,
    bias: bool,
    peepholes: bool,
    /// True for each output that is used.
    outputs: Vec<bool>,
    built: Option<Built>,
}

/// Layers, one for both directions or one each, and the weights that they have.
#[derive(Debug)]
struct Built {
    weights: [Option<Arc<Value>>; 4],
    layers: Vec<LstmLayer>,
}

impl Recurrent {
    /// Understands a node's attributes; `given` says which inputs it has.
    pub fn new(kind: RecurrentOp, mut attributes: Attributes, given: &[bool]) -> Outcome<Recurrent> {
        let most = if kind == RecurrentOp::Lstm { 8 } else { 6 };
        if given.len() > most {
            return Err(format!("it has {} inputs, expected at most {most}", given.len()));
        }
        let has = |k: usize| given.get(k).copied().unwrap_or(false);
        if let Some(k) = [X, W, R].into_iter().find(|&k| !has(k)) {
            return Err(format!("its input {} is missing", NAMES[k]));
        }
        attributes.at_most_outputs(if kind == RecurrentOp::Lstm { 3 } else { 2 })?;
        let a = &mut attributes;
        let reverse: &[bool] = match a.text("direction")?.as_deref() {
            None | Some("forward") => &[false],
            Some("reverse") => &[true],
            Some("bidirectional") => &[false, true],
            Some(other) => {
                return Err(format!("attribute direction is \"{other}\"; forward, reverse, bidirectional are known"));
            }
        };
        let each = kind.activations().len();
        let activations = activations(a, each * reverse.len())?;
        let of = |k: usize| activations.as_ref().map(|all| all[k * each..(k + 1) * each].to_vec());
        let directions =
            reverse.iter().enumerate().map(|(k, &reverse)| Direction { reverse, activations: of(k) }).collect();
        let hidden = a.int("hidden_size")?;
        let hidden = hidden.map(|size| match usize::try_from(size) {
            Ok(size) if size > 0 => Ok(size),
            _ => Err(format!("attribute hidden_size is {size}, expected at least 1")),
        });
        let recurrent = Recurrent {
            kind,
            hidden: hidden.transpose()?,
            directions,
            clip: a.float("clip")?,
            coupled: kind == RecurrentOp::Lstm && a.flag("input_forget")?.unwrap_or(false),
            batch_first: a.opset >= 14 && a.flag("layout")?.unwrap_or(false),
            reset_after: kind == RecurrentOp::Gru && a.flag("linear_before_reset")?.unwrap_or(false),
            bias: has(B),
            peepholes: has(P),
            outputs: a.outputs.clone(),
            built: None,
        };
        attributes.done()?;
        // What no layer can be made of is known from here on.
        for lstm in recurrent.configs(recurrent.hidden.unwrap_or(1)) {
            lstm.validate_options("the layer").map_err(|error| error.to_string())?;
        }
        Ok(recurrent)
    }

    /// The configuration, where one layer runs all directions.
    pub fn config(&self, hidden: usize) -> Outcome<Lstm> {
        let mut configs = self.configs(hidden);
        match (configs.pop(), configs.is_empty()) {
            (Some(config), true) => Ok(config),
            _ => Err("its directions have different activations, so it is no single layer".into()),
        }
    }

    /// One layer for all directions, or one for each where they differ.
    fn configs(&self, hidden: usize) -> Vec<Lstm> {
        let one = |direction: &Direction| {
            let mut lstm = Lstm::new(hidden).bias(if self.bias { Bias::Double } else { Bias::None });
            lstm = lstm.cell(cell_of(self.kind, self.reset_after));
            for (place, &activation) in self.kind.activations().iter().zip(direction.activations.iter().flatten()) {
                lstm = match place {
                    Place::Gate => lstm.gate_activation(activation),
                    Place::Candidate => lstm.candidate_activation(activation),
                    Place::Output => lstm.output_activation(activation),
                };
            }
            if let Some(clip) = self.clip {
                lstm = lstm.clip(clip);
            }
            lstm.coupled(self.coupled).peepholes(self.peepholes).reverse(direction.reverse)
        };
        match &self.directions[..] {
            [forward, reverse] if forward.activations == reverse.activations => vec![one(forward).bidirectional(true)],
            all => all.iter().map(one).collect(),
        }
    }

    /// A layer of constant weights, batch first.
    pub async fn lift(&self, inputs: &Inputs<'_>, device: &Device) -> Result<LstmLayer, Wrong> {
        let sizes = self.sizes(inputs)?;
        let config = self.config(sizes.hidden)?;
        let parameters = self.parameters(inputs, &sizes, 0..self.directions.len())?;
        LstmLayer::with_parameters(config, device, sizes.input, parameters).await.map_err(engine)
    }

    /// Runs the node: Y, Y_h and, of an LSTM, Y_c.
    pub async fn run(&mut self, inputs: &Inputs<'_>, room: u64, device: &Device) -> Result<Vec<Value>, Wrong> {
        let sizes = self.sizes(inputs)?;
        let x = three(inputs, X)?;
        if x.dim().2 != sizes.input {
            return Err(format!("{} has {} features, W has {}", name(inputs, X), x.dim().2, sizes.input).into());
        }
        let (steps, batch) = if self.batch_first { (x.dim().1, x.dim().0) } else { (x.dim().0, x.dim().1) };
        if x.is_empty() {
            return Err(format!("{} is empty; every size must be at least 1", name(inputs, X)).into());
        }
        let (count, hidden) = (self.directions.len(), sizes.hidden);
        // The products of the gates, histories and outputs
        let bytes =
            4 * (steps as u128 * batch as u128) * (2 * sizes.input as u128 + count as u128 * 12 * hidden as u128);
        if bytes > u128::from(room) {
            return Err(
                format!("it needs about {bytes} bytes; {room} of the limit are left (Graph::memory_limit)").into()
            );
        }
        // Y as the layer gives it, as the node has it, and in between
        let output = 4 * (steps as u64).saturating_mul(batch as u64).saturating_mul((count * hidden) as u64);
        memory::probe(output.saturating_mul(3), "the output of a recurrent node").map_err(Wrong::Device)?;
        let lengths = lengths(inputs, steps, batch)?;
        let h = self.state(inputs, INITIAL_H, batch, hidden)?;
        let c = self.state(inputs, INITIAL_C, batch, if self.kind == RecurrentOp::Lstm { hidden } else { 0 })?;
        self.build(inputs, &sizes, device).await?;

        let shape = |first: usize, second: usize| (first, second, count, hidden);
        let mut y = ndarray::Array4::<f32>::zeros(match self.batch_first {
            true => shape(batch, steps),
            false => shape(steps, batch),
        });
        let (mut h_n, mut c_n) = (h.clone(), c.clone());
        let layers = self.built.iter().flat_map(|built| &built.layers);
        let mut first = 0;
        for layer in layers {
            let own = first..first + layer.config().directions();
            let of = |state: &Array3<f32>| state.slice(s![own.clone(), .., ..]).to_owned();
            let (initial, mut out) = (LstmState { h: of(&h), c: of(&c) }, LstmOutput::default());
            layer.forward_into_async(x, lengths.as_deref(), Some(&initial), &mut out).await.map_err(engine)?;
            let split = (y.dim().0, y.dim().1, own.len(), hidden);
            let output = out.output.into_shape_with_order(split).map_err(|error| error.to_string())?;
            y.slice_mut(s![.., .., own.clone(), ..]).assign(&output);
            h_n.slice_mut(s![own.clone(), .., ..]).assign(&out.state.h);
            c_n.slice_mut(s![own.clone(), .., ..]).assign(&out.state.c);
            first = own.end;
        }
        // A sequence of no steps ends with zeros, as ONNX Runtime has it.
        for (row, _) in lengths.iter().flatten().enumerate().filter(|&(_, &length)| length == 0) {
            h_n.index_axis_mut(Axis(1), row).fill(0.0);
            c_n.index_axis_mut(Axis(1), row).fill(0.0);
        }
        let state = |state: Array3<f32>| match self.batch_first {
            true => Value::from(state.permuted_axes([1, 0, 2])),
            false => state.into(),
        };
        let y = if self.batch_first { y.into() } else { Value::from(y.permuted_axes([0, 2, 1, 3])) };
        let mut all = vec![y, state(h_n)];
        if self.kind == RecurrentOp::Lstm {
            all.push(state(c_n));
        }
        all.truncate(self.outputs.len());
        Ok(all)
    }

    /// Makes the layers, and gives them the weights where these have changed.
    async fn build(&mut self, inputs: &Inputs<'_>, sizes: &Sizes, device: &Device) -> Result<(), Wrong> {
        let weights = WEIGHTS.map(|k| inputs.get(k).copied().flatten().cloned());
        let same = |a: &Option<Arc<Value>>, b: &Option<Arc<Value>>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        let shape = |value: &Option<Arc<Value>>| value.as_ref().map(|value| value.shape().to_vec());
        if let Some(built) = &self.built {
            if built.weights.iter().zip(&weights).all(|(a, b)| same(a, b)) {
                return Ok(());
            }
            if !built.weights.iter().zip(&weights).all(|(a, b)| shape(a) == shape(b)) {
                self.built = None;
            }
        }
        // In the crate's order, and one matrix on its way there
        let bytes = |k: usize| inputs.get(k).copied().flatten().map_or(0, |value| value.bytes());
        memory::probe(2 * (bytes(W) + bytes(R)), "the weights of a recurrent node").map_err(Wrong::Device)?;
        let mut built = self.built.take().map(|built| built.layers.into_iter());
        let (mut layers, mut first) = (Vec::new(), 0);
        for config in self.configs(sizes.hidden) {
            let own = first..first + config.directions();
            first = own.end;
            let parameters = self.parameters(inputs, sizes, own)?;
            layers.push(match built.as_mut().and_then(Iterator::next) {
                Some(layer) => {
                    layer.set_parameters(parameters).map_err(engine)?;
                    layer
                }
                None => {
                    let layer = LstmLayer::with_parameters(config, device, sizes.input, parameters);
                    layer.await.map_err(engine)?.time_major(!self.batch_first)
                }
            });
        }
        self.built = Some(Built { weights, layers });
        Ok(())
    }

    /// Features and hidden units, by the shapes of weights that fit each other.
    pub fn sizes(&self, inputs: &Inputs<'_>) -> Outcome<Sizes> {
        let (w, r) = (three(inputs, W)?, three(inputs, R)?);
        let (hidden, input) = (self.hidden.unwrap_or(r.dim().2), w.dim().2);
        let (directions, gates) = (self.directions.len(), self.kind.gates().len());
        let expect = |k: usize, expected: &[usize]| match inputs.get(k).copied().flatten() {
            Some(value) if value.shape() != expected => {
                Err(format!("{} must have the shape {}", name(inputs, k), shape_name(expected)))
            }
            _ => Ok(()),
        };
        let rows = gates.checked_mul(hidden).ok_or("attribute hidden_size is too large")?;
        expect(W, &[directions, rows, input])?;
        expect(R, &[directions, rows, hidden])?;
        expect(B, &[directions, 2 * rows])?;
        expect(P, &[directions, 3 * hidden])?;
        Ok(Sizes { input, hidden })
    }

    /// The parameters of some directions by PyTorch's names.
    fn parameters(
        &self,
        inputs: &Inputs<'_>,
        sizes: &Sizes,
        directions: std::ops::Range<usize>,
    ) -> Outcome<BTreeMap<String, ArrayD<f32>>> {
        let mut all = BTreeMap::new();
        let (gates, rows) = (self.kind.gates(), self.kind.gates().len() * sizes.hidden);
        for (direction, suffix) in directions.zip(["", "_reverse"]) {
            let matrix = |k: usize| -> Outcome<ArrayD<f32>> {
                let matrix = three(inputs, k)?.index_axis_move(Axis(0), direction);
                Ok(reordered(&matrix.to_owned().into_dyn(), gates))
            };
            all.insert(format!("weight_ih_l0{suffix}"), matrix(W)?);
            all.insert(format!("weight_hh_l0{suffix}"), matrix(R)?);
            let vector = |k: usize| -> Outcome<Option<Array1<f32>>> {
                let Some(value) = inputs.get(k).copied().flatten() else { return Ok(None) };
                let array = value.array::<f32>().ok_or_else(|| format!("{} must be f32", name(inputs, k)))?;
                Ok(Some(array.index_axis(Axis(0), direction).iter().copied().collect()))
            };
            if let Some(bias) = vector(B)? {
                for (kind, range) in [("bias_ih", 0..rows), ("bias_hh", rows..2 * rows)] {
                    let part = bias.slice(s![range]).to_owned().into_dyn();
                    all.insert(format!("{kind}_l0{suffix}"), reordered(&part, gates));
                }
            }
            if let Some(peepholes) = vector(P)? {
                all.insert(format!("peephole_l0{suffix}"), reordered(&peepholes.into_dyn(), PEEPHOLES));
            }
        }
        Ok(all)
    }

    /// An initial state as [D, B, width], zeros where there is none.
    fn state(&self, inputs: &Inputs<'_>, k: usize, batch: usize, width: usize) -> Outcome<Array3<f32>> {
        let directions = self.directions.len();
        if inputs.get(k).copied().flatten().is_none() {
            return Ok(Array3::zeros((directions, batch, width)));
        }
        let state = three(inputs, k)?;
        let shape = if self.batch_first { (batch, directions, width) } else { (directions, batch, width) };
        if state.dim() != shape {
            return Err(format!("{} must have the shape {shape:?}", name(inputs, k)));
        }
        Ok(if self.batch_first { state.permuted_axes([1, 0, 2]).to_owned() } else { state.to_owned() })
    }
}

/// Sizes of a node's weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Features I.
    pub input: usize,
    /// Units H.
    pub hidden: usize,
}

/// The cell of a node; of a GRU, by its `linear_before_reset`.
fn cell_of(kind: RecurrentOp, reset_after: bool) -> Cell {
    match (kind, reset_after) {
        (RecurrentOp::Lstm, _) => Cell::Standard,
        (RecurrentOp::Gru, true) => Cell::Gru,
        (RecurrentOp::Gru, false) => Cell::GruResetBefore,
        (RecurrentOp::Rnn, _) => Cell::Rnn,
    }
}

/// The node of a cell, and `linear_before_reset`.
pub(super) fn node_of(cell: Cell) -> Outcome<(RecurrentOp, bool)> {
    match cell {
        Cell::Standard => Ok((RecurrentOp::Lstm, false)),
        Cell::Gru => Ok((RecurrentOp::Gru, true)),
        Cell::GruResetBefore => Ok((RecurrentOp::Gru, false)),
        Cell::Rnn => Ok((RecurrentOp::Rnn, false)),
        Cell::Article => Err("ONNX has no operator for the article's cell".into()),
        cell => Err(format!("a layer of the {} cell cannot be written", cell.spec().name)),
    }
}

/// Activations with their numbers, which those that take some use up in their order.
fn activations(attributes: &mut Attributes, count: usize) -> Outcome<Option<Vec<crate::Activation>>> {
    let names = attributes.texts("activations")?;
    let mut alphas = attributes.floats("activation_alpha")?.unwrap_or_default().into_iter();
    let mut betas = attributes.floats("activation_beta")?.unwrap_or_default().into_iter();
    let activations = match names {
        None => None,
        Some(names) if names.len() != count => {
            return Err(format!("attribute activations has {} names, expected {count}: {names:?}", names.len()));
        }
        Some(names) => {
            let one = |name: &String| {
                let named = Named::of(name).ok_or_else(|| format!("its activation {name} is not known"))?;
                let alpha = named.alpha.and_then(|_| alphas.next());
                let beta = named.beta.and_then(|_| betas.next());
                Ok(named.with(alpha, beta))
            };
            Some(names.iter().map(one).collect::<Outcome<Vec<_>>>()?)
        }
    };
    match alphas.len() + betas.len() {
        0 => Ok(activations),
        left => Err(format!("{left} numbers of activation_alpha and activation_beta belong to no activation")),
    }
}

/// Rows in blocks, in another order: block k of the result is block `order[k]`.
fn reordered(array: &ArrayD<f32>, order: &[usize]) -> ArrayD<f32> {
    let rows = array.shape()[0] / order.len();
    let places: Vec<usize> = order.iter().flat_map(|&block| block * rows..(block + 1) * rows).collect();
    array.select(Axis(0), &places)
}

/// The other way round: block `order[k]` of the result is block k.
pub(super) fn restored(array: &ArrayD<f32>, order: &[usize]) -> ArrayD<f32> {
    let inverse: Vec<usize> =
        (0..order.len()).map(|block| order.iter().position(|&k| k == block).unwrap_or_default()).collect();
    reordered(array, &inverse)
}

/// An input by its name in the operator, with type and shape.
fn name(inputs: &Inputs<'_>, k: usize) -> String {
    match inputs.get(k).copied().flatten() {
        Some(value) => format!("its input {} ({} {})", NAMES[k], value.kind(), shape_name(value.shape())),
        None => format!("its input {}", NAMES[k]),
    }
}

/// An input of three axes.
fn three<'a>(inputs: &Inputs<'a>, k: usize) -> Outcome<ndarray::ArrayView3<'a, f32>> {
    let value = inputs.get(k).copied().flatten().ok_or_else(|| format!("{} is missing", name(inputs, k)))?;
    let array = value.array::<f32>().and_then(|array| array.view().into_dimensionality::<Ix3>().ok());
    array.ok_or_else(|| format!("{} must be f32, of three axes", name(inputs, k)))
}

/// The lengths of sequences, where they are given.
fn lengths(inputs: &Inputs<'_>, steps: usize, batch: usize) -> Outcome<Option<Vec<usize>>> {
    let Some(value) = inputs.get(LENGTHS).copied().flatten() else { return Ok(None) };
    let array = value.array::<i32>().filter(|array| array.shape() == [batch]);
    let array = array.ok_or_else(|| format!("{} must be i32 of the shape [{batch}]", name(inputs, LENGTHS)))?;
    let length = |&length: &i32| match usize::try_from(length) {
        Ok(length) if length <= steps => Ok(length),
        _ => Err(format!("its input sequence_lens holds {length}; X has {steps} steps")),
    };
    array.iter().map(length).collect::<Outcome<Vec<usize>>>().map(Some)
}

/// W, R, B and P of a layer's parameters, as files have them: [D, ...] each.
pub(super) fn weights(
    parameters: &BTreeMap<String, ArrayD<f32>>,
    kind: RecurrentOp,
    layer: usize,
    directions: usize,
    hidden: usize,
) -> Outcome<[Option<Value>; 4]> {
    let gates = kind.gates();
    let suffixes = || ["", "_reverse"].into_iter().take(directions);
    let get = |kind: &str, suffix: &str| parameters.get(&format!("{kind}_l{layer}{suffix}"));
    let stacked = |parts: Vec<ArrayD<f32>>| -> Outcome<Value> {
        let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
        ndarray::stack(Axis(0), &views).map(Value::from).map_err(|error| error.to_string())
    };
    let matrix = |kind: &str| {
        let part = |suffix: &str| {
            let array = get(kind, suffix).ok_or_else(|| format!("{kind}_l{layer}{suffix} is missing"))?;
            Ok(restored(array, gates))
        };
        stacked(suffixes().map(part).collect::<Outcome<Vec<_>>>()?)
    };
    let bias = match get("bias_ih", "") {
        None => None,
        Some(_) => {
            let part = |suffix: &str| {
                let mut both = Array2::<f32>::zeros((2, gates.len() * hidden));
                for (k, kind) in ["bias_ih", "bias_hh"].into_iter().enumerate() {
                    if let Some(array) = get(kind, suffix) {
                        let array: Array1<f32> = restored(array, gates).iter().copied().collect();
                        both.row_mut(k).assign(&array);
                    }
                }
                both.flatten().to_owned().into_dyn()
            };
            Some(stacked(suffixes().map(part).collect())?)
        }
    };
    let peepholes = match get("peephole", "") {
        None => None,
        Some(_) => {
            let part = |suffix: &str| get("peephole", suffix).map(|array| restored(array, PEEPHOLES));
            Some(stacked(suffixes().filter_map(part).collect())?)
        }
    };
    Ok([Some(matrix("weight_ih")?), Some(matrix("weight_hh")?), bias, peepholes])
}
