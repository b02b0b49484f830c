//! [safetensors](https://github.com/huggingface/safetensors) files.

use crate::error::{Error, Result};
use crate::format::number::Number;
use crate::layer::HostTensor;
use crate::memory;
use safetensors::SafeTensors;
use std::collections::HashMap;
use std::path::Path;

/// Writes tensors and metadata.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn write(path: &Path, tensors: &[HostTensor], metadata: HashMap<String, String>) -> Result<()> {
    use safetensors::{Dtype, tensor::TensorView};
    let views = tensors.iter().map(|host| {
        let view = TensorView::new(Dtype::F32, host.shape.clone(), bytemuck::cast_slice(&host.values));
        view.map(|view| (host.name.as_str(), view))
    });
    let broken = |error: safetensors::SafeTensorError| Error::format_because(path, "cannot hold the tensors", error);
    let views: Vec<_> = views.collect::<std::result::Result<_, _>>().map_err(broken)?;
    let len: usize = tensors.iter().map(|host| size_of_val(&host.values[..])).sum();
    memory::probe(len as u64, format_args!("the bytes of \"{}\"", path.display()))?;
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(broken)?;
    crate::files::replace(path, bytes)
}

/// Reads all tensors, as f32, and the metadata of a file.
pub(crate) fn read(path: &Path) -> Result<(Vec<HostTensor>, HashMap<String, String>)> {
    let bytes = memory::read(path)?;
    let broken = |error: safetensors::SafeTensorError| {
        Error::format_because(path, format!("is no whole safetensors file ({} bytes)", bytes.len()), error)
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(broken)?;
    let file = SafeTensors::deserialize(&bytes).map_err(broken)?;
    let mut tensors = Vec::new();
    for (name, view) in file.iter() {
        let number = Number::from(view.dtype());
        let Some(size) = number.size() else {
            return Err(Error::format(path, format!("has tensor {name}, which {}", number.refusal())));
        };
        let numbers = view.data().chunks_exact(size).map(|bytes| number.decode(bytes));
        let values = memory::collect(numbers.len(), numbers, format_args!("tensor {name} of \"{}\"", path.display()))?;
        tensors.push(HostTensor { name: name.to_string(), shape: view.shape().to_vec(), values });
    }
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}
