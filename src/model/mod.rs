//! Sequential models: build, train, evaluate, predict and save, as in Keras.

mod bare;
mod cache;
mod mask;
mod parameters;
mod recovery;
mod sequential;
mod stream;
mod summary;
#[cfg(not(target_arch = "wasm32"))]
mod training_state;

pub use bare::{LstmGradients, LstmLayer, LstmOutput, LstmState};
pub use sequential::Sequential;
pub use stream::{Stream, StreamState};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use training_state::TrainingState;

use crate::activation::Activation;
use crate::device::{Device, Tensor};
use crate::error::{Error, Result};
use crate::fit::{self, Fit, History, Progress};
use crate::layer::{HostTensor, Layer};
use crate::memory;
use crate::network::{Batch, NetworkPlan, Node, Purpose, check_carried, check_segments, network};
use crate::plan::{BufferId, Plan, Role};
use crate::train::{Clip, Loss, Optimiser, TimeCheckpoints, Update};
use crate::transfer::{Order, download, finite, key_and_lengths, not_empty, upload};
use crate::wait;
use cache::{Compiled, Lease, Plans};
use ndarray::{Array3, ArrayD, ArrayView, ArrayView2, ArrayView3, Axis, Dimension, Ix3, s};
use parameters::{Parameters, SharedParameters, hosts};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, hash_map::Entry};
use std::sync::Arc;

/// Training of a compiled model: loss, optimiser and its state.
#[derive(Clone, Debug)]
struct Training {
    loss: Loss,
    update: Update,
    /// True if the host weights rows.
    weighted: bool,
    /// Seed of the random bits, which depend on it and on the step.
    seed: u32,
    /// Number of steps taken.
    steps: u64,
    /// Progress of fits.
    progress: Progress,
    /// State of the optimiser, by buffer name.
    memory: HashMap<String, Tensor>,
    /// Checkpoints along time.
    checkpoints: TimeCheckpoints,
    /// States of recurrent layers that are carried from batch to batch, by B and buffer name.
    states: HashMap<(usize, String), Tensor>,
    /// Losses of the last steps, on the device.
    log: Tensor,
    pace: fit::Pace,
    /// Reference count of the clones that share these tensors; only a sole owner may write to them.
    sharing: Arc<()>,
}

impl Training {
    /// True if a clone shares the tensors.
    fn is_shared(&mut self) -> bool {
        Arc::get_mut(&mut self.sharing).is_none()
    }

    /// Copies the tensors if a clone shares them; returns true if so.
    async fn detach(&mut self, device: &Device) -> Result<bool> {
        if !self.is_shared() {
            return Ok(false);
        }
        let (mut memory, mut states) = (HashMap::new(), HashMap::new());
        for (name, tensor) in &self.memory {
            memory.insert(name.clone(), device.copied(name, tensor).await?);
        }
        for (key, tensor) in &self.states {
            states.insert(key.clone(), device.copied(&key.1, tensor).await?);
        }
        let log = device.copied("losses", &self.log).await?;
        (self.memory, self.states, self.log, self.sharing) = (memory, states, log, Arc::default());
        Ok(true)
    }
}

/// Number of losses that the device keeps until the host reads them.
const LOG: u64 = fit::MOST_STEPS as u64;

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
    config: Sequential,
    layers: Vec<Node>,
    device: Device,
    parameters: SharedParameters,
    training: Option<Training>,
    plans: Plans<Key, NetworkPlan>,
    extra: BTreeMap<String, serde_json::Value>,
}

impl Clone for Model {
    fn clone(&self) -> Model {
        Model {
            config: self.config.clone(),
            layers: self.layers.clone(),
            device: self.device.clone(),
            parameters: self.parameters.for_clone(),
            training: self.training.clone(),
            plans: self.plans.new_like(),
            extra: self.extra.clone(),
        }
    }
}

/// Purpose of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PlanPurpose {
    Predict,
    Evaluate,
    Train,
}

/// Key of a cached plan, beside its sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    purpose: PlanPurpose,
    ragged: bool,
    stateful: bool,
}

impl Model {
    /// A model that was not compiled for training.
    fn new(config: Sequential, device: &Device, layers: Vec<Node>, parameters: Parameters) -> Model {
        Model {
            config,
            layers,
            device: device.clone(),
            parameters: SharedParameters::new(parameters),
            training: None,
            plans: Plans::new(),
            extra: BTreeMap::new(),
        }
    }

    /// The layers that it was built from.
    pub fn config(&self) -> &Sequential {
        &self.config
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
        self.layers.iter().map(|plan| (plan.name.as_str(), &plan.layer))
    }

    /// The device that it runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Sets loss and optimiser (an [`Optimiser`], or an [`Update`] with clipping and regularisers) for [`Model::fit`]; the
    /// optimiser's state is reset.
    ///
    /// # Errors
    /// Settings out of range, or that do not fit the model's output or its parameters.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn compile(&mut self, loss: Loss, update: impl Into<Update>) -> Result<()> {
        wait::block_on(self.compile_async(loss, update))
    }

    /// [`Model::compile`] for places that cannot block.
    pub async fn compile_async(&mut self, loss: Loss, update: impl Into<Update>) -> Result<()> {
        let update = update.into();
        let tensors: Vec<_> = self.layers.iter().flat_map(Node::parameters).collect();
        update.validate(&tensors)?;
        loss.validate()?;
        loss.target_width(self.config.output())?;
        let activations = self.config.layers.iter().rev().find_map(|layer| layer.operator().output_activation());
        let activation = activations.unwrap_or_default();
        if loss.takes_logits() && activation != Activation::Linear {
            return Err(Error::Config(format!(
                "{} takes logits, but the model's output goes through the activation {activation}; use Linear, or leave it out",
                loss.name(),
            )));
        }
        let log = self.device.tensor("losses", LOG).await?;
        self.training = Some(Training {
            loss,
            update,
            weighted: false,
            seed: 0,
            steps: 0,
            progress: Progress::default(),
            memory: HashMap::new(),
            checkpoints: TimeCheckpoints::Off,
            states: HashMap::new(),
            log,
            pace: fit::Pace::new(),
            sharing: Arc::default(),
        });
        self.plans.forget(|Key { purpose, .. }| purpose != PlanPurpose::Predict);
        Ok(())
    }

    /// Scales the gradients of all layers together down to at most this norm before each step, as
    /// `torch.nn.utils.clip_grad_norm_` does; `None` switches it off. Call it after [`Model::compile`].
    ///
    /// # Errors
    /// A norm that is not above 0; a model that was not compiled.
    pub fn clip_norm(&mut self, norm: Option<f32>) -> Result<()> {
        let training = self.training.as_mut().ok_or_else(not_compiled)?;
        let update = Update { clip: norm.map(Clip::Norm), ..training.update.clone() };
        let tensors: Vec<_> = self.layers.iter().flat_map(Node::parameters).collect();
        update.validate(&tensors)?;
        training.update = update;
        self.plans.forget(|Key { purpose, .. }| purpose == PlanPurpose::Train);
        Ok(())
    }

    /// Sets the checkpoints along time (gradient checkpointing); see [`TimeCheckpoints`]. Call it after [`Model::compile`].
    ///
    /// # Errors
    /// Segments of 0 steps; a layer that needs the whole sequence (two directions, one that runs backwards, pooling), named; a model
    /// without a recurrent layer, or that was not compiled.
    ///
    /// ```
    /// use wgpu_lstm::{Dense, Device, Loss, Lstm, Optimiser, Sequential, TimeCheckpoints};
    /// let mut model = Sequential::new(3).add(Lstm::new(32)).add(Dense::new(1)).build(&Device::cpu(), 0)?;
    /// model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-3))?;
    /// let plain = model.training_plan(16, 1024)?.bytes();
    /// model.checkpoint_time(TimeCheckpoints::SquareRoot)?;
    /// assert!(model.training_plan(16, 1024)?.bytes() < plain / 10);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn checkpoint_time(&mut self, checkpoints: TimeCheckpoints) -> Result<()> {
        let training = self.training.as_mut().ok_or_else(not_compiled)?;
        if checkpoints != TimeCheckpoints::Off {
            check_segments(&self.layers)?;
        }
        if checkpoints == TimeCheckpoints::Every(0) {
            return Err(Error::Config("checkpoints along time are set to every 0 steps; use at least 1".into()));
        }
        training.checkpoints = checkpoints;
        self.plans.forget(|Key { purpose, .. }| purpose == PlanPurpose::Train);
        Ok(())
    }

    /// Sets the learning rate for the steps to come.
    ///
    /// # Errors
    /// A rate that is negative or not finite; a model that was not compiled.
    pub fn set_learning_rate(&mut self, rate: f64) -> Result<()> {
        let training = self.training.as_mut().ok_or_else(not_compiled)?;
        let optimiser = Optimiser { lr: rate, ..training.update.optimiser.clone() };
        optimiser.validate()?;
        training.update.optimiser = optimiser;
        Ok(())
    }

    /// The learning rate of the next step.
    ///
    /// # Errors
    /// A model that was not compiled.
    ///
    /// ```
    /// use wgpu_lstm::{Dense, Device, Loss, Optimiser, Sequential};
    /// let mut model = Sequential::new(3).add(Dense::new(1)).build(&Device::cpu(), 0)?;
    /// model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-3))?;
    /// model.set_learning_rate(model.learning_rate()? / 10.0)?;
    /// assert_eq!(model.learning_rate()?, 1e-4);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn learning_rate(&self) -> Result<f64> {
        self.training.as_ref().map(|training| training.update.optimiser.lr).ok_or_else(not_compiled)
    }

    /// Turns weights of rows on or off for the next steps.
    pub(crate) fn set_weighted(&mut self, weighted: bool) -> Result<()> {
        let training = self.training.as_mut().ok_or_else(not_compiled)?;
        if std::mem::replace(&mut training.weighted, weighted) != weighted {
            self.plans.forget(|Key { purpose, .. }| purpose == PlanPurpose::Train);
        }
        Ok(())
    }

    /// Sets the seed of the random bits of the next steps.
    pub(crate) fn set_seed(&mut self, seed: u64) -> Result<()> {
        let training = self.training.as_mut().ok_or_else(not_compiled)?;
        training.seed = seed as u32 ^ (seed >> 32) as u32;
        Ok(())
    }

    /// Sets the states that training carries from batch to batch to zero, as Keras's `reset_states`; see
    /// [`Fit::stateful`](crate::Fit::stateful).
    ///
    /// # Errors
    /// A model that was not compiled.
    pub fn reset_states(&mut self) -> Result<()> {
        self.clear(|training| &mut training.states)
    }

    /// Sets some of the tensors that training keeps from step to step to zero.
    fn clear<K>(&mut self, of: fn(&mut Training) -> &mut HashMap<K, Tensor>) -> Result<()> {
        let training = self.training.as_mut().ok_or_else(not_compiled)?;
        let is_shared = training.is_shared();
        let tensors = of(training);
        if is_shared {
            // The next step allocates new ones, zeroed.
            tensors.clear();
            self.plans.forget(|Key { purpose, .. }| purpose == PlanPurpose::Train);
        } else {
            tensors.values().for_each(Tensor::clear);
        }
        Ok(())
    }

    /// Refuses models whose states cannot be carried from one part of a sequence to the next.
    pub(crate) fn check_carried(&self) -> Result<()> {
        if !self.layers.iter().any(Node::is_recurrent) {
            return Err(Error::Config("the model has no recurrent layer, so there is no state to carry".into()));
        }
        check_carried(&self.layers, "carry its state from batch to batch")
    }

    /// Progress of fits.
    pub(crate) fn progress(&self) -> Result<&Progress> {
        self.training.as_ref().map(|training| &training.progress).ok_or_else(not_compiled)
    }

    /// Progress of fits, to be updated.
    pub(crate) fn progress_mut(&mut self) -> Result<&mut Progress> {
        self.training.as_mut().map(|training| &mut training.progress).ok_or_else(not_compiled)
    }

    /// The loss that it was compiled with.
    pub(crate) fn loss(&self) -> Result<&Loss> {
        self.training.as_ref().map(|training| &training.loss).ok_or_else(not_compiled)
    }

    /// Trains on x [N, T, I] and y: [N, F] (or `[N]` where F is 1) for a model that returns the last step, [N, T, F] for
    /// one that returns sequences.
    ///
    /// # Errors
    /// Shapes that do not fit, numbers that are not finite (named by their position), settings out of range, a loss or weights
    /// that become NaN or infinite ([`Error::Diverged`], with the step; not an error if a callback can restore earlier weights,
    /// as [`EarlyStopping`](crate::EarlyStopping) does), errors of callbacks. After divergence the optimiser's state, its
    /// count of steps and carried states are zero, so that finite weights can be trained further.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn fit<D: Dimension>(&mut self, x: ArrayView3<f32>, y: ArrayView<f32, D>, fit: Fit<'_>) -> Result<History> {
        wait::block_on(self.fit_async(x, y, fit))
    }

    /// [`Model::fit`] for places that cannot block.
    pub async fn fit_async<D: Dimension>(
        &mut self,
        x: ArrayView3<'_, f32>,
        y: ArrayView<'_, f32, D>,
        fit: Fit<'_>,
    ) -> Result<History> {
        let y = self.target(y)?;
        fit::fit(self, x, y, fit).await
    }

    /// The loss on x and y (shaped as for [`Model::fit`]), averaged over all sequences.
    ///
    /// # Errors
    /// As [`Model::fit`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn evaluate<D: Dimension>(&self, x: ArrayView3<f32>, y: ArrayView<f32, D>) -> Result<f32> {
        let y = self.target(y)?;
        wait::block_on(self.evaluate_async(x, y, None))
    }

    /// [`Model::evaluate`] for sequences that end before step `lengths[n]`, as in [`Fit::lengths`]: steps past their ends do not
    /// count.
    ///
    /// # Errors
    /// As [`Model::fit`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn evaluate_ragged<D: Dimension>(
        &self,
        x: ArrayView3<f32>,
        y: ArrayView<f32, D>,
        lengths: &[usize],
    ) -> Result<f32> {
        let y = self.target(y)?;
        wait::block_on(self.evaluate_async(x, y, Some(lengths)))
    }

    /// [`Model::evaluate`] in batches of `batch_size`, each of which continues from the states of the one before, as
    /// [`Fit::stateful`] trains: the states begin at zero and are carried from batch to batch. [`Model::stream`] predicts so.
    ///
    /// # Errors
    /// As [`Model::fit`]; a batch size that does not divide N.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn evaluate_stateful<D: Dimension>(
        &self,
        x: ArrayView3<f32>,
        y: ArrayView<f32, D>,
        batch_size: usize,
    ) -> Result<f32> {
        let y = self.target(y)?;
        wait::block_on(self.evaluate_stateful_async(x, y, None, batch_size))
    }

    /// [`Model::evaluate_stateful`] for places that cannot block, with y as [N, T, F]; with `lengths`, as
    /// [`Model::evaluate_ragged`].
    pub async fn evaluate_stateful_async(
        &self,
        x: ArrayView3<'_, f32>,
        y: ArrayView3<'_, f32>,
        lengths: Option<&[usize]>,
        batch_size: usize,
    ) -> Result<f32> {
        self.check_carried()?;
        check_divides("x", x.dim().0, batch_size)?;
        self.evaluate_in(x, y, lengths, Some(batch_size)).await
    }

    /// [`Model::evaluate`] for places that cannot block, with y as [N, T, F]; with `lengths`, as [`Model::evaluate_ragged`].
    pub async fn evaluate_async(
        &self,
        x: ArrayView3<'_, f32>,
        y: ArrayView3<'_, f32>,
        lengths: Option<&[usize]>,
    ) -> Result<f32> {
        self.evaluate_in(x, y, lengths, None).await
    }

    /// The loss, in batches of `stateful` sequences that carry their states, or in independent batches.
    async fn evaluate_in(
        &self,
        x: ArrayView3<'_, f32>,
        y: ArrayView3<'_, f32>,
        lengths: Option<&[usize]>,
        stateful: Option<usize>,
    ) -> Result<f32> {
        fit::check_data(self, "x", "y", &x, &y)?;
        let (count, steps, _) = x.dim();
        let lengths = self.config.lengths("x", &x, lengths)?;
        let (mut sum, mut terms) = (0.0f64, 0usize);
        let mut lease: Option<Lease<'_, _, _>> = None;
        for range in batches(count, stateful.unwrap_or_else(|| batch_size(steps))) {
            let rows = s![range.clone(), .., ..];
            let given = BatchInputs {
                x: x.slice(rows),
                y: Some(y.slice(rows)),
                lengths: lengths.as_ref().map(|all| &all[range.clone()]),
                weights: None,
                stateful: stateful.is_some(),
            };
            let counted = given.rows(self.returns_sequences());
            // Batches of the same size continue with the same states.
            let compiled = match lease.take() {
                Some(lease) if lease.key() == given.key(PlanPurpose::Evaluate) => lease,
                _ => {
                    let compiled = self.compiled(PlanPurpose::Evaluate, &given).await?;
                    zero_states(&compiled)?;
                    compiled
                }
            };
            self.run(&compiled, &given).await?;
            let loss = compiled.plan.loss.ok_or_else(|| Error::Plan("an evaluation without a loss".into()))?;
            sum += compiled.executable.read_async((loss, 0), 1).await?[0] as f64 * counted as f64;
            lease = Some(compiled);
            terms += counted;
        }
        Ok((sum / terms.max(1) as f64) as f32)
    }

    /// The output for x [N, T, I]: [N, F] for a model that returns the last step, else [N, T, F].
    ///
    /// # Errors
    /// Shapes that do not fit, numbers that are not finite, sizes that the device cannot hold.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn predict(&self, x: ArrayView3<f32>) -> Result<ArrayD<f32>> {
        wait::block_on(self.predict_async(x, None))
    }

    /// [`Model::predict`] for sequences that end before step `lengths[n]`: recurrent layers and pooling ignore later steps. Outputs
    /// of recurrent layers past a sequence's end are 0; dense layers above them map these zeros to the output.
    ///
    /// # Errors
    /// As [`Model::predict`]; lengths that are too many, too few or beyond T.
    ///
    /// ```
    /// use ndarray::Array3;
    /// use wgpu_lstm::{Dense, Device, Lstm, Sequential};
    /// let mut model = Sequential::new(1).add(Lstm::new(8).bidirectional(true)).add(Dense::new(2)).build(&Device::cpu(), 7)?;
    /// let (padded, alone) = (Array3::ones((1, 9, 1)), Array3::ones((1, 4, 1)));
    /// assert_eq!(model.predict_ragged(padded.view(), &[4])?, model.predict(alone.view())?);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn predict_ragged(&self, x: ArrayView3<f32>, lengths: &[usize]) -> Result<ArrayD<f32>> {
        wait::block_on(self.predict_async(x, Some(lengths)))
    }

    /// [`Model::predict`] for places that cannot block; with `lengths`, as [`Model::predict_ragged`].
    pub async fn predict_async(&self, x: ArrayView3<'_, f32>, lengths: Option<&[usize]>) -> Result<ArrayD<f32>> {
        self.check_input("x", &x)?;
        finite("x", "[sequence, step, feature]", &x)?;
        let (count, steps, _) = x.dim();
        let lengths = self.config.lengths("x", &x, lengths)?;
        let mut parts: Vec<Array3<f32>> = Vec::new();
        for range in batches(count, batch_size(steps)) {
            let given = BatchInputs {
                x: x.slice(s![range.clone(), .., ..]),
                y: None,
                lengths: lengths.as_ref().map(|all| &all[range.clone()]),
                weights: None,
                stateful: false,
            };
            let compiled = self.compiled(PlanPurpose::Predict, &given).await?;
            self.run(&compiled, &given).await?;
            let mut y = Array3::default((0, 0, 0));
            download(&compiled.executable, &compiled.plan.y, range.len(), Order::Batch, &mut y).await?;
            parts.push(y);
        }
        let y = if parts.len() == 1 { parts.remove(0) } else { joined(&parts)? };
        Ok(if self.returns_sequences() { y.into_dyn() } else { y.index_axis_move(Axis(1), 0).into_dyn() })
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
        Stream::new(&self.config, &self.layers, &self.device, self.parameters.for_stream(), batch).await
    }

    /// The plan of a training step for B sequences of T steps, for inspection.
    ///
    /// # Errors
    /// Sizes that the device cannot hold; a model that was not compiled.
    pub fn training_plan(&self, batch: usize, steps: usize) -> Result<Plan> {
        let ragged = self.config.mask().is_some();
        let purpose = self.purpose(PlanPurpose::Train, ragged)?;
        let sizes = Batch::new(batch, steps).ragged(ragged).segment(self.segment(PlanPurpose::Train, steps));
        Ok(network(&self.layers, sizes, purpose, self.device.capabilities())?.plan)
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
        summary::table(&self.layers, &self.parameters)
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
        self.parameters.replace(Parameters::given(&self.device, &self.layers, tensors).await?);
        self.plans.forget(|_| true);
        Ok(())
    }

    /// One optimiser step on a batch; the loss goes to the log.
    pub(crate) async fn train_step(&mut self, given: &BatchInputs<'_>, slot: usize) -> Result<()> {
        if self.parameters.detach(&self.device).await? {
            self.plans.forget(|_| true);
        }
        let training = self.training.as_mut().ok_or_else(not_compiled)?;
        if training.detach(&self.device).await? {
            self.plans.forget(|Key { purpose, .. }| purpose == PlanPurpose::Train);
        }
        let key = given.key(PlanPurpose::Train);
        let compiled = match self.plans.take(key) {
            Some(compiled) => compiled,
            None => {
                let plan = self.plan(key)?;
                self.remember(&plan.plan, key.2).await?;
                self.make_ready(key, plan).await?
            }
        };
        let step = self.training.as_ref().ok_or_else(not_compiled)?.steps + 1;
        self.hand_over(&compiled, given, step).await?;
        let executable = &compiled.executable;
        let done = executable.run_slices(executable.traceless()).await?;
        {
            // From here on the step is atomic: streams see all of it or none, and a future dropped before this point has no effect.
            let _changing = self.parameters.change();
            executable.run_range(done..executable.plan().commands.len())?;
        }
        let training = self.training.as_mut().ok_or_else(not_compiled)?;
        training.steps = step;
        let loss = compiled.plan.loss.ok_or_else(|| Error::Plan("a training plan without a loss".into()))?;
        compiled.executable.copy_out((loss, 0), (&training.log, slot as u64), 1)?;
        drop(self.plans.lend(key, compiled));
        Ok(())
    }

    /// Runs a plan that does not change the model on a batch.
    async fn run(&self, compiled: &Compiled<NetworkPlan>, given: &BatchInputs<'_>) -> Result<()> {
        self.hand_over(compiled, given, 0).await?;
        compiled.executable.run_async().await
    }

    /// Uploads a batch to a plan's buffers; `step` is the training step.
    async fn hand_over(&self, compiled: &Compiled<NetworkPlan>, given: &BatchInputs<'_>, step: u64) -> Result<()> {
        wait::yield_now().await;
        let Compiled { plan, executable } = compiled;
        let (batch, steps, _) = given.x.dim();
        let whole = self.returns_sequences();
        let x = self.config.blanked(given.x, given.lengths)?;
        upload(executable, &plan.x, x.view().permuted_axes([1, 0, 2]))?;
        if let (Some(target), Some(y)) = (&plan.target, given.y) {
            upload(executable, target, y.permuted_axes([1, 0, 2]))?;
        }
        if let Some(training) = &self.training {
            if let Some(buffer) = plan.row_weights {
                executable.write((buffer, 0), &given.factors(&training.loss, plan, whole)?)?;
            }
            if let Some(hyper) = plan.hyper {
                executable.write((hyper, 0), &training.update.optimiser.hyper(step))?;
            }
        }
        if let Some(buffer) = plan.words {
            let key = self.training.as_ref().map_or([0; 2], |training| [training.seed, step as u32]);
            executable.write((buffer, 0), &key_and_lengths(key, given.lengths, batch, steps)?)?;
        }
        Ok(())
    }

    /// The first losses of the log.
    pub(crate) async fn step_losses(&self, count: usize) -> Result<Vec<f32>> {
        self.training.as_ref().ok_or_else(not_compiled)?.log.read(0..count as u64).await
    }

    fn purpose(&self, purpose: PlanPurpose, ragged: bool) -> Result<Purpose<'_>> {
        let training = self.training.as_ref().ok_or_else(not_compiled);
        // Steps past the ends of sequences have weight 0.
        let ends = ragged && self.returns_sequences();
        Ok(match purpose {
            PlanPurpose::Predict => Purpose::Predict,
            PlanPurpose::Evaluate => Purpose::Evaluate { loss: &training?.loss, weighted: ends },
            PlanPurpose::Train => {
                let Training { loss, update, weighted, .. } = training?;
                Purpose::Train { loss, update, weighted: *weighted || ends }
            }
        })
    }

    /// Steps of a segment, if training has checkpoints along time.
    fn segment(&self, purpose: PlanPurpose, steps: usize) -> Option<usize> {
        match (purpose, &self.training) {
            (PlanPurpose::Train, Some(training)) => training.checkpoints.segment(steps),
            _ => None,
        }
    }

    /// A compiled plan that does not change the model.
    async fn compiled(&self, purpose: PlanPurpose, given: &BatchInputs<'_>) -> Result<Lease<'_, Key, NetworkPlan>> {
        let key = given.key(purpose);
        let compiled = match self.plans.take(key) {
            Some(compiled) => compiled,
            None => self.make_ready(key, self.plan(key)?).await?,
        };
        Ok(self.plans.lend(key, compiled))
    }

    fn plan(&self, (Key { purpose, ragged, stateful }, steps, batch): (Key, usize, usize)) -> Result<NetworkPlan> {
        let sizes = Batch::new(batch, steps).ragged(ragged).stateful(stateful).segment(self.segment(purpose, steps));
        let plan = network(&self.layers, sizes, self.purpose(purpose, ragged)?, self.device.capabilities())?;
        log::debug!("{}", plan.plan);
        Ok(plan)
    }

    /// Allocates the tensors that a training plan keeps from step to step, unless they exist.
    async fn remember(&mut self, plan: &Plan, batch: usize) -> Result<()> {
        let training = self.training.as_mut().ok_or_else(not_compiled)?;
        for buffer in plan.buffers.iter().filter(|buffer| buffer.role == Role::Optimiser) {
            if !training.memory.contains_key(&buffer.name) {
                let tensor = self.device.tensor(&buffer.name, buffer.len).await?;
                training.memory.insert(buffer.name.clone(), tensor);
            }
        }
        for buffer in plan.buffers.iter().filter(|buffer| buffer.role == Role::State) {
            if let Entry::Vacant(place) = training.states.entry((batch, buffer.name.clone())) {
                place.insert(self.device.tensor(&buffer.name, buffer.len).await?);
            }
        }
        Ok(())
    }

    async fn make_ready(
        &self,
        (Key { purpose, .. }, _, batch): (Key, usize, usize),
        plan: NetworkPlan,
    ) -> Result<Compiled<NetworkPlan>> {
        let training = self.training.as_ref().filter(|_| purpose == PlanPurpose::Train);
        let shared = |name: &str| {
            let memory = training.and_then(|training| {
                let state = || training.states.get(&(batch, name.to_string()));
                training.memory.get(name).or_else(state).cloned()
            });
            memory.or_else(|| self.parameters.tensor(name))
        };
        let executable = self.device.compile_with(plan.plan.clone(), shared).await?;
        Ok(Compiled { plan, executable })
    }

    pub(crate) fn returns_sequences(&self) -> bool {
        !self.config.layers.iter().any(|layer| layer.operator().ends_sequence())
    }

    /// Steps and features of the output for an input of `steps`.
    pub(crate) fn output_shape(&self, steps: usize) -> (usize, usize) {
        (if self.returns_sequences() { steps } else { 1 }, self.config.output())
    }

    /// A target as [N, T, F].
    fn target<'a, D: Dimension>(&self, y: ArrayView<'a, f32, D>) -> Result<ArrayView3<'a, f32>> {
        let y = y.into_dyn();
        let given = y.shape().to_vec();
        let y = match (y.ndim(), self.returns_sequences()) {
            (1, false) => y.insert_axis(Axis(1)).insert_axis(Axis(2)),
            (2, false) => y.insert_axis(Axis(1)),
            _ => y,
        };
        y.into_dimensionality::<Ix3>().map_err(|_| {
            let expected = if self.returns_sequences() { "[N, T, F]" } else { "[N, F]" };
            Error::Shape(format!("y has shape {given:?}, the model's output is {expected}"))
        })
    }

    pub(crate) fn check_input(&self, name: &str, x: &ArrayView3<f32>) -> Result<()> {
        if x.dim().2 != self.config.input {
            return Err(Error::Shape(format!(
                "{name} has {} features, the model expects {} (shape [N, T, I] = {:?})",
                x.dim().2,
                self.config.input,
                x.shape()
            )));
        }
        not_empty(name, "[N, T, I]", x.shape())?;
        self.config.check_indices(name, x)
    }
}

/// Inputs of a batch on the host.
pub(crate) struct BatchInputs<'a> {
    /// [B, T, I].
    pub x: ArrayView3<'a, f32>,
    /// [B, T or 1, F].
    pub y: Option<ArrayView3<'a, f32>>,
    /// `[B]`.
    pub lengths: Option<&'a [usize]>,
    /// [B, T or 1].
    pub weights: Option<ArrayView2<'a, f32>>,
    /// True if it continues from the states of the batch before.
    pub stateful: bool,
}

impl BatchInputs<'_> {
    /// Purpose, T and B of its plan.
    fn key(&self, purpose: PlanPurpose) -> (Key, usize, usize) {
        let (batch, steps, _) = self.x.dim();
        (Key { purpose, ragged: self.lengths.is_some(), stateful: self.stateful }, steps, batch)
    }

    /// Number of the output's rows that count: steps before the ends of sequences if it has `whole` sequences, else one a sequence.
    pub fn rows(&self, whole: bool) -> usize {
        let (batch, steps, _) = self.x.dim();
        match self.lengths {
            Some(lengths) if whole => lengths.iter().sum(),
            _ if whole => batch * steps,
            _ => batch,
        }
    }

    /// The factor of each row's loss, [T or 1, B]: its weight over the number of terms, 0 past the end of a sequence.
    fn factors(&self, loss: &Loss, plan: &NetworkPlan, whole: bool) -> Result<Vec<f32>> {
        let steps = plan.y.steps as usize;
        let terms = loss.terms(self.rows(whole) as u64, plan.y.features as u64);
        let factor = |t: usize, b: usize| {
            let past = whole && self.lengths.is_some_and(|lengths| t >= lengths[b]);
            let weight = self.weights.map_or(1.0, |weights| weights[[b, t % weights.ncols()]]);
            if past { 0.0 } else { (weight as f64 / terms) as f32 }
        };
        let batch = self.x.dim().0;
        let factors = (0..steps).flat_map(|t| (0..batch).map(move |b| factor(t, b)));
        memory::collect(steps * batch, factors, "weights of rows")
    }
}

/// Sets the states that a plan carries from batch to batch in its own buffers to zero.
fn zero_states(compiled: &Compiled<NetworkPlan>) -> Result<()> {
    for (k, buffer) in compiled.plan.plan.buffers.iter().enumerate().filter(|(_, buffer)| buffer.role == Role::State) {
        compiled.executable.write((BufferId(k), 0), &memory::zeros(buffer.len as usize, &buffer.name)?)?;
    }
    Ok(())
}

/// Refuses lengths that do not fit.
fn check_lengths(lengths: Option<&[usize]>, count: usize, steps: usize) -> Result<()> {
    key_and_lengths([0; 2], lengths, count, steps).map(drop)
}

/// Concatenates arrays along the first axis.
fn joined(parts: &[Array3<f32>]) -> Result<Array3<f32>> {
    let (_, steps, features) = parts.first().map_or((0, 0, 0), |part| part.dim());
    let count = parts.iter().map(|part| part.dim().0).sum();
    let values = parts.iter().flatten().copied();
    memory::array_of((count, steps, features), values, format_args!("an output of {count} sequences"))
}

fn not_compiled() -> Error {
    Error::Config("the model has no loss and no optimiser yet; call compile first".into())
}

/// Refuses a batch size that does not divide the number of sequences: a last, smaller batch would get states of other sequences.
pub(crate) fn check_divides(name: &str, count: usize, batch_size: usize) -> Result<()> {
    if batch_size == 0 || !count.is_multiple_of(batch_size) {
        return Err(Error::Config(format!(
            "{name} has {count} sequences, which do not divide into batches of {batch_size}; states that are carried from \
             batch to batch need batches of the same size"
        )));
    }
    Ok(())
}

/// Batch size of a pass without training: large, but of bounded memory.
fn batch_size(steps: usize) -> usize {
    (65_536 / steps).clamp(1, 256)
}

fn batches(count: usize, size: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..count).step_by(size).map(move |first| first..(first + size).min(count))
}
