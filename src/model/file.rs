//! Saving and loading models: one safetensors file, PyTorch's tensor names, the configuration in its metadata.

use super::{Model, Sequential, checksum};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::{Reader, check, safetensors};
use crate::layer::HostTensor;
use crate::network::Node;
use crate::network::{Batch, Purpose, network};
use crate::plan::Role;
use crate::train::{Loss, Progress, TimeCheckpoints, Update, check_count};
use crate::transfer::finite;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

/// The metadata's key.
pub(crate) const KEY: &str = "wgpu_lstm";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    model: Sequential,
    extra: BTreeMap<String, serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    training: Option<State>,
}

/// The state of training beside the optimiser's memory, which is tensors.
#[derive(Serialize, Deserialize)]
struct State {
    loss: Loss,
    update: Update,
    steps: u64,
    progress: Progress,
    #[serde(default)]
    checkpoints: TimeCheckpoints,
}

impl State {
    /// Refuses what no training can have come to.
    fn validate(&self) -> Result<()> {
        check_count("the steps of the optimiser", self.steps)?;
        self.progress.validate()
    }
}

/// In front of the names of the optimiser's memory, which is kept as the device has it.
const MEMORY: &str = "optimiser.";

/// In front of the names of the states that training carries: "state.<B> <buffer>".
const STATE: &str = "state.";

/// In front of the names of weights that callbacks keep: "callback.<place among the callbacks> <tensor>".
const CALLBACK: &str = "callback.";

#[cfg(not(target_arch = "wasm32"))]
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
        self.write(path.as_ref(), None)
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
        let training = self.training.as_ref().ok_or_else(super::not_compiled)?;
        let state = State {
            loss: training.loss.clone(),
            update: training.update.clone(),
            steps: training.steps,
            progress: training.progress.clone(),
            checkpoints: training.checkpoints,
        };
        self.write(path.as_ref(), Some(state))
    }

    fn write(&self, path: &Path, training: Option<State>) -> Result<()> {
        let mut tensors = self.export()?;
        if let (Some(_), Some(own)) = (&training, &self.training) {
            let mut memory: Vec<_> = own.memory.iter().collect();
            memory.sort_by_key(|(name, _)| *name);
            for (name, tensor) in memory {
                let values = pollster::block_on(tensor.read_all())?;
                tensors.push(HostTensor { name: format!("{MEMORY}{name}"), shape: vec![values.len()], values });
            }
            let mut states: Vec<_> = own.states.iter().collect();
            states.sort_by_key(|(place, _)| *place);
            for ((batch, name), tensor) in states {
                let values = pollster::block_on(tensor.read_all())?;
                tensors.push(HostTensor { name: format!("{STATE}{batch} {name}"), shape: vec![values.len()], values });
            }
            for (place, state) in own.progress.callbacks.iter().enumerate() {
                for host in state.weights.iter().flat_map(|weights| weights.iter()) {
                    tensors.push(HostTensor { name: format!("{CALLBACK}{place} {}", host.name), ..host.clone() });
                }
            }
        }
        for tensor in &tensors {
            finite(&format!("tensor {}", tensor.name), "[element]", &ndarray::aview1(&tensor.values))?;
        }
        let (model, extra) = (self.config.clone(), self.extra.clone());
        let header = Header { version: VERSION, model, extra, training };
        let broken = |error: serde_json::Error| Error::format_because(path, "cannot hold the configuration", error);
        let json = serde_json::to_string(&header).map_err(broken)?;
        let json = checksum::seal(json, &tensors).map_err(broken)?;
        safetensors::write(path, &tensors, HashMap::from([(KEY.to_string(), json)]))
    }

    /// Loads a model that [`Model::save`] wrote.
    ///
    /// # Errors
    /// A file that cannot be read, is cut off or damaged, was written by something else, or whose tensors do not fit its
    /// configuration.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Model> {
        Ok(Self::read(path.as_ref(), device)?.0)
    }

    /// Loads a model with the state of its training, as [`Model::save_training`] wrote it.
    ///
    /// # Errors
    /// As [`Model::load`]; a file without the state of a training, or with one that no training can have come to.
    pub fn load_training(path: impl AsRef<Path>, device: &Device) -> Result<Model> {
        let path = path.as_ref();
        let (mut model, training, memory) = Self::read(path, device)?;
        let State { loss, update, steps, mut progress, checkpoints } = training.ok_or_else(|| {
            Error::format(path, "holds a model without the state of its training; it was not written by save_training")
        })?;
        let refused = |error: Error| Error::format(path, format!("has a state of training that does not fit: {error}"));
        model.compile(loss, update).map_err(refused)?;
        model.checkpoint_time(checkpoints).map_err(refused)?;
        let (mut tensors, mut states) = (HashMap::new(), HashMap::new());
        let (kept, memory): (Vec<_>, Vec<_>) = memory.into_iter().partition(|host| host.name.starts_with(CALLBACK));
        for (place, weights) in model.weights_of_callbacks(kept).map_err(refused)? {
            let count = progress.callbacks.len();
            let state = progress.callbacks.get_mut(place).ok_or_else(|| {
                Error::format(path, format!("has weights of callback {place}, but states of {count} callbacks"))
            })?;
            state.weights = Some(Arc::new(weights));
        }
        for HostTensor { name, values, .. } in memory {
            if let Some(name) = name.strip_prefix(STATE) {
                let (batch, name) = model.find_state(name, values.len() as u64).map_err(refused)?;
                finite(&format!("state {name}"), "[element]", &ndarray::aview1(&values))?;
                let tensor = pollster::block_on(device.tensor(&name, values.len() as u64))?;
                tensor.write(0, &values);
                states.insert((batch, name), tensor);
                continue;
            }
            let name = name.trim_start_matches(MEMORY).to_string();
            // "<kind> <buffer>", of a buffer that the model has
            let held =
                name.split_once(' ').and_then(|(_, buffer)| model.parameters.tensor(buffer)).map(|held| held.len);
            if held != Some(values.len() as u64) {
                let room = held.map_or("none of that name".into(), |held| held.to_string());
                return Err(Error::format(
                    path,
                    format!(
                        "has {} numbers of the optimiser's memory \"{name}\"; the model has room for {room}",
                        values.len()
                    ),
                ));
            }
            finite(&format!("tensor {name}"), "[element]", &ndarray::aview1(&values))?;
            let tensor = pollster::block_on(device.tensor(&name, values.len() as u64))?;
            tensor.write(0, &values);
            tensors.insert(name, tensor);
        }
        if let Some(training) = &mut model.training {
            (training.steps, training.progress) = (steps, progress);
            (training.memory, training.states) = (tensors, states);
        }
        Ok(model)
    }

    /// The weights that callbacks keep, by the callback's place; each has all tensors of the model.
    fn weights_of_callbacks(&self, tensors: Vec<HostTensor>) -> Result<BTreeMap<usize, Vec<HostTensor>>> {
        let mut all: BTreeMap<usize, Vec<HostTensor>> = BTreeMap::new();
        for host in tensors {
            let place = host.name.strip_prefix(CALLBACK).and_then(|name| name.split_once(' '));
            let place = place.and_then(|(place, name)| Some((place.parse().ok()?, name.to_string())));
            let (place, name) =
                place.ok_or_else(|| Error::Config(format!("tensor \"{}\" names no callback", host.name)))?;
            finite(&format!("tensor {}", host.name), "[element]", &ndarray::aview1(&host.values))?;
            all.entry(place).or_default().push(HostTensor { name, ..host });
        }
        let mut expected: Vec<_> = self.layers.iter().flat_map(Node::shapes).collect();
        expected.sort();
        for (place, weights) in &all {
            let mut given: Vec<_> = weights.iter().map(|host| (host.name.clone(), host.shape.clone())).collect();
            given.sort();
            if let Some((name, shape)) =
                expected.iter().chain(&given).find(|one| given.contains(one) != expected.contains(one))
            {
                return Err(Error::Shape(format!(
                    "tensor {name} of shape {shape:?} is only in one of the model and the weights of callback {place}"
                )));
            }
        }
        Ok(all)
    }

    /// B and the buffer's name of a state "<B> <buffer>" of so many elements, if the model has it.
    fn find_state(&self, name: &str, len: u64) -> Result<(usize, String)> {
        let wrong = || Error::Config(format!("there is no state \"{name}\" of {len} numbers"));
        let (batch, name) = name.split_once(' ').ok_or_else(wrong)?;
        let batch = batch.parse().map_err(|_| wrong())?;
        // A state has at least a number for each sequence.
        if batch as u64 > len {
            return Err(wrong());
        }
        let sizes = Batch::new(batch, 1).stateful(true);
        let plan = network(&self.layers, sizes, Purpose::Predict, self.device.capabilities())?.plan;
        let held = plan.find(name).map(|id| &plan.buffers[id.0]);
        match held {
            Some(buffer) if buffer.role == Role::State && buffer.len == len => Ok((batch, name.to_string())),
            _ => Err(wrong()),
        }
    }

    /// The model, and what the file holds beside it.
    fn read(path: &Path, device: &Device) -> Result<(Model, Option<State>, Vec<HostTensor>)> {
        check(path, Reader::Own)?;
        let (tensors, metadata) = safetensors::read(path)?;
        let json = metadata.get(KEY).ok_or_else(|| {
            Error::format(path, format!("is a safetensors file without a model's configuration (metadata \"{KEY}\"); it was not written by Model::save; format::pytorch::Weights reads weights alone"))
        })?;
        // The path says where in the configuration something is wrong.
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
        checksum::check(path, json, &tensors)?;
        let (memory, tensors): (Vec<_>, Vec<_>) = match header.training {
            Some(_) => tensors
                .into_iter()
                .partition(|tensor| [MEMORY, STATE, CALLBACK].iter().any(|prefix| tensor.name.starts_with(prefix))),
            None => (Vec::new(), tensors),
        };
        // A forged configuration must not allocate more than the file holds.
        let depth: usize =
            header.model.layers.iter().map(|layer| layer.operator().depth()).fold(0, usize::saturating_add);
        if depth > tensors.len() {
            return Err(Error::format(path, format!("has {} tensors for {depth} layers", tensors.len())));
        }
        for (name, shape) in header.model.nodes()?.iter().flat_map(Node::shapes) {
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
        let mut model = header.model.with_parameters(device, tensors).map_err(|error| error.in_file(path))?;
        model.extra = header.extra;
        Ok((model, header.training, memory))
    }

    /// Loads the parameters of a file into this model, which must have the same sizes. The file may also come from
    /// PyTorch, if its tensors are named `<layer>.<PyTorch's name>`.
    ///
    /// # Errors
    /// As [`Model::load`]; a tensor of another shape is named, and nothing is changed.
    pub fn load_weights(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        check(path, Reader::Own)?;
        let (tensors, metadata) = safetensors::read(path)?;
        if let Some(json) = metadata.get(KEY) {
            checksum::check(path, json, &tensors)?;
        }
        self.import(tensors).map_err(|error| Error::format(path, format!("does not fit the model: {error}")))
    }
}
