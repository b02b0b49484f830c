//! Keras's files, which hold a whole model.

use super::own::run_whole;
use super::{Outputs, Request};
use anyhow::Result;
use std::path::Path;
use wgpu_lstm::format::keras;

/// A summary of the file.
pub fn list(path: &Path) -> Result<String> {
    Ok(keras::describe(path)?.to_string())
}

/// Runs the model; its output has the name of the layer that makes it.
pub fn run(path: &Path, request: &Request) -> Result<Outputs> {
    let contents = keras::describe(path)?;
    let output = contents.outputs.first().map_or("output_0", String::as_str);
    run_whole(keras::load(path, &request.device)?, output, request)
}
