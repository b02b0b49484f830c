//! [safetensors](https://github.com/huggingface/safetensors) files of f32 tensors.

use super::place::replace;
use crate::error::{Error, Result};
use crate::layer::HostTensor;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::HashMap;
use std::path::Path;

/// Writes tensors and metadata.
pub(crate) fn write(path: &Path, tensors: &[HostTensor], metadata: HashMap<String, String>) -> Result<()> {
    let views = tensors.iter().map(|host| {
        let view = TensorView::new(Dtype::F32, host.shape.clone(), bytemuck::cast_slice(&host.values));
        view.map(|view| (host.name.as_str(), view))
    });
    let broken = |error: safetensors::SafeTensorError| Error::format(path, format!("cannot hold the tensors: {error}"));
    let views: Vec<_> = views.collect::<std::result::Result<_, _>>().map_err(broken)?;
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(broken)?;
    replace(path, &bytes)
}

/// Reads all tensors and the metadata of a file.
pub(crate) fn read(path: &Path) -> Result<(Vec<HostTensor>, HashMap<String, String>)> {
    let bytes = std::fs::read(path).map_err(Error::file("read", path))?;
    let broken = |error: safetensors::SafeTensorError| {
        Error::format(path, format!("is no whole safetensors file: {error} ({} bytes)", bytes.len()))
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(broken)?;
    let file = SafeTensors::deserialize(&bytes).map_err(broken)?;
    let mut tensors = Vec::new();
    for (name, view) in file.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(Error::format(path, format!("has tensor {name} of type {:?}; only F32 is read", view.dtype())));
        }
        let values = view
            .data()
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect();
        tensors.push(HostTensor { name: name.to_string(), shape: view.shape().to_vec(), values });
    }
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}
