//! Saving and loading models: one safetensors file, PyTorch's tensor names, the configuration in its metadata.

use super::{Model, Sequential};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::safetensors;
use crate::layer::{Layer, tensor_shapes};
use crate::transfer::finite;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The metadata's key.
const KEY: &str = "wgpu_lstm";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    model: Sequential,
    extra: BTreeMap<String, serde_json::Value>,
}

#[cfg(not(target_arch = "wasm32"))]
impl Model {
    /// Saves configuration, parameters and extras. The file is written beside its place and renamed, so that an older
    /// file stays whole if anything fails. The tensors are named `<layer>.<PyTorch's name>`.
    ///
    /// # Errors
    /// A file that cannot be written; a model whose numbers are no longer finite; a device that failed.
    ///
    /// ```
    /// use wgpu_lstm::{Device, Lstm, Model, Sequential};
    /// let path = std::env::temp_dir().join("wgpu-lstm-doc.safetensors");
    /// let model = Sequential::new(3).add(Lstm::new(4)).build(&Device::cpu(), 0)?;
    /// model.save(&path)?;
    /// let again = Model::load(&path, &Device::cpu())?;
    /// assert_eq!(model.parameters()?, again.parameters()?);
    /// # std::fs::remove_file(path).unwrap();
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let tensors = self.export()?;
        for tensor in &tensors {
            finite(&format!("tensor {}", tensor.name), "[element]", &ndarray::aview1(&tensor.values))?;
        }
        let header = Header { version: VERSION, model: self.config.clone(), extra: self.extra.clone() };
        let json = serde_json::to_string(&header)
            .map_err(|error| Error::format(path, format!("cannot hold the configuration: {error}")))?;
        safetensors::write(path, &tensors, HashMap::from([(KEY.to_string(), json)]))
    }

    /// Loads a model that [`Model::save`] wrote.
    ///
    /// # Errors
    /// A file that cannot be read, is cut off, was written by something else, or whose tensors do not fit its
    /// configuration.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Model> {
        let path = path.as_ref();
        let (tensors, metadata) = safetensors::read(path)?;
        let json = metadata.get(KEY).ok_or_else(|| {
            Error::format(path, format!("is a safetensors file without a model's configuration (metadata \"{KEY}\"); it was not written by Model::save"))
        })?;
        let header: Header = serde_json::from_str(json)
            .map_err(|error| Error::format(path, format!("has a configuration that cannot be read: {error}")))?;
        if header.version != VERSION {
            return Err(Error::format(
                path,
                format!("has version {}, this crate reads version {VERSION}", header.version),
            ));
        }
        // A forged configuration must not allocate more than the file holds.
        let depth: usize = header
            .model
            .layers
            .iter()
            .map(|layer| if let Layer::Lstm(lstm) = layer { lstm.layers } else { 1 })
            .fold(0, usize::saturating_add);
        if depth > tensors.len() {
            return Err(Error::format(path, format!("has {} tensors for {depth} layers", tensors.len())));
        }
        for (name, shape) in header.model.plan_layers()?.iter().flat_map(tensor_shapes) {
            match tensors.iter().find(|tensor| tensor.name == name) {
                Some(tensor) if tensor.shape == shape => {}
                Some(tensor) => {
                    return Err(Error::format(
                        path,
                        format!("has tensor {name} of shape {:?}, its configuration expects {shape:?}", tensor.shape),
                    ));
                }
                None => return Err(Error::format(path, format!("lacks tensor {name} of shape {shape:?}"))),
            }
        }
        let mut model = header.model.build(device, 0)?;
        model.import(tensors).map_err(|error| Error::format(path, format!("does not fit: {error}")))?;
        model.extra = header.extra;
        Ok(model)
    }

    /// Loads the parameters of a file into this model, which must have the same sizes. The file may also come from
    /// PyTorch, if its tensors are named `<layer>.<PyTorch's name>`.
    ///
    /// # Errors
    /// As [`Model::load`]; a tensor of another shape is named, and nothing is changed.
    pub fn load_weights(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let (tensors, _) = safetensors::read(path)?;
        self.import(tensors).map_err(|error| Error::format(path, format!("does not fit the model: {error}")))
    }
}
