//! The crate's own files, which hold a whole model.

use super::{Outputs, Request};
use anyhow::{Result, ensure};
use std::fmt::Write;
use std::path::Path;
use wgpu_lstm::{Device, Inputs, Model};

/// A summary of the file.
pub fn list(path: &Path) -> Result<String> {
    let model = Model::load(path, &Device::cpu())?;
    let mut text = model.summary();
    text.push_str("\ntensors\n");
    for (name, array) in model.parameters()? {
        writeln!(text, "  {name} {:?} F32", array.shape())?;
    }
    Ok(text)
}

/// Runs the model: `output`.
pub fn run(path: &Path, request: &Request) -> Result<Outputs> {
    run_whole(Model::load(path, &request.device)?, "output", request)
}

/// Runs a model of one input and one output of that name.
pub fn run_whole(model: Model, output: &str, request: &Request) -> Result<Outputs> {
    request.known(&["input"])?;
    ensure!(request.prefix.is_none(), "--prefix chooses a layer of weights; this file holds a whole model");
    let mut x = request.input("input")?.sequences()?;
    if request.time_major {
        x.swap_axes(0, 1);
    }
    let mut y = match &request.lengths {
        Some(lengths) => model.predict(Inputs::from(x.view()).lengths(lengths))?,
        None => model.predict(x.view())?,
    };
    if request.time_major && y.ndim() == 3 {
        y.swap_axes(0, 1);
    }
    Ok(vec![(output.into(), y)])
}
