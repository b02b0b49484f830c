//! Saving and loading models.

use super::{KEY, checksum, safetensors, training};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::{Reader, check};
use crate::layer::HostTensor;
use crate::model::{Architecture, Model, Network, PartialLoad, Sequential, TrainingState};
use crate::network::Node;
use crate::transfer::finite;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    /// A chain of layers, or else
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<Sequential>,
    /// a network that branches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<Network>,
    extra: BTreeMap<String, serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    training: Option<TrainingState>,
}

impl Header {
    /// Reads the JSON of the metadata.
    fn parse(path: &Path, json: &str) -> Result<Header> {
        // The error's path leads to what is wrong in the configuration.
        let header: Header =
            serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json)).map_err(|error| {
                let reason =
                    format!("has a configuration that this version of the crate cannot read (at {})", error.path());
                Error::format_because(path, reason, error.into_inner())
            })?;
        if header.version != VERSION {
            return Err(Error::format(
                path,
                format!("has version {}, this crate reads version {VERSION}", header.version),
            ));
        }
        if let Some(state) = &header.training {
            state.validate().map_err(|error| {
                Error::format(path, format!("has a state of training that no training can have come to: {error}"))
            })?;
        }
        Ok(header)
    }

    /// The layers of the model.
    fn architecture(&self, path: &Path) -> Result<Architecture> {
        match (&self.model, &self.network) {
            (Some(chain), None) => Ok(Architecture::Chain(chain.clone())),
            (None, Some(network)) => Ok(Architecture::Network(network.clone())),
            _ => Err(Error::format(path, "has no layers in its configuration, or both a chain and a network")),
        }
    }

    /// Refuses tensors that are not those of the configuration.
    fn check_tensors(path: &Path, architecture: &Architecture, tensors: &[HostTensor]) -> Result<()> {
        // A forged configuration must not allocate more than the file holds.
        let depth = architecture.depth();
        if depth > tensors.len() {
            return Err(Error::format(path, format!("has {} tensors for {depth} layers", tensors.len())));
        }
        for (name, shape) in architecture.graph()?.owners().flat_map(Node::shapes) {
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
        Ok(())
    }
}

impl Model {
    /// Saves configuration, parameters and extras, with a CRC-32C of each tensor and of the header. The file is written beside its place and renamed, so that an older
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
        write(self, path.as_ref(), None)
    }

    /// Saves the model with the state of its training: loss, optimiser with its memory and its steps, schedule, epoch and step within
    /// it, states of callbacks, and what identifies data and settings. A model loaded by [`Model::load_training`] goes on from
    /// there ([`Fit::resume`](crate::Fit::resume)) as if it had not stopped. [`Model::load`] reads the file, too.
    ///
    /// # Errors
    /// As [`Model::save`]; a model that was not compiled.
    ///
    /// ```
    /// use ndarray::{Array2, Array3};
    /// use wgpu_lstm::{Device, Fit, Loss, Lstm, Model, Optimiser, Sequential};
    /// let path = std::env::temp_dir().join("wgpu-lstm-training-doc.safetensors");
    /// let (x, y) = (Array3::ones((4, 5, 3)), Array2::zeros((4, 2)));
    /// let mut model = Sequential::new(3).add(Lstm::new(2)).build(&Device::cpu(), 0)?;
    /// model.compile(Loss::MeanSquaredError, Optimiser::adam(0.01))?;
    /// model.fit(x.view(), y.view(), Fit::new().epochs(2))?;
    /// model.save_training(&path)?;
    /// model.fit(x.view(), y.view(), Fit::new().epochs(5).resume(true))?; // epochs 3, 4 and 5
    /// let mut again = Model::load_training(&path, &Device::cpu())?;
    /// again.fit(x.view(), y.view(), Fit::new().epochs(5).resume(true))?;
    /// assert_eq!(model.parameters()?, again.parameters()?);
    /// # std::fs::remove_file(path).unwrap();
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn save_training(&self, path: impl AsRef<Path>) -> Result<()> {
        write(self, path.as_ref(), Some(self.training_state()?))
    }

    /// Loads a model that [`Model::save`] wrote.
    ///
    /// # Errors
    /// A file that cannot be read, is cut off or damaged, was written by something else, or whose tensors do not fit its
    /// configuration.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Model> {
        Ok(read(path.as_ref(), device)?.model)
    }

    /// Loads a model with the state of its training, as [`Model::save_training`] wrote it.
    ///
    /// # Errors
    /// As [`Model::load`]; a file without the state of a training, or with one that no training can have come to.
    pub fn load_training(path: impl AsRef<Path>, device: &Device) -> Result<Model> {
        let path = path.as_ref();
        let Contents { mut model, training, tensors } = read(path, device)?;
        let state = training.ok_or_else(|| {
            Error::format(path, "holds a model without the state of its training; it was not written by save_training")
        })?;
        training::restore(&mut model, path, state, tensors)?;
        Ok(model)
    }

    /// Loads the parameters of a file into this model, which must have the same sizes. The file may also come from
    /// PyTorch, if its tensors are named `<layer>.<PyTorch's name>`.
    ///
    /// # Errors
    /// As [`Model::load`]; a tensor of another shape is named, and nothing is changed.
    pub fn load_weights(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let (tensors, _) = checked(path)?;
        self.import(tensors).map_err(|error| Error::format(path, format!("does not fit the model: {error}")))
    }

    /// Loads the parameters of a file that have the name and shape of one of this model, and says what it did with each; the model's
    /// other parameters stay. The file may come from this crate or from PyTorch, as for [`Model::load_weights`]. Other names and formats:
    /// [`Model::set_some_parameters`], with what `format::pytorch::Weights` reads.
    ///
    /// Tensors of another shape are left out and listed ([`PartialLoad::other_shape`]), so that a head for another number of classes can
    /// be trained on layers that are loaded.
    ///
    /// # Errors
    /// A file that cannot be read, is cut off or damaged; numbers that are not finite; no tensor that fits. Nothing is changed then.
    ///
    /// ```
    /// use wgpu_lstm::{Dense, Device, Lstm, Sequential};
    /// let path = std::env::temp_dir().join("wgpu-lstm-partial-doc.safetensors");
    /// Sequential::new(3).add(Lstm::new(4)).add(Dense::new(10)).build(&Device::cpu(), 0)?.save(&path)?;
    /// let mut model = Sequential::new(3).add(Lstm::new(4)).add(Dense::new(2)).build(&Device::cpu(), 1)?;
    /// let report = model.load_partial(&path)?;
    /// assert_eq!(report.set[0], "lstm.bias_hh_l0");
    /// assert_eq!(report.other_shape[1].name, "dense.weight"); // [10, 4] in the file, [2, 4] in the model
    /// assert!(report.left.is_empty() && report.unused.is_empty());
    /// # std::fs::remove_file(path).unwrap();
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn load_partial(&mut self, path: impl AsRef<Path>) -> Result<PartialLoad> {
        let path = path.as_ref();
        let (mut tensors, is_own) = checked(path)?;
        tensors.retain(|host| !(is_own && training::owns(&host.name)));
        self.import_some(tensors).map_err(|error| Error::format(path, format!("does not fit the model: {error}")))
    }
}

/// The tensors of a safetensors file, and true if this crate wrote it.
fn checked(path: &Path) -> Result<(Vec<HostTensor>, bool)> {
    check(path, Reader::Own)?;
    let (tensors, metadata) = safetensors::read(path)?;
    let json = metadata.get(KEY);
    if let Some(json) = json {
        checksum::check(path, json, &tensors)?;
    }
    Ok((tensors, json.is_some()))
}

fn write(model: &Model, path: &Path, training: Option<TrainingState>) -> Result<()> {
    let mut tensors = model.export()?;
    if let Some(state) = &training {
        tensors.extend(training::tensors(state));
    }
    for tensor in &tensors {
        finite(&format!("tensor {}", tensor.name), "[element]", &ndarray::aview1(&tensor.values))?;
    }
    let extra = model.extras().clone();
    let (model, network) = match model.architecture().clone() {
        Architecture::Chain(chain) => (Some(chain), None),
        Architecture::Network(network) => (None, Some(network)),
    };
    let header = Header { version: VERSION, model, network, extra, training };
    let broken = |error: serde_json::Error| Error::format_because(path, "cannot hold the configuration", error);
    let json = serde_json::to_string(&header).map_err(broken)?;
    let json = checksum::seal(json, &tensors).map_err(broken)?;
    safetensors::write(path, &tensors, HashMap::from([(KEY.to_string(), json)]))
}

/// Contents of a file: the model, and the state of its training with the tensors that belong to that.
struct Contents {
    model: Model,
    training: Option<TrainingState>,
    tensors: Vec<HostTensor>,
}

fn read(path: &Path, device: &Device) -> Result<Contents> {
    check(path, Reader::Own)?;
    let (tensors, metadata) = safetensors::read(path)?;
    let json = metadata.get(KEY).ok_or_else(|| {
        Error::format(path, format!("is a safetensors file without a model's configuration (metadata \"{KEY}\"); it was not written by Model::save; format::pytorch::Weights reads weights alone"))
    })?;
    let header = Header::parse(path, json)?;
    checksum::check(path, json, &tensors)?;
    let (of_training, tensors): (Vec<_>, Vec<_>) =
        tensors.into_iter().partition(|tensor| header.training.is_some() && training::owns(&tensor.name));
    let architecture = header.architecture(path)?;
    Header::check_tensors(path, &architecture, &tensors)?;
    let mut model = Model::of(architecture, device, tensors).map_err(|error| error.in_file(path))?;
    model.set_extras(header.extra);
    Ok(Contents { model, training: header.training, tensors: of_training })
}
