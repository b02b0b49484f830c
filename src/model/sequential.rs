//! Chains of layers.

use super::Model;
use super::architecture::Architecture;
use super::parameters::hosts;
use crate::device::Device;
use crate::error::{Error, Result};
#[cfg(not(target_arch = "wasm32"))]
use crate::layer::HostTensor;
use crate::layer::Layer;
use crate::network::Node;
#[cfg(not(target_arch = "wasm32"))]
use crate::wait;
use ndarray::ArrayD;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Layers one after another, from which a [`Model`] is built.
///
/// ```
/// use wgpu_lstm::{Dense, Device, Lstm, Sequential};
/// let model = Sequential::new(3) // features of a step
///     .add(Lstm::new(32).layers(2).return_sequences(true))
///     .add(Lstm::new(16))
///     .add(Dense::new(7))
///     .build(&Device::cpu(), 42)?; // seed
/// println!("{}", model.summary());
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sequential {
    pub(crate) input: usize,
    pub(crate) layers: Vec<Layer>,
}

impl Sequential {
    /// A model for sequences of `input` features a step.
    pub fn new(input: usize) -> Sequential {
        Sequential { input, layers: Vec::new() }
    }

    /// Adds a layer on top.
    #[allow(clippy::should_implement_trait)] // Keras's word
    pub fn add(mut self, layer: impl Into<Layer>) -> Sequential {
        self.layers.push(layer.into());
        self
    }

    /// Puts the model on a device, its weights drawn by `seed`.
    ///
    /// # Errors
    /// No layer, a size of 0, an LSTM above one that returns only its last step, weights that the device cannot bind.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn build(self, device: &Device, seed: u64) -> Result<Model> {
        wait::block_on(self.build_async(device, seed))
    }

    /// [`Sequential::build`] for places that cannot block.
    pub async fn build_async(self, device: &Device, seed: u64) -> Result<Model> {
        Model::drawn(Architecture::Chain(self), device, seed).await
    }

    /// Puts the model on a device with parameters as [`Model::set_parameters`] takes them, without drawing any.
    ///
    /// # Errors
    /// As [`Sequential::build`] and [`Model::set_parameters`].
    ///
    /// ```
    /// use wgpu_lstm::{Dense, Device, Lstm, Sequential};
    /// let layers = Sequential::new(3).add(Lstm::new(4)).add(Dense::new(2));
    /// let first = layers.clone().build(&Device::cpu(), 1)?;
    /// let second = layers.build_with(&Device::cpu(), first.parameters()?)?;
    /// assert_eq!(first.parameters()?, second.parameters()?);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn build_with(self, device: &Device, parameters: BTreeMap<String, ArrayD<f32>>) -> Result<Model> {
        wait::block_on(self.build_with_async(device, parameters))
    }

    /// [`Sequential::build_with`] for places that cannot block.
    pub async fn build_with_async(self, device: &Device, parameters: BTreeMap<String, ArrayD<f32>>) -> Result<Model> {
        self.given(device, hosts(parameters)?).await
    }

    /// [`Sequential::build_with`], for readers of files.
    #[cfg(all(not(target_arch = "wasm32"), any(feature = "keras", feature = "pytorch")))]
    pub(crate) fn with_parameters(self, device: &Device, parameters: Vec<HostTensor>) -> Result<Model> {
        wait::block_on(self.given(device, parameters))
    }

    async fn given(self, device: &Device, parameters: Vec<HostTensor>) -> Result<Model> {
        Model::given(Architecture::Chain(self), device, parameters).await
    }

    /// Features of a step of the input.
    pub fn input(&self) -> usize {
        self.input
    }

    /// The layers, from the first to the last.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Features of the output.
    pub fn output(&self) -> usize {
        self.layers.iter().fold(self.input, |input, layer| layer.output(input))
    }

    /// The layers as a chain of nodes with their names: lstm, lstm_1, dense, ...
    pub(crate) fn nodes(&self) -> Result<Vec<Node>> {
        if self.layers.is_empty() {
            return Err(Error::Config("the model has no layer; add at least one LSTM or dense layer".into()));
        }
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let (mut input, mut whole) = (self.input, true);
        let mut nodes = Vec::new();
        for layer in &self.layers {
            let operator = layer.operator();
            let count = counts.entry(operator.kind()).or_default();
            let name = if *count == 0 { operator.kind().to_string() } else { format!("{}_{count}", operator.kind()) };
            *count += 1;
            if operator.inputs() != 1 {
                return Err(Error::Config(format!(
                    "{name} takes {} inputs; layers of a sequential model have one",
                    operator.inputs()
                )));
            }
            if operator.takes_sequence() && !whole {
                return Err(Error::Config(format!(
                    "{name} needs a sequence, but a layer below it gives one vector; if that is an LSTM, set \
                     return_sequences(true) on it"
                )));
            }
            whole &= !operator.ends_sequence();
            if operator.index_limit().is_some() && !(nodes.is_empty() && self.input == 1) {
                return Err(Error::Config(format!(
                    "{name} takes indices, so it must be the first layer of a model of one input feature; here it takes {input} \
                     features"
                )));
            }
            if operator.padding().is_some() && !nodes.is_empty() {
                return Err(Error::Config(format!("{name} compares the model's input, so it must be the first layer")));
            }
            let node = Node::new(name, input, layer.clone());
            node.validate()?;
            nodes.push(node);
            input = operator.output(&[input]);
        }
        Ok(nodes)
    }
}
