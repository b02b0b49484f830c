//! The crate's own files.

use anyhow::Result;
use std::path::Path;
use wgpu_lstm::{Device, Model};

pub fn read(path: &Path, device: &Device) -> Result<Model> {
    Ok(Model::load(path, device)?)
}

pub fn write(model: &Model, path: &Path) -> Result<Model> {
    model.save(path)?;
    Ok(Model::load(path, model.device())?)
}
