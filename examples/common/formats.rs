//! Whose files these are.

use anyhow::{Context, Result};
use std::io::Read;
use std::path::Path;

/// Formats of model files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The crate's own: what `Model::save` writes
    Own,
    /// PyTorch: .pt, .pth, .ckpt, .safetensors
    Pytorch,
    /// Keras: .keras, .h5
    Keras,
    /// ONNX: .onnx
    Onnx,
}

impl Format {
    /// By the name, where that says it.
    pub fn by_name(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "keras" | "h5" | "hdf5" => Some(Format::Keras),
            "onnx" => Some(Format::Onnx),
            "pt" | "pth" | "ckpt" => Some(Format::Pytorch),
            _ => None,
        }
    }

    /// By the name or by what is in it: a safetensors file with an architecture is the crate's own.
    pub fn of(path: &Path) -> Result<Format> {
        if let Some(format) = Format::by_name(path) {
            return Ok(format);
        }
        let mut file = std::fs::File::open(path).with_context(|| format!("cannot open \"{}\"", path.display()))?;
        let mut start = Vec::new();
        // The header alone; a length that is not true ends with the file.
        file.by_ref().take(8).read_to_end(&mut start)?;
        let length = start.first_chunk().map_or(0, |length| u64::from_le_bytes(*length)).min(100_000_000);
        file.take(length).read_to_end(&mut start)?;
        let header: serde_json::Value = serde_json::from_slice(start.get(8..).unwrap_or_default()).unwrap_or_default();
        let own = header.pointer("/__metadata__/wgpu_lstm").is_some();
        Ok(if own { Format::Own } else { Format::Pytorch })
    }
}
