//! Sequential models: build, train, evaluate, predict and save, as in Keras.

mod architecture;
mod bare;
#[cfg(not(target_arch = "wasm32"))]
mod bare_layer;
mod batch;
mod cache;
mod data;
mod decoder;
mod given;
mod inference;
mod mask;
mod network;
mod own_loss;
mod parameters;
mod partial;
mod pass;
mod plans;
mod recovery;
mod resident;
mod sequential;
mod stepper;
mod stream;
mod summary;
mod tensors;
mod training;
#[cfg(not(target_arch = "wasm32"))]
mod training_state;
mod tune;

pub(crate) use architecture::Architecture;
pub use bare::{LstmGradients, LstmLayer, LstmOutput, LstmState};
#[cfg(not(target_arch = "wasm32"))]
pub use bare_layer::{BareLayer, LayerGradients};
pub(crate) use batch::check_divides;
pub(crate) use data::{Data, steps_within};
pub use decoder::{Decode, Decoder, Decoding, Hypothesis};
pub use given::{Inputs, Targets};
pub use inference::Evaluate;
pub(crate) use inference::batches;
pub use network::{IntoValues, Network, NodeBuilder, Value};
pub use partial::{OtherShape, PartialLoad};
pub use pass::{Gradients, NamedArrays, Pass, PassOptions};
pub(crate) use resident::Resident;
pub use sequential::Sequential;
pub use stepper::Stepper;
pub use stream::{Stream, StreamState};
pub(crate) use tensors::NamedTarget;
pub(crate) use training::MicroBatch;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use training_state::TrainingState;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::layer::{HostTensor, Layer};
use crate::network::{Graph, NetworkPlan};
use crate::wait;
use batch::check_lengths;
use cache::Plans;
use ndarray::ArrayD;
use parameters::{Parameters, SharedParameters, hosts};
use plans::Key;
use serde::Serialize;
use std::collections::BTreeMap;
use training::{Training, not_compiled};

/// A model on a device.
///
/// Several threads can share a model: methods that do not change it take `&self`, and their calls run at the same time, each with
/// its own buffers. A clone is an independent model that predicts, and continues to train, as this one would; the two share the
/// memory of weights and optimiser until either is trained or gets other weights.
///
/// ```
/// use ndarray::Array3;
/// use wgpu_lstm::{Dense, Device, Lstm, Sequential};
///
/// let model = Sequential::new(1).add(Lstm::new(8)).add(Dense::new(1)).build(&Device::cpu(), 7)?;
/// let x = Array3::ones((16, 5, 1)); // [N, T, I]
/// let expected = model.predict(x.view())?;
/// std::thread::scope(|scope| {
///     let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| model.predict(x.view()))).collect();
///     threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap().unwrap(), expected));
/// });
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
///
/// Training:
///
/// ```
/// use ndarray::{Array2, Array3};
/// use wgpu_lstm::{Dense, Device, Fit, Loss, Lstm, Optimiser, Sequential};
///
/// let mut model = Sequential::new(1).add(Lstm::new(8)).add(Dense::new(1)).build(&Device::cpu(), 7)?;
/// model.compile(Loss::MeanSquaredError, Optimiser::adam(0.01))?;
/// let x = Array3::from_shape_fn((16, 5, 1), |(n, t, _)| (n + t) as f32 / 20.0); // [N, T, I]
/// let y = Array2::from_shape_fn((16, 1), |(n, _)| (n + 5) as f32 / 20.0); // [N, F]
/// let history = model.fit(x.view(), y.view(), Fit::new().epochs(20))?;
/// assert!(history.loss[19] < history.loss[0]);
/// let prediction = model.predict(x.view())?; // [N, F]
/// assert_eq!(prediction.shape(), [16, 1]);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Debug)]
pub struct Model {
    architecture: Architecture,
    graph: Graph,
    device: Device,
    parameters: SharedParameters,
    training: Option<Training>,
    plans: Plans<Key, NetworkPlan>,
    extra: BTreeMap<String, serde_json::Value>,
}

impl Clone for Model {
    fn clone(&self) -> Model {
        Model {
            architecture: self.architecture.clone(),
            graph: self.graph.clone(),
            device: self.device.clone(),
            parameters: self.parameters.for_clone(),
            training: self.training.clone(),
            plans: self.plans.new_like(),
            extra: self.extra.clone(),
        }
    }
}

impl Model {
    /// A model that was not compiled for training.
    fn new(architecture: Architecture, device: &Device, graph: Graph, parameters: Parameters) -> Model {
        Model {
            architecture,
            graph,
            device: device.clone(),
            parameters: SharedParameters::new(parameters),
            training: None,
            plans: Plans::new(),
            extra: BTreeMap::new(),
        }
    }

    /// A model whose weights are drawn by `seed`.
    async fn drawn(architecture: Architecture, device: &Device, seed: u64) -> Result<Model> {
        let graph = architecture.graph()?;
        let parameters = Parameters::new(device, &graph, seed).await?;
        Ok(Model::new(architecture, device, graph, parameters))
    }

    /// A model with these parameters.
    async fn given(architecture: Architecture, device: &Device, parameters: Vec<HostTensor>) -> Result<Model> {
        let graph = architecture.graph()?;
        let parameters = Parameters::given(device, &graph, parameters).await?;
        Ok(Model::new(architecture, device, graph, parameters))
    }

    /// [`Model::given`], for readers of files.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn of(architecture: Architecture, device: &Device, parameters: Vec<HostTensor>) -> Result<Model> {
        wait::block_on(Model::given(architecture, device, parameters))
    }

    /// The layers that it was built from, if they are a chain.
    ///
    /// # Errors
    /// A model that was built from a [`Network`].
    pub fn config(&self) -> Result<&Sequential> {
        self.architecture.chain()
    }

    pub(crate) fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The network with its nodes in order.
    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Names and features of its inputs; the input of a chain is called x.
    ///
    /// ```
    /// use wgpu_lstm::{Dense, Device, Lstm, Sequential};
    /// let model = Sequential::new(3).add(Lstm::new(4)).add(Dense::new(2)).build(&Device::cpu(), 0)?;
    /// assert_eq!(model.inputs().collect::<Vec<_>>(), [("x", 3)]);
    /// assert_eq!(model.output_names(), ["y"]);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn inputs(&self) -> impl Iterator<Item = (&str, usize)> {
        self.graph.inputs.iter().map(|input| (input.name.as_str(), input.features))
    }

    /// Names of its outputs; the output of a chain is called y.
    pub fn output_names(&self) -> Vec<&str> {
        self.graph.output_names()
    }

    /// Its layers from first to last, with their names, which are the prefixes of their parameters (lstm, lstm_1, dense, ...).
    ///
    /// ```
    /// use wgpu_lstm::{Dense, Device, Lstm, Sequential};
    /// let model = Sequential::new(3).add(Lstm::new(4)).add(Dense::new(2)).build(&Device::cpu(), 0)?;
    /// assert_eq!(model.layers().map(|(name, _)| name).collect::<Vec<_>>(), ["lstm", "dense"]);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn layers(&self) -> impl Iterator<Item = (&str, &Layer)> {
        self.graph.nodes.iter().map(|plan| (plan.name.as_str(), &plan.layer))
    }

    /// The device that it runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A stateful session for `batch` streams; see [`Stream`].
    ///
    /// # Errors
    /// A bidirectional layer, which needs the whole sequence; a batch of 0.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn stream(&self, batch: usize) -> Result<Stream> {
        wait::block_on(self.stream_async(batch))
    }

    /// [`Model::stream`] for places that cannot block.
    pub async fn stream_async(&self, batch: usize) -> Result<Stream> {
        Stream::new(&self.graph, &self.device, self.parameters.for_stream(), batch).await
    }

    /// Keeps the compiled plans of at most `most` sizes, 8 by default: purpose (predict, evaluate, train), T, B, with or without
    /// lengths. The least recently used are dropped, and compiled again when their sizes return. A plan that is kept has its
    /// buffers on the device, for each thread that used it at the same time.
    ///
    /// ```
    /// use ndarray::Array3;
    /// use wgpu_lstm::{Dense, Device, Lstm, Sequential};
    /// let mut model = Sequential::new(1).add(Lstm::new(8)).add(Dense::new(1)).build(&Device::cpu(), 7)?;
    /// model.plan_cache(30); // sequences of 1 to 30 steps
    /// for steps in 1..=30 {
    ///     model.predict(Array3::ones((1, steps, 1)).view())?;
    /// }
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn plan_cache(&mut self, most: usize) {
        self.plans.set_most(most);
    }

    /// A table of the layers: their output shapes and numbers of parameters.
    pub fn summary(&self) -> String {
        summary::table(&self.graph, &self.parameters)
    }

    /// Number of parameters.
    pub fn parameter_count(&self) -> u64 {
        self.parameters.count("")
    }

    /// Keeps a value to be saved with the model, under a name: a scaler, the lookback, names of columns.
    ///
    /// # Errors
    /// A value that JSON cannot represent.
    ///
    /// ```
    /// use wgpu_lstm::{Dense, Device, Sequential};
    /// let mut model = Sequential::new(3).add(Dense::new(1)).build(&Device::cpu(), 0)?;
    /// model.set_extra("lookback", &30)?;
    /// assert_eq!(model.extra::<usize>("lookback")?, 30);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn set_extra(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        let value = serde_json::to_value(value).map_err(|error| Error::Config(format!("extra \"{name}\": {error}")))?;
        self.extra.insert(name.into(), value);
        Ok(())
    }

    /// A value kept with [`Model::set_extra`].
    ///
    /// # Errors
    /// No value of that name, or one of another type.
    pub fn extra<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T> {
        let value = self.extra.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.extra.keys().map(String::as_str).collect();
            Error::Config(format!("the model keeps no value \"{name}\"; it keeps: {}", known.join(", ")))
        })?;
        serde_json::from_value(value.clone()).map_err(|error| Error::Config(format!("extra \"{name}\": {error}")))
    }

    /// All values kept with [`Model::set_extra`].
    pub(crate) fn extras(&self) -> &BTreeMap<String, serde_json::Value> {
        &self.extra
    }

    pub(crate) fn set_extras(&mut self, extra: BTreeMap<String, serde_json::Value>) {
        self.extra = extra;
    }

    /// All parameters by name (`lstm.weight_ih_l0`, `dense.weight`, ...), in PyTorch's shapes.
    ///
    /// # Errors
    /// A device failure.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn parameters(&self) -> Result<BTreeMap<String, ArrayD<f32>>> {
        let array = |host: HostTensor| Some((host.name, ArrayD::from_shape_vec(host.shape, host.values).ok()?));
        Ok(self.export()?.into_iter().filter_map(array).collect())
    }

    /// Replaces all parameters, given by name and in PyTorch's shapes.
    ///
    /// # Errors
    /// A tensor that is missing, unknown, of another shape or not finite; the parameters are then unchanged.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn set_parameters(&mut self, parameters: BTreeMap<String, ArrayD<f32>>) -> Result<()> {
        wait::block_on(self.set_parameters_async(parameters))
    }

    /// [`Model::set_parameters`] for places that cannot block.
    pub async fn set_parameters_async(&mut self, parameters: BTreeMap<String, ArrayD<f32>>) -> Result<()> {
        self.import_async(hosts(parameters)?).await
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn export(&self) -> Result<Vec<HostTensor>> {
        wait::block_on(self.parameters.export())
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn import(&mut self, tensors: Vec<HostTensor>) -> Result<()> {
        wait::block_on(self.import_async(tensors))
    }

    async fn import_async(&mut self, tensors: Vec<HostTensor>) -> Result<()> {
        if !self.parameters.is_shared() {
            return self.parameters.import(tensors);
        }
        self.parameters.replace(Parameters::given(&self.device, &self.graph, tensors).await?);
        self.plans.forget(|_| true);
        Ok(())
    }

    /// True if every output is a sequence.
    pub(crate) fn returns_sequences(&self) -> bool {
        self.graph.outputs.iter().all(|output| self.graph.axis(output.from).is_some())
    }
}
