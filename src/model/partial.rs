//! Parameters from elsewhere for a part of a model: transfer of what another model has learnt.

use super::Model;
use super::parameters::hosts;
use crate::error::{Error, Result};
use crate::layer::HostTensor;
#[cfg(not(target_arch = "wasm32"))]
use crate::wait;
use ndarray::ArrayD;
use std::collections::BTreeMap;

/// Report of parameters that were set by name; every list is in the order of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartialLoad {
    /// Parameters of the model that were set.
    pub set: Vec<String>,
    /// Parameters of the model that were not given. They are as before.
    pub left: Vec<String>,
    /// Parameters of the model that were given in another shape. They are as before.
    pub other_shape: Vec<OtherShape>,
    /// Tensors that were given and of which the model has no parameter.
    pub unused: Vec<String>,
}

/// A tensor whose shape is not that of the model's parameter of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherShape {
    /// Name.
    pub name: String,
    /// Shape of the tensor that was given.
    pub given: Vec<usize>,
    /// Shape of the model's parameter.
    pub expected: Vec<usize>,
}

impl Model {
    /// Replaces some parameters, given by name and in PyTorch's shapes; the others stay.
    ///
    /// # Errors
    /// A tensor that is unknown, of another shape or not finite; the parameters are then unchanged.
    ///
    /// ```
    /// use wgpu_lstm::{Dense, Device, Lstm, Sequential};
    /// let build = |seed, outputs| {
    ///     Sequential::new(3).add(Lstm::new(4)).add(Dense::new(outputs)).build(&Device::cpu(), seed)
    /// };
    /// let (trained, mut fresh) = (build(1, 10)?, build(2, 2)?);
    /// let mut parameters = trained.parameters()?;
    /// parameters.retain(|name, _| name.starts_with("lstm."));
    /// let report = fresh.set_some_parameters(parameters)?;
    /// assert_eq!(report.left, ["dense.bias", "dense.weight"]);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn set_some_parameters(&mut self, parameters: BTreeMap<String, ArrayD<f32>>) -> Result<PartialLoad> {
        wait::block_on(self.set_some_parameters_async(parameters))
    }

    /// [`Model::set_some_parameters`] for places that cannot block.
    pub async fn set_some_parameters_async(
        &mut self,
        parameters: BTreeMap<String, ArrayD<f32>>,
    ) -> Result<PartialLoad> {
        let (all, report) = merged(self.parameters.export().await?, hosts(parameters)?);
        if let Some(OtherShape { name, given, expected }) = report.other_shape.first() {
            return Err(Error::Shape(format!("tensor {name} has shape {given:?}, the model expects {expected:?}")));
        }
        if let Some(name) = report.unused.first() {
            let names: Vec<&str> = all.iter().map(|host| host.name.as_str()).take(6).collect();
            return Err(Error::Shape(format!(
                "tensor {name} belongs to no layer of the model; among the model's parameters: {}",
                names.join(", ")
            )));
        }
        self.import_async(all).await?;
        Ok(report)
    }

    /// Replaces the parameters that are among these tensors, by name and shape.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn import_some(&mut self, given: Vec<HostTensor>) -> Result<PartialLoad> {
        let names: Vec<String> = given.iter().map(|host| host.name.clone()).take(6).collect();
        let (all, report) = merged(self.export()?, given);
        if report.set.is_empty() {
            let own: Vec<&str> = all.iter().map(|host| host.name.as_str()).take(6).collect();
            return Err(Error::Shape(format!(
                "no tensor has the name and shape of a parameter of the model; among the tensors: {}; among the parameters: {}",
                names.join(", "),
                own.join(", ")
            )));
        }
        self.import(all)?;
        Ok(report)
    }
}

/// A model's parameters with those replaced that are given by the same name and in the same shape.
fn merged(mut own: Vec<HostTensor>, given: Vec<HostTensor>) -> (Vec<HostTensor>, PartialLoad) {
    let mut report = PartialLoad::default();
    let mut given: BTreeMap<String, HostTensor> = given.into_iter().map(|host| (host.name.clone(), host)).collect();
    own.sort_by(|one, other| one.name.cmp(&other.name));
    for host in &mut own {
        match given.remove(&host.name) {
            Some(new) if new.shape == host.shape => {
                report.set.push(host.name.clone());
                host.values = new.values;
            }
            Some(new) => report.other_shape.push(OtherShape {
                name: host.name.clone(),
                given: new.shape,
                expected: host.shape.clone(),
            }),
            None => report.left.push(host.name.clone()),
        }
    }
    report.unused.extend(given.into_keys());
    (own, report)
}
