//! Weights of [PyTorch](https://docs.pytorch.org/docs/stable/notes/serialization.html): what `torch.save` writes (zip archives,
//! and pickles as before PyTorch 1.6), Lightning's checkpoints, and safetensors.
//!
//! Such files hold tensors by name and no architecture. [`Weights`] finds the recurrent layers among them by names and shapes, and
//! gives them as layers or, with the layers around them, as a model:
//!
//! ```
//! use ndarray::Array3;
//! use wgpu_lstm::{Device, format::pytorch::Weights};
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/file_pytorch_state_dict.pt");
//! let weights = Weights::open(path)?;
//! let found = weights.recurrent(Some("encoder"))?;
//! assert_eq!(found.to_string(), "LSTM, I = 3, H = 4, L = 2, D = 2");
//! let layer = weights.layer(Some("encoder"), &Device::cpu())?;
//! let out = layer.forward(Array3::zeros((2, 7, 3)).view(), None)?; // [B, T, I]
//! assert_eq!(out.output.dim(), (2, 7, 8));
//! let mut model = weights.model(&["encoder", "norm", "head"], &Device::cpu())?; // LSTM, layer normalisation, dense
//! assert_eq!(model.predict(Array3::zeros((2, 7, 3)).view())?.shape(), [2, 7, 5]);
//! # Ok::<(), wgpu_lstm::Error>(())
//! ```
//!
//! [`LstmLayer::save_pytorch`](crate::LstmLayer::save_pytorch) and [`Model::save_pytorch`](crate::Model::save_pytorch) write files that
//! `load_state_dict` takes.
//!
//! **What is executed: nothing.** A pickle is a program; here it is read as a description. The instructions that `torch.save` emits
//! are known, others are refused by name. Calls are kept as names with arguments, and only those that make tensors are understood. So
//! whole pickled modules (`torch.save(model)`) can be read, too: their tensors are in the tables of their state.
//!
//! **What is allocated** beside the file's bytes: at most 4 bytes for each of them in tensors ([`Weights::open`] refuses files whose
//! tensors, shared storages counted as often as they are used, have more elements than the file has bytes), and at most 256 bytes for
//! each byte of a pickle, which may have 16 MiB and describe 2²⁰ values. Packed zip entries are refused; `torch.save` does not pack.

mod container;
mod pickle;
mod recurrent;
mod state;
mod tensor;
#[cfg(not(target_arch = "wasm32"))]
mod write;

pub use recurrent::Recurrent;

use super::number::Number;
use crate::error::{Error, Result};
use crate::layer::{Dense, HostTensor, Layer, LayerNorm, LstmLayer};
use crate::{Device, Model, Sequential};
use container::Container;
use ndarray::{ArrayD, IxDyn};
use recurrent::{Shapes, find, groups, parted, under};
use safetensors::SafeTensors;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tensor::{Tensor, dense_strides};

/// The tensors of a file of PyTorch, by name. See [the module](self).
///
/// Of a checkpoint that has a `state_dict`, as Lightning's, the names are those of it. Inside other dicts, lists and modules, names
/// are joined by dots.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    bytes: Vec<u8>,
    tensors: Vec<Tensor>,
    /// Places in `tensors`.
    by_name: HashMap<String, usize>,
}

/// What is known of a tensor before its numbers are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its shape.
    pub shape: &'a [usize],
    /// Its type: "F32", "F16", ...
    pub number: String,
    /// Whether tensors of this type are read.
    pub supported: bool,
}

impl Weights {
    /// Reads a file; which of the formats it has is told by its first bytes.
    ///
    /// # Errors
    /// A file that cannot be read, is none of these, is cut off or damaged, holds no tensors or some that do not fit their storages,
    /// or was written by [`Model::save`] (that has an architecture; use [`Model::load`]).
    pub fn open(path: impl AsRef<Path>) -> Result<Weights> {
        let path = path.as_ref();
        let bytes = crate::memory::read(path)?;
        Weights::from_bytes(path, bytes)
    }

    /// The same from bytes; messages call them `name`.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub fn from_bytes(name: impl AsRef<Path>, bytes: Vec<u8>) -> Result<Weights> {
        let path = name.as_ref();
        let refuse = |reason: String| Error::format(path, reason);
        let tensors = match Container::of(&bytes).map_err(refuse)? {
            Container::Zip => container::zip(&bytes).and_then(|saved| state::tensors(&saved)),
            Container::Legacy => container::legacy(&bytes).and_then(|saved| state::tensors(&saved)),
            Container::Safetensors => safetensors(&bytes),
        }
        .map_err(refuse)?;
        let mut by_name = HashMap::new();
        let mut elements = 0usize;
        for (index, tensor) in tensors.iter().enumerate() {
            if by_name.insert(tensor.name.clone(), index).is_some() {
                return Err(refuse(format!("has tensor {} twice", tensor.name)));
            }
            if tensor.number.size().is_some() {
                elements = elements.saturating_add(tensor.len().unwrap_or(usize::MAX));
            }
            if elements > bytes.len() {
                return Err(refuse(format!(
                    "has tensors of more elements than its {} bytes, up to {}; too many share a storage",
                    bytes.len(),
                    tensor.name
                )));
            }
        }
        Ok(Weights { path: path.into(), bytes, tensors, by_name })
    }

    /// All tensors, in the file's order.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo<'_>> {
        self.tensors.iter().map(|tensor| TensorInfo {
            name: &tensor.name,
            shape: &tensor.shape,
            number: tensor.number.to_string(),
            supported: tensor.number.size().is_some(),
        })
    }

    /// The numbers of a tensor, as f32.
    ///
    /// # Errors
    /// No tensor of that name, or of a type that is not read.
    pub fn tensor(&self, name: &str) -> Result<ArrayD<f32>> {
        let host = self.host(name)?;
        let shape = IxDyn(&host.shape);
        ArrayD::from_shape_vec(shape, host.values).map_err(|error| self.refuse(format!("has tensor {name}: {error}")))
    }

    fn host(&self, name: &str) -> Result<HostTensor> {
        let Some(&index) = self.by_name.get(name) else {
            return Err(self.refuse(format!("lacks tensor {name}; {}", self.some_names())));
        };
        let tensor = &self.tensors[index];
        if tensor.number.size().is_none() {
            return Err(self.refuse(format!("has tensor {name}, which {}", tensor.number.refusal())));
        }
        Ok(HostTensor { name: name.into(), shape: tensor.shape.clone(), values: tensor.values(&self.bytes)? })
    }

    fn refuse(&self, reason: String) -> Error {
        Error::format(&self.path, reason)
    }

    fn some_names(&self) -> String {
        let names: Vec<&str> = self.tensors.iter().map(|tensor| tensor.name.as_str()).take(6).collect();
        format!("it has {} tensors, among them: {}", self.tensors.len(), names.join(", "))
    }

    fn groups(&self) -> BTreeMap<&str, Shapes<'_>> {
        groups(self.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())))
    }

    /// Prefixes under which recurrent layers lie, for [`Weights::recurrent`].
    pub fn prefixes(&self) -> Vec<&str> {
        self.groups().into_keys().collect()
    }

    /// The recurrent layer under a prefix (a last dot may be left out); without one, the only one that there is.
    ///
    /// # Errors
    /// None or several, with their prefixes; a tensor that is missing, too many or of another shape than follows from the others.
    pub fn recurrent(&self, prefix: Option<&str>) -> Result<Recurrent> {
        let mut groups = self.groups();
        let prefix = match (prefix, groups.keys().next()) {
            (Some(prefix), _) => prefix.strip_suffix('.').unwrap_or(prefix),
            (None, Some(&only)) if groups.len() == 1 => only,
            (None, _) => {
                let held = self.held(&groups);
                return Err(self.refuse(if groups.is_empty() {
                    held
                } else {
                    format!("{held}; name one by its prefix")
                }));
            }
        };
        match groups.remove(prefix) {
            Some(own) => find(prefix, &own).map_err(|reason| self.refuse(reason)),
            None => Err(self.refuse(format!("has no recurrent layer under \"{prefix}\"; it {}", self.held(&groups)))),
        }
    }

    fn held(&self, groups: &BTreeMap<&str, Shapes>) -> String {
        if groups.is_empty() {
            return format!("holds no recurrent layer: no names like weight_ih_l0 or weight_ih; {}", self.some_names());
        }
        let names: Vec<String> = groups.keys().take(20).map(|prefix| format!("\"{prefix}\"")).collect();
        format!("holds {} recurrent layers, under {}", groups.len(), names.join(", "))
    }

    /// The recurrent layer under a prefix, on a device; see [`Weights::recurrent`].
    ///
    /// # Errors
    /// As [`Weights::recurrent`]; numbers that are not finite; sizes that the device cannot hold.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn layer(&self, prefix: Option<&str>, device: &Device) -> Result<LstmLayer> {
        let found = self.recurrent(prefix)?;
        let mut parameters = BTreeMap::new();
        for (own, kind, _) in found.tensors() {
            let own = own.strip_prefix("lstm.").unwrap_or(&own).to_string();
            parameters.insert(own, self.tensor(&under(&found.prefix, &kind))?);
        }
        found.config.build_with(device, found.input, parameters).map_err(|error| error.in_file(&self.path))
    }

    /// Layers by their prefixes, one after another, as a model's architecture: a recurrent layer returns sequences; a `weight` of
    /// two axes is a dense layer without an activation (`nn.Linear`), one of one axis with a `bias` a layer normalisation with
    /// PyTorch's ε. What the file does not say, such as functions between layers, is for the caller to know.
    ///
    /// # Errors
    /// A prefix without such a layer; layers whose sizes do not follow from each other.
    pub fn sequential(&self, prefixes: &[&str]) -> Result<Sequential> {
        Ok(self.stack(prefixes)?.0)
    }

    /// [`Weights::sequential`] on a device, with the file's weights.
    ///
    /// # Errors
    /// As [`Weights::sequential`]; numbers that are not finite; sizes that the device cannot hold.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn model(&self, prefixes: &[&str], device: &Device) -> Result<Model> {
        let (config, names) = self.stack(prefixes)?;
        let rename = |(own, name): (String, String)| Ok(HostTensor { name: own, ..self.host(&name)? });
        let tensors = names.into_iter().map(rename).collect::<Result<_>>()?;
        config.with_parameters(device, tensors).map_err(|error| error.in_file(&self.path))
    }

    /// An architecture, and for each of its tensors the file's name.
    fn stack(&self, prefixes: &[&str]) -> Result<(Sequential, Vec<(String, String)>)> {
        let mut layers: Vec<(usize, Layer)> = Vec::new();
        for prefix in prefixes {
            layers.push(self.found(prefix.strip_suffix('.').unwrap_or(prefix))?);
        }
        let Some(&(input, _)) = layers.first() else {
            return Err(Error::Config("a model needs the prefix of at least one layer".into()));
        };
        let mut features = input;
        for ((input, layer), prefix) in layers.iter().zip(prefixes) {
            if *input != features {
                return Err(self.refuse(format!(
                    "has a {} under \"{prefix}\" that takes {input} features; the layer before gives {features}",
                    layer.kind()
                )));
            }
            features = layer.output(features);
        }
        let config = layers.into_iter().fold(Sequential::new(input), |config, (_, layer)| config.add(layer));
        let mut names = Vec::new();
        for (plan, prefix) in config.plan_layers()?.iter().zip(prefixes) {
            let prefix = prefix.strip_suffix('.').unwrap_or(prefix);
            match &plan.layer {
                Layer::Lstm(_) => {
                    for (own, kind, _) in self.recurrent(Some(prefix))?.tensors() {
                        let own = own.strip_prefix("lstm.").unwrap_or(&own);
                        names.push((format!("{}.{own}", plan.name), under(prefix, &kind)));
                    }
                }
                _ => names.extend(crate::layer::tensor_shapes(plan).into_iter().map(|(own, _)| {
                    let name = under(prefix, parted(&own).1);
                    (own, name)
                })),
            }
        }
        Ok((config, names))
    }

    /// The layer under a prefix, and the features that it takes.
    fn found(&self, prefix: &str) -> Result<(usize, Layer)> {
        if self.groups().contains_key(prefix) {
            let found = self.recurrent(Some(prefix))?;
            return Ok((found.input, found.config.return_sequences(true).into()));
        }
        let shape =
            |kind: &str| self.by_name.get(&under(prefix, kind)).map(|&index| self.tensors[index].shape.as_slice());
        if shape("running_mean").is_some() {
            return Err(self.refuse(format!("has a batch normalisation under \"{prefix}\", which is not supported")));
        }
        match (shape("weight"), shape("bias")) {
            (Some(&[units, input]), bias) if units > 0 && input > 0 && bias.is_none_or(|bias| bias == [units]) => {
                Ok((input, Dense::new(units).bias(bias.is_some()).into()))
            }
            (Some(&[features]), Some(bias)) if features > 0 && bias == [features] => Ok((features, LayerNorm::new().into())),
            (Some(weight), bias) => Err(self.refuse(format!(
                "has {} of shape {weight:?} with a bias of shape {bias:?}; [units, inputs] with [units] or no bias was expected of a \
                 dense layer, [features] twice of a layer normalisation",
                under(prefix, "weight")
            ))),
            (None, _) => Err(self.refuse(format!("has no layer under \"{prefix}\"; {}", self.some_names()))),
        }
    }
}

/// The tensors of a safetensors file.
fn safetensors(bytes: &[u8]) -> Result<Vec<Tensor>, String> {
    let broken =
        |error: safetensors::SafeTensorError| format!("is no whole safetensors file: {error} ({} bytes)", bytes.len());
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(broken)?;
    if metadata.metadata().as_ref().is_some_and(|metadata| metadata.contains_key(crate::model::KEY)) {
        return Err("was written by Model::save and has an architecture; load it by Model::load".into());
    }
    let start = header.saturating_add(8);
    let mut tensors = Vec::new();
    for name in metadata.offset_keys() {
        let Some(info) = metadata.info(&name) else { continue };
        let (first, end) = info.data_offsets;
        let storage = start.saturating_add(first)..start.saturating_add(end);
        if storage.start > storage.end || storage.end > bytes.len() {
            return Err(format!("has tensor {name} up to byte {}, it is cut off after {}", storage.end, bytes.len()));
        }
        let number = Number::from(info.dtype);
        let strides = dense_strides(&info.shape);
        let tensor = Tensor { name, number, shape: info.shape.clone(), strides, offset: 0, storage };
        tensor.check()?;
        tensors.push(tensor);
    }
    if tensors.is_empty() {
        return Err("holds no tensors".into());
    }
    Ok(tensors)
}
