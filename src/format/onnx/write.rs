//! Models and layers as ONNX files: operator set 17, which has everything that is needed and is read by every runtime of the
//! last years.

use super::activation::written;
use super::call::Outcome;
use super::proto::*;
use super::recurrent::{self, Place, RecurrentOp};
use super::tensor;
use super::value::{Element, Value};
use crate::activation::Activation;
use crate::error::{Error, Result};
use crate::files::replace;
use crate::layer::{Dense, Embedding, Layer, LayerNorm, Lstm, Merge, Options, Pool};
use crate::model::{LstmLayer, Model};
use crate::network::Node;
use crate::transfer::finite;
use ndarray::{Array1, ArrayD, arr0};
use prost::Message;
use prost::bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;

/// The operator set of what is written, and the version of the file format that came with it.
const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

/// Largest message that protobuf readers take, in bytes.
const LARGEST: usize = i32::MAX as usize;

/// Writes a model: its input is "input" [B, T, I], its output "output" [B, T, F] or [B, F], with any B and T. Recurrent layers
/// become LSTM, GRU and RNN nodes; dropout, which does nothing outside of training, is left out. The file is written beside its place
/// and renamed.
///
/// # Errors
/// A layer or option that ONNX has no operator for, by name: the article's cell, projection, clipped cell states, zoneout; numbers
/// that are not finite; a file that cannot be written or would pass 2 GiB; a device that failed.
///
/// ```
/// use ndarray::Array3;
/// use std::collections::BTreeMap;
/// use wgpu_lstm::{Dense, Device, Lstm, Sequential, format::onnx};
/// let path = std::env::temp_dir().join("wgpu-lstm-doc.onnx");
/// let device = Device::cpu();
/// let mut model = Sequential::new(3).add(Lstm::new(8)).add(Dense::new(2)).build(&device, 1)?;
/// onnx::save(&model, &path)?;
/// let x = Array3::from_elem((4, 5, 3), 0.5);
/// let outputs = onnx::Graph::load(&path, &device)?.run(BTreeMap::from([("input".into(), x.clone().into())]))?;
/// let expected = model.predict(x.view())?;
/// assert!((outputs["output"].array::<f32>().unwrap() - &expected).iter().all(|d| d.abs() < 1e-6));
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
pub fn save(model: &Model, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let config = model.config()?;
    let parameters = model.parameters()?;
    let plans = config.nodes()?;
    check(&parameters)?;
    let mut writer = Writer::default();
    let mut whole = true;
    let mut at = INPUT.to_string();
    for plan in &plans {
        let refused = |reason: String| Error::Config(format!("{} cannot be written as ONNX: {reason}", plan.name));
        at = writer.layer(plan, &parameters, at, &mut whole).map_err(refused)?;
    }
    writer.name_output(&at, OUTPUT);
    let any = |name: &str| size(None, name);
    let mut output = vec![any("batch")];
    output.extend(whole.then(|| any("time")));
    output.push(size(Some(config.output()), ""));
    let inputs = vec![port(INPUT, vec![any("batch"), any("time"), size(Some(config.input), "")])];
    writer.finish(path, inputs, vec![port(OUTPUT, output)])
}

/// Writes a bare LSTM, GRU or RNN: "input" [B, T, I] to "output" [B, T, D·H], "h_n" [L·D, B, H] and, of an LSTM, "c_n" [L·D, B, H],
/// from initial states of 0. Batch-first, whatever the layer is.
///
/// # Errors
/// As [`save`].
///
/// ```
/// use wgpu_lstm::{Device, Lstm, format::onnx};
/// let path = std::env::temp_dir().join("wgpu-lstm-layer-doc.onnx");
/// let lstm = Lstm::new(8).layers(2).bidirectional(true).build(&Device::cpu(), 3, 1)?;
/// onnx::save_layer(&lstm, &path)?;
/// let graph = onnx::Graph::load(&path, &Device::cpu())?;
/// assert_eq!(graph.outputs().len(), 3);
/// assert_eq!(graph.recurrent().len(), 2);
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
pub fn save_layer(layer: &LstmLayer, path: impl AsRef<Path>) -> Result<()> {
    save_bare(layer, path.as_ref(), false)
}

/// [`save_layer`] with the initial states as further inputs, "h_0" and, of an LSTM, "c_0", both [L·D, B, H]: fed with the last
/// call's "h_n" and "c_n", another runtime goes on where it was.
///
/// # Errors
/// As [`save`].
///
/// ```
/// use wgpu_lstm::{Device, Lstm, format::onnx};
/// let path = std::env::temp_dir().join("wgpu-lstm-stateful-doc.onnx");
/// onnx::save_layer_with_states(&Lstm::new(8).build(&Device::cpu(), 3, 1)?, &path)?;
/// let graph = onnx::Graph::load(&path, &Device::cpu())?;
/// let names: Vec<&str> = graph.inputs().iter().map(|port| &port.name[..]).collect();
/// assert_eq!(names, ["input", "h_0", "c_0"]);
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
pub fn save_layer_with_states(layer: &LstmLayer, path: impl AsRef<Path>) -> Result<()> {
    save_bare(layer, path.as_ref(), true)
}

fn save_bare(layer: &LstmLayer, path: &Path, with_states: bool) -> Result<()> {
    let config = layer.config();
    let parameters = layer.parameters()?;
    check(&parameters)?;
    let input = parameters.get("weight_ih_l0").map_or(0, |weight| weight.shape()[1]);
    let mut writer = Writer::default();
    let mut states = vec!["h_n"];
    let refused = |reason: String| Error::Config(format!("the layer cannot be written as ONNX: {reason}"));
    let (kind, _) = recurrent::node_of(config.cell).map_err(refused)?;
    states.extend((kind == RecurrentOp::Lstm).then_some("c_n"));
    let initial = if with_states { vec!["h_0", "c_0"] } else { vec![] };
    let initial = &initial[..initial.len().min(states.len())];
    let lstm = Lstm { return_sequences: true, ..config.clone() };
    let out = writer.recurrent("lstm", &lstm, &parameters, INPUT.into(), initial).map_err(refused)?;
    writer.name_output(&out.output, OUTPUT);
    for (name, parts) in states.iter().zip([out.h, out.c]) {
        writer.emit("Concat", "lstm", &parts, vec![int("axis", 0)], name);
    }
    let any = |name: &str| size(None, name);
    let rows = config.layers * config.directions();
    let state = |name: &&str| port(name, vec![size(Some(rows), ""), any("batch"), size(Some(config.hidden), "")]);
    let mut inputs = vec![port(INPUT, vec![any("batch"), any("time"), size(Some(input), "")])];
    inputs.extend(initial.iter().map(state));
    let mut outputs = vec![port(OUTPUT, vec![any("batch"), any("time"), size(Some(config.output()), "")])];
    outputs.extend(states.iter().map(state));
    writer.finish(path, inputs, outputs)
}

const INPUT: &str = "input";
const OUTPUT: &str = "output";

/// Parameters by PyTorch's names.
type Parameters = BTreeMap<String, ArrayD<f32>>;

fn check(parameters: &Parameters) -> Result<()> {
    parameters.iter().try_for_each(|(name, array)| finite(&format!("tensor {name}"), "[...]", &array.view()))
}

/// A graph that grows.
#[derive(Default)]
struct Writer {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

/// Names of what a recurrent stack makes.
struct Made {
    /// [B, T, F], or [B, F] where only the last step is passed on.
    output: String,
    /// [D, B, H] of each layer.
    h: Vec<String>,
    c: Vec<String>,
}

impl Writer {
    /// Adds a node whose output has this name.
    fn emit(&mut self, op: &str, layer: &str, inputs: &[String], attribute: Vec<AttributeProto>, output: &str) {
        self.nodes.push(NodeProto {
            input: inputs.to_vec(),
            output: vec![output.into()],
            name: format!("{layer}/{op}_{}", self.nodes.len()),
            op_type: op.into(),
            attribute,
            domain: String::new(),
        });
    }

    /// Adds a node; gives the name of its output.
    fn node(&mut self, op: &str, layer: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        let output = format!("{layer}.{}_{}", op.to_lowercase(), self.nodes.len());
        let inputs: Vec<String> = inputs.iter().map(|input| input.to_string()).collect();
        self.emit(op, layer, &inputs, attribute, &output);
        output
    }

    /// Adds a tensor; gives its name.
    fn constant(&mut self, name: String, value: &Value) -> String {
        self.constants.push(tensor::write(&name, value));
        name
    }

    /// Adds a small tensor of whole numbers, of one axis.
    fn integers(&mut self, layer: &str, values: &[i64]) -> String {
        let name = format!("{layer}.constant_{}", self.constants.len());
        self.constant(name, &Array1::from(values.to_vec()).into())
    }

    /// Adds one number.
    fn number<T: Element>(&mut self, layer: &str, value: T) -> String {
        let name = format!("{layer}.constant_{}", self.constants.len());
        self.constant(name, &arr0(value).into())
    }

    /// Gives a value the name of an output.
    fn name_output(&mut self, value: &str, name: &str) {
        let outputs = self.nodes.iter_mut().flat_map(|node| &mut node.output);
        match outputs.into_iter().find(|output| *output == value) {
            Some(output) => *output = name.into(),
            None => self.emit("Identity", name, &[value.to_string()], vec![], name),
        }
    }

    /// A layer of a model on a value; gives its output.
    fn layer(&mut self, plan: &Node, parameters: &Parameters, x: String, whole: &mut bool) -> Outcome<String> {
        let (name, prefix) = (&plan.name[..], format!("{}.", plan.name));
        let own = |name: &str| Some((name.strip_prefix(&prefix)?.to_string(), parameters[name].clone()));
        let own: Parameters = parameters.keys().filter_map(|name| own(name)).collect();
        let get = |kind: &str| own.get(kind).ok_or_else(|| format!("its {kind} is missing"));
        let last_axis = || vec![int("axis", -1)];
        let along_time = || vec![ints("axes", &[1]), int("keepdims", 0)];
        let y = match &plan.layer {
            Layer::Lstm(lstm) => self.recurrent(name, lstm, &own, x, &[])?.output,
            // Fields are all named, so that none is forgotten that comes later.
            &Layer::Dense(Dense { units: _, bias, activation, init: _ }) => {
                let weight = get("weight")?.view().reversed_axes().to_owned();
                let weight = self.constant(format!("{name}.weight"), &weight.into());
                let mut y = self.node("MatMul", name, &[&x, &weight], vec![]);
                if bias {
                    let bias = self.constant(format!("{name}.bias"), &get("bias")?.clone().into());
                    y = self.node("Add", name, &[&y, &bias], vec![]);
                }
                self.activation(name, activation, y)
            }
            Layer::Dropout(_) => x,
            &Layer::Activation(activation) => self.activation(name, activation, x),
            Layer::Pool(Pool::Last) => {
                let last = self.number(name, -1i64);
                self.node("Gather", name, &[&x, &last], vec![int("axis", 1)])
            }
            Layer::Pool(Pool::Mean) => self.node("ReduceMean", name, &[&x], along_time()),
            Layer::Pool(Pool::Max | Pool::MaxWithPadding) => self.node("ReduceMax", name, &[&x], along_time()),
            Layer::Pool(Pool::Sum) => {
                // Its axes are an input since operator set 13.
                let axes = self.integers(name, &[1]);
                self.node("ReduceSum", name, &[&x, &axes], vec![int("keepdims", 0)])
            }
            &Layer::LayerNorm(LayerNorm { epsilon }) => {
                let weight = self.constant(format!("{name}.weight"), &get("weight")?.clone().into());
                let bias = self.constant(format!("{name}.bias"), &get("bias")?.clone().into());
                let attributes = [last_axis(), vec![float("epsilon", epsilon)]].concat();
                self.node("LayerNormalization", name, &[&x, &weight, &bias], attributes)
            }
            Layer::Add(_)
            | Layer::Average(_)
            | Layer::Multiply(_)
            | Layer::Maximum(_)
            | Layer::Concat(_)
            | Layer::Attention(_) => {
                return Err("takes several inputs, which a chain of layers does not give".into());
            }
            Layer::Repeat(_) => return Err("repeats a vector over time, which is not written to ONNX".into()),
            Layer::AttentionPool(_) => return Err("pools by attention, which is not written to ONNX".into()),
            Layer::Conv1d(_) => return Err("is a convolution, which is not written to ONNX files".into()),
            Layer::WindowPool(_) => return Err("pools windows of time, which is not written to ONNX files".into()),
            Layer::ZeroPad(_) => return Err("adds steps of zeros, which is not written to ONNX files".into()),
            Layer::BatchNorm(_) => return Err("normalises batches, which is not written to ONNX files".into()),
            Layer::Masking(_) | Layer::Embedding(Embedding { mask_zero: true, .. }) => {
                return Err("tells padding from values, which no operator of ONNX does; give lengths instead".into());
            }
            Layer::Embedding(Embedding { entries: _, features: _, mask_zero: false, init: _ }) => {
                let weight = self.constant(format!("{name}.weight"), &get("weight")?.clone().into());
                let axis = self.integers(name, &[-1]);
                let indices = self.node("Squeeze", name, &[&x, &axis], vec![]);
                let indices = self.node("Cast", name, &[&indices], vec![int("to", i64::DATA_TYPE.into())]);
                self.node("Gather", name, &[&weight, &indices], vec![int("axis", 0)])
            }
        };
        *whole &= !plan.layer.operator().ends_sequence();
        Ok(y)
    }

    /// Adds the activation of a sum.
    fn activation(&mut self, name: &str, activation: Activation, x: String) -> String {
        match activation {
            Activation::Affine { alpha, beta } => {
                let (alpha, beta) = (self.number(name, alpha), self.number(name, beta));
                let scaled = self.node("Mul", name, &[&x, &alpha], vec![]);
                self.node("Add", name, &[&scaled, &beta], vec![])
            }
            Activation::ScaledTanh { alpha, beta } => {
                let (alpha, beta) = (self.number(name, alpha), self.number(name, beta));
                let scaled = self.node("Mul", name, &[&x, &beta], vec![]);
                let tanh = self.node("Tanh", name, &[&scaled], vec![]);
                self.node("Mul", name, &[&tanh, &alpha], vec![])
            }
            other => match written(other) {
                None => x,
                Some((op, alpha, beta)) => {
                    let attributes = [("alpha", alpha), ("beta", beta)];
                    let attributes = attributes.iter().filter_map(|&(name, value)| Some(float(name, value?)));
                    let attributes = attributes.collect();
                    self.node(op, name, &[&x], attributes)
                }
            },
        }
    }

    /// A stack of recurrent layers on [B, T, I], from `initial` states [L·D, B, H] by name.
    fn recurrent(&mut self, name: &str, lstm: &Lstm, own: &Parameters, x: String, initial: &[&str]) -> Outcome<Made> {
        let attributes = attributes(lstm)?;
        let (kind, _) = recurrent::node_of(lstm.cell)?;
        let directions = lstm.directions();
        let mut at = self.node("Transpose", name, &[&x], vec![ints("perm", &[1, 0, 2])]);
        let (mut h, mut c) = (Vec::new(), Vec::new());
        let mut y = String::new();
        for layer in 0..lstm.layers {
            if layer > 0 {
                // [T, D, B, H] to [T, B, D·H]
                let turned = self.node("Transpose", name, &[&y], vec![ints("perm", &[0, 2, 1, 3])]);
                let shape = self.integers(name, &[0, 0, -1]);
                at = self.node("Reshape", name, &[&turned, &shape], vec![]);
            }
            let [w, r, b, p] = recurrent::weights(own, kind, layer, directions, lstm.hidden)?;
            let mut inputs = vec![at.clone()];
            for (kind, value) in [("W", w), ("R", r), ("B", b)] {
                let constant = value.map(|value| self.constant(format!("{name}.{kind}_{layer}"), &value));
                inputs.push(constant.unwrap_or_default());
            }
            inputs.push(String::new()); // lengths
            for state in initial {
                let rows = |from: usize| (from * directions) as i64;
                let (start, end) = (self.integers(name, &[rows(layer)]), self.integers(name, &[rows(layer + 1)]));
                inputs.push(match lstm.layers {
                    1 => state.to_string(),
                    _ => self.node("Slice", name, &[state, &start, &end], vec![]),
                });
            }
            if let Some(p) = p {
                inputs.resize(7, String::new());
                inputs.push(self.constant(format!("{name}.P_{layer}"), &p));
            }
            while inputs.last().is_some_and(String::is_empty) {
                inputs.pop();
            }
            let outputs = ["Y", "Y_h", "Y_c"].map(|output| format!("{name}.{output}_{layer}"));
            let outputs = &outputs[..if kind == RecurrentOp::Lstm { 3 } else { 2 }];
            self.nodes.push(NodeProto {
                input: inputs,
                output: outputs.to_vec(),
                name: format!("{name}/{}_{layer}", kind.name()),
                op_type: kind.name().into(),
                attribute: attributes.clone(),
                domain: String::new(),
            });
            y = outputs[0].clone();
            h.push(outputs[1].clone());
            c.extend(outputs.get(2).cloned());
        }
        // [B, T, D, H] or [B, D, H]
        let mut turned = match (lstm.return_sequences, h.last()) {
            (true, _) | (_, None) => self.node("Transpose", name, &[&y], vec![ints("perm", &[2, 0, 1, 3])]),
            (false, Some(h)) => self.node("Transpose", name, &[h], vec![ints("perm", &[1, 0, 2])]),
        };
        if lstm.options.go_backwards && lstm.return_sequences {
            // From the last step to the first
            let bounds = [-1, i64::MIN, 1, -1].map(|bound| self.integers(name, &[bound]));
            let [start, end, axis, step] = &bounds;
            turned = self.node("Slice", name, &[&turned, start, end, axis, step], vec![]);
        }
        let axis = if lstm.return_sequences { 2 } else { 1 };
        let operator = match lstm.options.merge {
            Merge::Concat => None,
            Merge::Sum | Merge::Ave => Some("Add"),
            Merge::Mul => Some("Mul"),
        };
        let output = match operator {
            None => {
                let shape: &[i64] = if lstm.return_sequences { &[0, 0, -1] } else { &[0, -1] };
                let shape = self.integers(name, shape);
                self.node("Reshape", name, &[&turned, &shape], vec![])
            }
            Some(operator) => {
                let halves = [0i64, 1].map(|direction| {
                    let index = self.number(name, direction);
                    self.node("Gather", name, &[&turned, &index], vec![int("axis", axis)])
                });
                let merged = self.node(operator, name, &[&halves[0], &halves[1]], vec![]);
                match lstm.options.merge {
                    Merge::Ave => {
                        let half = self.number(name, 0.5f32);
                        self.node("Mul", name, &[&merged, &half], vec![])
                    }
                    _ => merged,
                }
            }
        };
        Ok(Made { output, h, c })
    }

    fn finish(self, path: &Path, input: Vec<ValueInfoProto>, output: Vec<ValueInfoProto>) -> Result<()> {
        let graph = GraphProto {
            node: self.nodes,
            name: "wgpu-lstm".into(),
            initializer: self.constants,
            input,
            output,
            sparse_initializer: vec![],
        };
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "wgpu-lstm".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(graph),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        };
        let bytes = model.encoded_len();
        if bytes > LARGEST {
            return Err(Error::format(path, format!("would have {bytes} bytes; ONNX files have at most {LARGEST}")));
        }
        crate::memory::probe(bytes as u64, format_args!("the bytes of \"{}\"", path.display()))?;
        replace(path, model.encode_to_vec())
    }
}

/// The attributes of a recurrent node; refuses what it has none for. Every option is named here, so that none is forgotten.
fn attributes(lstm: &Lstm) -> Outcome<Vec<AttributeProto>> {
    let Options {
        heads,
        projection,
        layer_norm,
        peepholes: _, // an input
        coupled,
        clip,
        cell_clip,
        gate_activation,
        activation,
        output_activation,
        forget_bias: _,   // of initial weights
        merge: _,         // nodes of their own
        go_backwards,     // reverse, and turned round by a node
        repeat_output: _, // there are no lengths
        dropout: _,       // training only, as the next three
        input_dropout: _,
        recurrent_dropout: _,
        weight_dropout: _,
        reverse,
        zoneout_h,
        zoneout_c,
    } = lstm.options;
    let (kind, reset_after) = recurrent::node_of(lstm.cell)?;
    for (what, there) in [
        ("heads", heads > 1),
        ("projection", projection.is_some()),
        ("layer normalisation", layer_norm),
        ("clip of the cell state", cell_clip.is_some()),
        ("zoneout", zoneout_h > 0.0 || zoneout_c > 0.0),
    ] {
        if there {
            return Err(format!("ONNX's {} has no {what}", kind.name()));
        }
    }
    let direction = match (lstm.bidirectional, reverse || go_backwards) {
        (true, _) => "bidirectional",
        (false, true) => "reverse",
        (false, false) => "forward",
    };
    let mut all = vec![int("hidden_size", lstm.hidden as i64), text("direction", direction)];
    all.extend((kind == RecurrentOp::Gru).then(|| int("linear_before_reset", reset_after.into())));
    all.extend(coupled.then(|| int("input_forget", 1))); // of an LSTM
    all.extend(clip.map(|clip| float("clip", clip)));
    // Each with the operator's default
    let each = kind.activations().iter().map(|place| match place {
        Place::Gate => (gate_activation, Activation::Sigmoid),
        Place::Candidate => (activation, Activation::Tanh),
        Place::Output => (output_activation, Activation::Tanh),
    });
    let (each, usual): (Vec<_>, Vec<_>) = each.unzip();
    if each != usual {
        // A cell's activation has a name even where it is none.
        let nothing = ("Affine", Some(1.0), Some(0.0));
        let named = each.iter().map(|&activation| written(activation).unwrap_or(nothing));
        let named: Vec<_> = named.cycle().take(each.len() * lstm.directions()).collect();
        all.push(texts("activations", named.iter().map(|(name, _, _)| *name)));
        for (name, numbers) in [
            ("activation_alpha", named.iter().filter_map(|named| named.1).collect::<Vec<f32>>()),
            ("activation_beta", named.iter().filter_map(|named| named.2).collect()),
        ] {
            if !numbers.is_empty() {
                all.push(AttributeProto { floats: numbers, ..attribute(name, kind::FLOATS) });
            }
        }
    }
    Ok(all)
}

fn attribute(name: &str, kind: i32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind, ..AttributeProto::default() }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, kind::INT) }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, kind::INTS) }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, kind::FLOAT) }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(Bytes::from(value.to_string())), ..attribute(name, kind::STRING) }
}

fn texts<'a>(name: &str, values: impl Iterator<Item = &'a str>) -> AttributeProto {
    AttributeProto {
        strings: values.map(|value| Bytes::from(value.to_string())).collect(),
        ..attribute(name, kind::STRINGS)
    }
}

/// An axis of this size, or of any under a name.
fn size(fixed: Option<usize>, name: &str) -> DimensionProto {
    DimensionProto { dim_value: fixed.map(|size| size as i64), dim_param: fixed.is_none().then(|| name.to_string()) }
}

/// An input or output of f32.
fn port(name: &str, dim: Vec<DimensionProto>) -> ValueInfoProto {
    let tensor = TensorTypeProto { elem_type: f32::DATA_TYPE, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}
