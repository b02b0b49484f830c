//! Files of ONNX. A graph that is a chain of layers becomes a model that was seen to give the same; of any other, the recurrent nodes
//! that are named do.

use crate::onnx_chain::{self, LayerWithParameters};
use anyhow::{Context, Result, bail, ensure};
use ndarray::{ArrayD, ArrayView3};
use std::collections::BTreeMap;
use std::path::Path;
use wgpu_lstm::format::onnx::{self, Graph};
use wgpu_lstm::{Device, Layer, Model, Sequential};

/// The nodes of these names, one on top of the other; without names all recurrent ones and what follows them.
pub fn read(path: &Path, nodes: &[String], device: &Device) -> Result<Model> {
    let mut graph = Graph::load(path, device)?;
    if !nodes.is_empty() {
        return stack(&graph, None, nodes, device, |_, _| Ok((false, Vec::new())));
    }
    let recurrent = graph.recurrent();
    let problems = graph.unsupported();
    if !problems.is_empty() {
        let liftable: Vec<&str> =
            recurrent.iter().filter(|node| node.config.is_ok()).map(|node| &node.name[..]).collect();
        bail!(
            "the graph cannot be converted as a whole; not supported are: {}{}",
            problems.join("; "),
            match liftable[..] {
                [] => String::new(),
                _ => format!(". Its recurrent nodes can be by themselves: --layers {}", liftable.join(",")),
            }
        );
    }
    let names: Vec<String> = recurrent.into_iter().map(|node| node.name).collect();
    ensure!(!names.is_empty(), "the graph has no recurrent node");
    let whole = |graph: &mut Graph, picks: bool| -> Result<Model> {
        let table = onnx_chain::embedding(graph)?;
        let mut model =
            stack(graph, table, &names, device, |top, features| onnx_chain::after(graph, top, features, picks))?;
        onnx_chain::check(graph, &mut model)?;
        Ok(model)
    };
    whole(&mut graph, true).or_else(|error| whole(&mut graph, false).map_err(|_| error))
}

/// A model of recurrent nodes, on top of an embedding if there is one, and of what `after` finds on top of the last one, given its
/// name and features.
fn stack(
    graph: &Graph,
    embedding: Option<LayerWithParameters>,
    names: &[String],
    device: &Device,
    after: impl Fn(&str, usize) -> Result<(bool, Vec<LayerWithParameters>)>,
) -> Result<Model> {
    let mut below = embedding.as_ref().map(|table| table.parameters["weight"].shape()[1]);
    let mut input = 1; // an index
    let mut parts: Vec<LayerWithParameters> = embedding.into_iter().collect();
    for name in names {
        let layer = graph.lift(name)?;
        let parameters = layer.parameters()?;
        let takes = parameters["weight_ih_l0"].shape()[1];
        if let Some(gives) = below {
            ensure!(
                takes == gives,
                "node {name} takes {takes} features, the one below it gives {gives}; name some by --layers"
            );
        } else {
            input = takes;
        }
        below = Some(layer.config().output());
        parts.push(LayerWithParameters { layer: layer.config().clone().return_sequences(true).into(), parameters });
    }
    let (takes_state, above) = match (names.last(), below) {
        (Some(top), Some(features)) => after(top, features)?,
        _ => (false, Vec::new()),
    };
    if let (true, Some(LayerWithParameters { layer: Layer::Lstm(lstm), .. })) = (takes_state, parts.last_mut()) {
        *lstm = lstm.clone().return_sequences(false);
    }
    parts.extend(above);
    let config = parts.iter().fold(Sequential::new(input), |config, part| config.add(part.layer.clone()));
    let mut model = config.build(device, 0)?;
    let layers: Vec<String> = model.layers().map(|(name, _)| name.to_string()).collect();
    let named = layers.iter().zip(parts).flat_map(|(layer, part)| {
        part.parameters.into_iter().map(move |(name, array)| (format!("{layer}.{name}"), array))
    });
    model.set_parameters(named.collect())?;
    Ok(model)
}

/// Writes the model; gives what the file makes of x.
pub fn write(model: &Model, path: &Path, x: ArrayView3<f32>) -> Result<ArrayD<f32>> {
    onnx::save(model, path)?;
    let mut graph = Graph::load(path, model.device())?;
    let outputs = graph.run(BTreeMap::from([("input".to_string(), x.to_owned().into())]))?;
    let output = outputs.get("output").context("the file has no output")?;
    Ok(output.to_f32())
}
