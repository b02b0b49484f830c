//! Files of ONNX, which hold a graph.

use super::arrays::{Array, Numbers};
use super::{Outputs, Request};
use anyhow::{Result, ensure};
use std::path::Path;
use wgpu_lstm::Device;
use wgpu_lstm::format::onnx::{Graph, Value};

/// A summary of the file.
pub fn list(path: &Path) -> Result<String> {
    Ok(Graph::load(path, &Device::cpu())?.describe() + "\n")
}

/// Runs the graph: every output under its own name.
pub fn run(path: &Path, request: &Request) -> Result<Outputs> {
    ensure!(request.prefix.is_none(), "--prefix chooses a layer of weights; this file holds a graph");
    ensure!(
        request.lengths.is_none(),
        "--lengths is for files without a graph; here lengths are an input: NAME=FILE.npy"
    );
    ensure!(!request.time_major, "--time-major is for files without a graph, which says itself how its arrays lie");
    let mut graph = Graph::load(path, &request.device)?;
    let value = |(name, array): &(Option<String>, Array)| -> (Option<String>, Value) {
        let value = match array.numbers.clone() {
            Numbers::F32(array) => array.into(),
            Numbers::I64(array) => array.into(),
        };
        (name.clone(), value)
    };
    let outputs = graph.run(graph.bind(request.inputs.iter().map(value).collect())?)?;
    // In the file's order
    let names = graph.outputs().iter().map(|port| port.name.clone());
    Ok(names.filter_map(|name| outputs.get(&name).map(|value| (name.clone(), value.to_f32()))).collect())
}
