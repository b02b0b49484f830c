//! Keras's files.

use anyhow::Result;
use std::path::Path;
use wgpu_lstm::format::keras;
use wgpu_lstm::{Device, Model};

pub fn read(path: &Path, device: &Device) -> Result<Model> {
    Ok(keras::load(path, device)?)
}

pub fn write(model: &Model, path: &Path) -> Result<Model> {
    keras::save(model, path)?;
    Ok(keras::load(path, model.device())?)
}
