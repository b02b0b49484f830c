//! PyTorch's files, which hold weights without an architecture.

use anyhow::{Result, ensure};
use std::path::Path;
use wgpu_lstm::format::pytorch::Weights;
use wgpu_lstm::{Device, Model};

pub fn read(path: &Path, layers: &[String], device: &Device) -> Result<Model> {
    let weights = Weights::open(path)?;
    if layers.is_empty() {
        let only = weights.recurrent(None)?;
        return Ok(weights.model(&[only.prefix()], device)?);
    }
    Ok(weights.model(layers, device)?)
}

/// Writes the weights, and reads them into a model of the same architecture.
pub fn write(model: &Model, path: &Path) -> Result<Model> {
    model.save_pytorch(path)?;
    let weights = Weights::open(path)?;
    let mut parameters = model.parameters()?;
    for tensor in weights.tensors() {
        let values = weights.tensor(tensor.name)?;
        match parameters.get_mut(tensor.name) {
            Some(own) => *own = values,
            // The second bias of a layer that has one
            None => ensure!(values.iter().all(|&value| value == 0.0), "tensor {} was not there before", tensor.name),
        }
    }
    Ok(model.config()?.clone().build_with(model.device(), parameters)?)
}
