//! Files of ONNX. A graph is more than a chain of layers: its recurrent nodes are read, and become the model's layers.

use anyhow::{Context, Result, ensure};
use ndarray::{ArrayD, ArrayView3};
use std::collections::BTreeMap;
use std::path::Path;
use wgpu_lstm::format::onnx::{self, Graph};
use wgpu_lstm::{Device, Model, Sequential};

/// The nodes of these names, or all recurrent ones, one on top of the other.
pub fn read(path: &Path, nodes: &[String], device: &Device) -> Result<Model> {
    let graph = Graph::load(path, device)?;
    let mut names: Vec<String> = nodes.to_vec();
    if names.is_empty() {
        names = graph.recurrent().into_iter().map(|node| node.name).collect();
    }
    let layers = names.iter().map(|name| graph.lift(name)).collect::<wgpu_lstm::Result<Vec<_>>>()?;
    let parameters = layers.iter().map(|layer| layer.parameters()).collect::<wgpu_lstm::Result<Vec<_>>>()?;
    let first = parameters.first().with_context(|| format!("\"{}\" has no recurrent node", path.display()))?;
    let mut config = Sequential::new(first["weight_ih_l0"].shape()[1]);
    let mut features = config.input();
    for ((layer, own), name) in layers.iter().zip(&parameters).zip(&names) {
        let takes = own["weight_ih_l0"].shape()[1];
        ensure!(
            takes == features,
            "node {name} takes {takes} features, the one below it gives {features}; name some by --layers"
        );
        features = layer.config().output();
        config = config.add(layer.config().clone().return_sequences(true));
    }
    let mut model = config.build(device, 0)?;
    let names: Vec<String> = model.layers().map(|(name, _)| name.to_string()).collect();
    let named = names
        .iter()
        .zip(parameters)
        .flat_map(|(layer, own)| own.into_iter().map(move |(name, array)| (format!("{layer}.{name}"), array)));
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
