//! Layers for the nodes around a graph's recurrent ones. Operators are taken by their type, not by every attribute: running both then
//! shows if the layers compute what the graph does.

use crate::compare::Difference;
use anyhow::{Context, Result, bail, ensure};
use ndarray::{ArrayD, Axis, Ix2};
use std::collections::{BTreeMap, HashSet};
use wgpu_lstm::format::onnx::{Graph, GraphNode, Port, Size, Value};
use wgpu_lstm::{Activation, Dense, Embedding, Layer, LayerNorm, Model, Pool};

/// A layer and its parameters.
pub struct LayerWithParameters {
    pub layer: Layer,
    pub parameters: BTreeMap<String, ArrayD<f32>>,
}

fn required(graph: &Graph) -> impl Iterator<Item = &Port> {
    graph.inputs().iter().filter(|input| !input.optional)
}

/// The table that the graph's input picks from, where it does.
pub fn embedding(graph: &Graph) -> Result<Option<LayerWithParameters>> {
    // They may be cast, and lose an axis of 1, first.
    let mut indices: HashSet<String> = required(graph).map(|input| input.name.clone()).collect();
    for node in graph.nodes() {
        match (&node.op[..], &node.inputs[..]) {
            ("Cast" | "Identity" | "Squeeze" | "Reshape", [from, ..]) if indices.contains(from) => {
                indices.extend(node.outputs)
            }
            ("Gather", [table, from]) if indices.contains(from) => {
                let weight = graph.constant(table)?.to_f32();
                let &[entries, features] = weight.shape() else { return Ok(None) };
                let layer = Embedding::new(entries, features).into();
                return Ok(Some(LayerWithParameters {
                    layer,
                    parameters: BTreeMap::from([("weight".into(), weight)]),
                }));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Layers after the recurrent node of this name, which gives so many features, and true if they take the node's final state.
/// `picks`: whether operators that pick, pick the last step; they may pick directions.
pub fn after(
    graph: &Graph,
    recurrent: &str,
    mut features: usize,
    picks: bool,
) -> Result<(bool, Vec<LayerWithParameters>)> {
    let mut parts: Vec<LayerWithParameters> = Vec::new();
    let mut states = HashSet::new();
    let (mut takes_state, mut active) = (false, false);
    // Names of what comes out of the chain so far.
    let mut reached = HashSet::new();
    for node in graph.nodes() {
        if node.name == recurrent {
            reached.extend(node.outputs.iter().filter(|name| !name.is_empty()).cloned());
            states.extend(node.outputs.into_iter().skip(1));
            continue;
        }
        if !node.inputs.iter().any(|name| reached.contains(name)) {
            continue;
        }
        takes_state |= node.inputs.iter().any(|name| states.contains(name));
        // The other operand, where it is constant.
        let mut constants = node.inputs.iter().filter(|name| !name.is_empty() && !reached.contains(*name));
        let mut constant = || -> Result<ArrayD<f32>> {
            let name = constants.next().with_context(|| cannot(&node, "it has no constant operand"))?;
            Ok(graph.constant(name)?.to_f32())
        };
        match &node.op[..] {
            // They move numbers; the last step is picked by one of them, or is the state that the node gives.
            "Transpose" | "Squeeze" | "Unsqueeze" | "Reshape" | "Identity" | "Dropout" | "Concat" | "Cast"
            | "Flatten" => {}
            // What is made of sizes is no part of the chain.
            "Shape" => continue,
            "Gather" | "Slice" | "Split" => {
                if picks && parts.is_empty() && !takes_state {
                    parts.push(LayerWithParameters { layer: Pool::Last.into(), parameters: BTreeMap::new() });
                }
            }
            "ReduceMean" => parts.push(LayerWithParameters { layer: Pool::Mean.into(), parameters: BTreeMap::new() }),
            "ReduceMax" => parts.push(LayerWithParameters { layer: Pool::Max.into(), parameters: BTreeMap::new() }),
            "MatMul" | "Gemm" => {
                let weight = constant()?
                    .into_dimensionality::<Ix2>()
                    .with_context(|| cannot(&node, "its weights are no matrix"))?;
                // [in, out], or [out, in] where a Gemm transposes it; of square ones, exports of PyTorch do.
                let transposes = node.op == "Gemm" && weight.ncols() == features;
                let weight = if transposes { weight } else { weight.reversed_axes() };
                ensure!(weight.ncols() == features, cannot(&node, &format!("it does not take {features} features")));
                (features, active) = (weight.nrows(), false);
                let bias = (node.op == "Gemm" && node.inputs.len() > 2).then(&mut constant).transpose()?;
                let mut parameters =
                    BTreeMap::from([("weight".to_string(), weight.as_standard_layout().to_owned().into_dyn())]);
                let layer = Dense::new(features).bias(bias.is_some()).into();
                parameters.extend(bias.map(|bias| ("bias".to_string(), bias)));
                parts.push(LayerWithParameters { layer, parameters });
            }
            "Add" => {
                let bias = constant()?;
                let Some(LayerWithParameters { layer: Layer::Dense(dense), parameters }) = parts.last_mut() else {
                    bail!(cannot(&node, "it follows no product"));
                };
                ensure!(!parameters.contains_key("bias"), cannot(&node, "the product has a bias"));
                *dense = dense.clone().bias(true);
                parameters.insert("bias".into(), bias);
            }
            "LayerNormalization" => {
                let (weight, bias) = (constant()?, constant()?);
                let parameters = BTreeMap::from([("weight".into(), weight), ("bias".into(), bias)]);
                parts.push(LayerWithParameters { layer: LayerNorm::new().into(), parameters });
            }
            op => {
                let activation = activation(op).with_context(|| cannot(&node, "no layer does that"))?;
                let Some(LayerWithParameters { layer: Layer::Dense(dense), .. }) = parts.last_mut() else {
                    bail!(cannot(&node, "it follows no product"));
                };
                ensure!(!active, cannot(&node, "it follows another activation"));
                active = true;
                *dense = dense.clone().activation(activation);
            }
        }
        reached.extend(node.outputs);
    }
    Ok((takes_state, parts))
}

fn activation(op: &str) -> Option<Activation> {
    Some(match op {
        "Relu" => Activation::Relu,
        "Sigmoid" => Activation::Sigmoid,
        "Softmax" => Activation::Softmax,
        "LogSoftmax" => Activation::LogSoftmax,
        "Softplus" => Activation::Softplus,
        "Softsign" => Activation::Softsign,
        "Tanh" => Activation::Tanh,
        _ => return None,
    })
}

fn cannot(node: &GraphNode, reason: &str) -> String {
    format!(
        "node \"{}\" ({}) becomes no layer: {reason}; --layers takes recurrent nodes alone, by name",
        node.name, node.op
    )
}

/// Fails where no output of the graph is what the model gives, on random input, batch-first or time-major.
pub fn check(graph: &mut Graph, model: &mut Model) -> Result<()> {
    let open: Vec<Port> = required(graph).cloned().collect();
    let [input] = &open[..] else {
        let names: Vec<&str> = open.iter().map(|input| &input.name[..]).collect();
        bail!("the graph takes {}, not one input; --layers takes recurrent nodes alone, by name", names.join(", "));
    };
    let size = |axis: usize, usual: usize| match input.shape.as_ref().and_then(|shape| shape.get(axis)) {
        // Of others the graph will say that they do not fit.
        Some(Size::Fixed(size @ 1..=4096)) => *size,
        _ => usual,
    };
    let mut found = String::new();
    for time_major in [false, true] {
        let [b, t] = if time_major { [size(1, 2), size(0, 7)] } else { [size(0, 2), size(1, 7)] };
        let x = crate::random_input(model, [b, t], 0)?;
        let y = model.predict(x.view())?;
        let given = if time_major { x.permuted_axes([1, 0, 2]).as_standard_layout().to_owned() } else { x };
        let given: Value = match &input.kind[..] {
            "i64" => given.index_axis(Axis(2), 0).mapv(|index| index as i64).into(),
            "i32" => given.index_axis(Axis(2), 0).mapv(|index| index as i32).into(),
            _ => given.into(),
        };
        let outputs = match graph.run(BTreeMap::from([(input.name.clone(), given)])) {
            Ok(outputs) => outputs,
            Err(error) => {
                found += &format!("; {error}");
                continue;
            }
        };
        let mut swapped = y.clone();
        if swapped.ndim() > 2 {
            swapped.swap_axes(0, 1);
        }
        for (name, output) in outputs {
            let output = output.to_f32();
            let mut nearest: Option<Difference> = None;
            for y in [&y, &swapped].into_iter().filter(|y| y.len() == output.len()) {
                // Axes of 1 may be there or not.
                let Ok(output) = output.to_shape(y.shape()) else { continue };
                let difference = match Difference::between(y, &output.to_owned()) {
                    Ok(difference) if difference.is_rounding() => return Ok(()),
                    Ok(difference) => difference,
                    // Of several outputs, another may be the one.
                    Err(error) => {
                        found += &format!("; its output \"{name}\": {error}");
                        continue;
                    }
                };
                if nearest.as_ref().is_none_or(|nearest| difference.relative() < nearest.relative()) {
                    nearest = Some(difference);
                }
            }
            found += &match nearest {
                Some(difference) => format!("; its output \"{name}\" differs from the layers' by {difference}"),
                None => {
                    format!("; its output \"{name}\" has the shape {:?}, the layers' {:?}", output.shape(), y.shape())
                }
            };
        }
    }
    bail!("the layers found are not the whole graph{found}; --layers takes recurrent nodes alone, by name")
}
