//! Parameters on a device.

use crate::device::{Device, Tensor};
use crate::error::{Error, Result};
use crate::layer::{DeviceTensor, HostTensor};
use crate::lock::{read, write};
use crate::network::{Graph, Node};
use crate::transfer::is_finite;
use ndarray::ArrayD;
use rand_pcg::Pcg64;
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// All device tensors of some layers, by the names that plans use.
#[derive(Debug)]
pub(crate) struct Parameters(Vec<(DeviceTensor, Tensor)>);

impl Parameters {
    /// Allocates and initialises the parameters of layers; the same seed gives the same numbers on every device.
    pub async fn new(device: &Device, graph: &Graph, seed: u64) -> Result<Parameters> {
        let mut random = Pcg64::new(seed as u128, 0x6c73_746d);
        let mut tensors = Vec::new();
        for spec in graph.owners().flat_map(Node::parameters) {
            let tensor = device.tensor(&spec.name, spec.len).await?;
            tensor.write(0, &spec.pack(&spec.initial(&mut random)?)?);
            tensors.push((spec, tensor));
        }
        Ok(Parameters(tensors))
    }

    /// Allocates the parameters of layers and fills them with given values, as [`Parameters::import`] takes them.
    pub async fn given(device: &Device, graph: &Graph, given: Vec<HostTensor>) -> Result<Parameters> {
        let mut tensors = Vec::new();
        for spec in graph.owners().flat_map(Node::parameters) {
            let tensor = device.tensor(&spec.name, spec.len).await?;
            tensors.push((spec, tensor));
        }
        let parameters = Parameters(tensors);
        parameters.import(given)?;
        Ok(parameters)
    }

    /// A copy with its own tensors.
    async fn copied(&self, device: &Device) -> Result<Parameters> {
        let mut tensors = Vec::new();
        for (spec, tensor) in &self.0 {
            tensors.push((spec.clone(), device.copied(&spec.name, tensor).await?));
        }
        Ok(Parameters(tensors))
    }

    /// The tensor of that buffer name.
    pub fn tensor(&self, name: &str) -> Option<Tensor> {
        self.0.iter().find(|(spec, _)| spec.name == name).map(|(_, tensor)| tensor.clone())
    }

    /// Number of parameters.
    pub fn count(&self, prefix: &str) -> u64 {
        self.0.iter().filter(|(spec, _)| spec.name.starts_with(prefix)).map(|(spec, _)| spec.count()).sum()
    }

    /// All parameters, in PyTorch's names and layout.
    pub async fn export(&self) -> Result<Vec<HostTensor>> {
        let mut all = Vec::new();
        for (spec, tensor) in &self.0 {
            if spec.len > 0 {
                all.extend(spec.unpack(&tensor.read_all().await?)?);
            }
        }
        Ok(all)
    }

    /// True if no element is NaN or infinite.
    pub async fn are_finite(&self) -> Result<bool> {
        for (_, tensor) in &self.0 {
            if tensor.len > 0 && !is_finite(&tensor.read_all().await?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Replaces all parameters or, on an error, none: every tensor must be given, in its shape and finite, and no others.
    pub fn import(&self, mut given: Vec<HostTensor>) -> Result<()> {
        let mut packed = Vec::new();
        for (spec, tensor) in &self.0 {
            let mut parts = Vec::new();
            for part in &spec.parameters {
                let Some(at) = given.iter().position(|host| host.name == part.name) else {
                    let names: Vec<&str> = given.iter().map(|host| host.name.as_str()).take(6).collect();
                    return Err(Error::Shape(format!(
                        "tensor {} of shape {:?} is missing; among those given: {}",
                        part.name,
                        part.shape,
                        if names.is_empty() { "none".into() } else { names.join(", ") }
                    )));
                };
                let host = given.swap_remove(at);
                if host.shape != part.shape {
                    return Err(Error::Shape(format!(
                        "tensor {} has shape {:?}, the model expects {:?}",
                        part.name, host.shape, part.shape
                    )));
                }
                if let Some(at) = host.values.iter().position(|value| !value.is_finite()) {
                    return Err(Error::NotFinite {
                        what: format!("tensor {}", host.name),
                        position: format!("element {at}"),
                        value: host.values[at],
                    });
                }
                parts.push(host);
            }
            packed.push((tensor, spec.pack(&parts)?));
        }
        if let Some(extra) = given.first() {
            return Err(Error::Shape(format!(
                "tensor {} of shape {:?} belongs to no layer of the model",
                extra.name, extra.shape
            )));
        }
        for (tensor, values) in packed {
            tensor.write(0, &values);
        }
        Ok(())
    }
}

/// The parameters of a model or layer. Its streams share them, and use their values at each call of feed; its clones share the
/// tensors until one of them writes (copy on write).
#[derive(Debug)]
pub(crate) struct SharedParameters(Arc<RwLock<Current>>);

/// Locked for reading while a stream or a bare layer runs, and for writing while the parameters change, so that no run mixes
/// parameters from before and after a change.
#[derive(Debug)]
pub(crate) struct Current {
    parameters: Arc<Parameters>,
    pub version: Version,
}

/// Version of parameters: counts of their changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    /// Number of times that the tensors were replaced, after which plans must be bound again.
    pub tensors: u64,
    /// Number of times that the values changed.
    pub numbers: u64,
}

impl SharedParameters {
    pub fn new(parameters: Parameters) -> SharedParameters {
        SharedParameters(Arc::new(RwLock::new(Current {
            parameters: Arc::new(parameters),
            version: Version::default(),
        })))
    }

    /// The parameters for a stream, which follows every change.
    pub fn for_stream(&self) -> SharedParameters {
        SharedParameters(self.0.clone())
    }

    /// The parameters for a clone, which follows no change.
    pub fn for_clone(&self) -> SharedParameters {
        SharedParameters(Arc::new(RwLock::new(Current { parameters: self.now(), version: Version::default() })))
    }

    /// Locks the parameters against changes.
    pub fn read(&self) -> RwLockReadGuard<'_, Current> {
        // Tensors are replaced whole; numbers are numbers whatever panicked.
        read(&self.0)
    }

    /// Locks the parameters against reads by streams, for a change of their values.
    pub fn change(&self) -> RwLockWriteGuard<'_, Current> {
        let mut current = write(&self.0);
        current.version.numbers += 1;
        current
    }

    /// The version of the parameters.
    pub fn version(&self) -> Version {
        self.read().version
    }

    /// True if a clone shares the tensors.
    pub fn is_shared(&self) -> bool {
        let mut current = write(&self.0);
        Arc::get_mut(&mut current.parameters).is_none()
    }

    /// Copies the tensors if a clone shares them; returns true if so.
    pub async fn detach(&self, device: &Device) -> Result<bool> {
        let shared = self.is_shared();
        if shared {
            self.replace(self.now().copied(device).await?);
        }
        Ok(shared)
    }

    /// Replaces the tensors by others.
    pub fn replace(&self, parameters: Parameters) {
        let mut current = self.change();
        current.parameters = Arc::new(parameters);
        current.version.tensors += 1;
    }

    /// The tensor of that buffer name.
    pub fn tensor(&self, name: &str) -> Option<Tensor> {
        self.read().parameters.tensor(name)
    }

    /// Number of parameters in the tensors whose names begin with a prefix.
    pub fn count(&self, prefix: &str) -> u64 {
        self.read().parameters.count(prefix)
    }

    /// All parameters, in PyTorch's names and layout.
    pub async fn export(&self) -> Result<Vec<HostTensor>> {
        self.now().export().await
    }

    /// True if no element is NaN or infinite.
    pub async fn are_finite(&self) -> Result<bool> {
        self.now().are_finite().await
    }

    /// Replaces all parameters or none, as [`Parameters::import`].
    pub fn import(&self, given: Vec<HostTensor>) -> Result<()> {
        self.change().parameters.import(given)
    }

    /// The parameters as they are; while this lives, changes make new tensors.
    pub fn now(&self) -> Arc<Parameters> {
        self.read().parameters.clone()
    }
}

/// Reads gradient or parameter buffers with a function, and returns them as host tensors.
pub(crate) async fn read_parts<F, R>(nodes: &[Node], read: F) -> Result<Vec<HostTensor>>
where
    F: Fn(String, u64) -> R,
    R: Future<Output = Result<Vec<f32>>>,
{
    let mut all = Vec::new();
    for spec in nodes.iter().flat_map(Node::parameters).filter(|spec| spec.len > 0) {
        all.extend(spec.unpack(&read(spec.name.clone(), spec.len).await?)?);
    }
    Ok(all)
}

/// Arrays by name as host tensors.
pub(super) fn hosts(arrays: BTreeMap<String, ArrayD<f32>>) -> Result<Vec<HostTensor>> {
    arrays.into_iter().map(|(name, array)| HostTensor::new(name, &array)).collect()
}
