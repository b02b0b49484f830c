//! Training of a model: settings, states and steps.

use super::Model;
use super::cache::Compiled;
use super::data::Data;
use super::given::{Inputs, Targets};
use super::plans::{Key, PlanPurpose};
use crate::activation::Activation;
use crate::device::{Device, Tensor, TensorReading};
use crate::error::{Error, Result};
use crate::fit::{self, Fit, History, Progress};
use crate::network::{Batch, GraphOutput, NetworkPlan, Node, check_carried, check_segments, graph_plan};
use crate::plan::{Plan, Role};
use crate::train::{Clip, Loss, Losses, Optimiser, TimeCheckpoints, Update};
use crate::wait::{self, MaybeSend};
use std::collections::{HashMap, hash_map::Entry};
use std::ops::Range;
use std::sync::Arc;

/// Number of losses that the device keeps until the host reads them.
const LOG: u64 = fit::MOST_STEPS as u64;

/// Training of a compiled model: loss, optimiser and its state.
#[derive(Clone, Debug)]
pub(super) struct Training {
    pub(super) loss: Losses,
    pub(super) update: Update,
    /// True if the host weights rows.
    pub(super) weighted: bool,
    /// True if the gradients of several batches are added up for a step.
    pub(super) accumulate: bool,
    /// Sums of the batches' gradients and losses, by buffer name.
    pub(super) gradients: HashMap<String, Tensor>,
    /// Seed of the random bits, which depend on it and on the step.
    pub(super) seed: u32,
    /// Number of steps taken.
    pub(super) steps: u64,
    /// Progress of fits.
    pub(super) progress: Progress,
    /// State of the optimiser, by buffer name.
    pub(super) memory: HashMap<String, Tensor>,
    /// Checkpoints along time.
    pub(super) checkpoints: TimeCheckpoints,
    /// States of recurrent layers that are carried from batch to batch, by B and buffer name.
    pub(super) states: HashMap<(usize, String), Tensor>,
    /// Losses of the last steps, on the device.
    pub(super) log: Tensor,
    pub(super) pace: fit::Pace,
    /// Reference count of the clones that share these tensors; only a sole owner may write to them.
    pub(super) sharing: Arc<()>,
}

impl Training {
    /// True if a clone shares the tensors.
    pub(super) fn is_shared(&mut self) -> bool {
        Arc::get_mut(&mut self.sharing).is_none()
    }

    /// Copies the tensors if a clone shares them; returns true if so.
    pub(super) async fn detach(&mut self, device: &Device) -> Result<bool> {
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
        // The next step allocates them.
        self.gradients.clear();
        Ok(true)
    }
}

impl Model {
    /// Sets loss and optimiser (an [`Optimiser`], or an [`Update`] with clipping and regularisers) for [`Model::fit`]; the
    /// optimiser's state is reset.
    ///
    /// # Errors
    /// Settings out of range, or that do not fit the model's output or its parameters.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn compile(&mut self, loss: impl Into<Losses>, update: impl Into<Update>) -> Result<()> {
        wait::block_on(self.compile_async(loss, update))
    }

    /// [`Model::compile`] for places that cannot block.
    pub async fn compile_async(&mut self, loss: impl Into<Losses>, update: impl Into<Update>) -> Result<()> {
        let (loss, update) = (loss.into(), update.into());
        let tensors: Vec<_> = self.graph.owners().flat_map(Node::parameters).collect();
        update.validate(&tensors)?;
        if !loss.is_empty() {
            for (output, loss) in self.graph.outputs.iter().zip(loss.by_output(&self.graph.output_names())?) {
                if let Some((loss, _)) = loss {
                    self.check_loss(output, loss)?;
                }
            }
        }
        let log = self.device.tensor("losses", LOG).await?;
        self.training = Some(Training {
            loss,
            update,
            weighted: false,
            accumulate: false,
            gradients: HashMap::new(),
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
        self.plans.forget(|key| key.purpose != PlanPurpose::Predict);
        Ok(())
    }

    /// Refuses a loss that does not fit an output.
    fn check_loss(&self, GraphOutput { name, from }: &GraphOutput, loss: &Loss) -> Result<()> {
        loss.validate()?;
        let width = self.graph.width(*from).ok_or_else(|| {
            Error::Config(format!("output \"{name}\" has no gradient, so it cannot have a loss; leave its loss out"))
        })?;
        loss.target_width(width)?;
        let activation = self.graph.activation(*from);
        if loss.takes_logits() && activation != Activation::Linear {
            return Err(Error::Config(format!(
                "{} takes logits, but the model's output goes through the activation {activation}; use Linear, or leave it out",
                loss.name(),
            )));
        }
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
        let tensors: Vec<_> = self.graph.owners().flat_map(Node::parameters).collect();
        update.validate(&tensors)?;
        training.update = update;
        self.plans.forget(|key| key.purpose.trains());
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
            check_segments(&self.graph)?;
        }
        if checkpoints == TimeCheckpoints::Every(0) {
            return Err(Error::Config("checkpoints along time are set to every 0 steps; use at least 1".into()));
        }
        training.checkpoints = checkpoints;
        self.plans.forget(|key| key.purpose.trains());
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
            self.plans.forget(|key| key.purpose.trains());
        }
        Ok(())
    }

    /// Has the next steps add up the gradients of several batches, or not.
    pub(crate) fn set_accumulate(&mut self, accumulate: bool) -> Result<()> {
        let training = self.training.as_mut().ok_or_else(not_compiled)?;
        if std::mem::replace(&mut training.accumulate, accumulate) != accumulate {
            training.gradients.clear();
            self.plans.forget(|key| key.purpose.trains());
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
    pub(super) fn clear<K>(&mut self, of: fn(&mut Training) -> &mut HashMap<K, Tensor>) -> Result<()> {
        let training = self.training.as_mut().ok_or_else(not_compiled)?;
        let is_shared = training.is_shared();
        let tensors = of(training);
        if is_shared {
            // The next step allocates new ones, zeroed.
            tensors.clear();
            self.plans.forget(|key| key.purpose.trains());
        } else {
            tensors.values().for_each(Tensor::clear);
        }
        Ok(())
    }

    /// Refuses models whose states cannot be carried from one part of a sequence to the next.
    pub(crate) fn check_carried(&self) -> Result<()> {
        if !self.graph.nodes.iter().any(Node::is_recurrent) {
            return Err(Error::Config("the model has no recurrent layer, so there is no state to carry".into()));
        }
        check_carried(&self.graph.nodes, "carry its state from batch to batch")
    }

    /// Progress of fits.
    pub(crate) fn progress(&self) -> Result<&Progress> {
        self.training.as_ref().map(|training| &training.progress).ok_or_else(not_compiled)
    }

    /// Progress of fits, to be updated.
    pub(crate) fn progress_mut(&mut self) -> Result<&mut Progress> {
        self.training.as_mut().map(|training| &mut training.progress).ok_or_else(not_compiled)
    }

    /// Loss and weight of each output; `None` for one without.
    pub(crate) fn losses(&self) -> Result<Vec<Option<(&Loss, f32)>>> {
        let training = self.training.as_ref().ok_or_else(not_compiled)?;
        training.loss.by_output(&self.graph.output_names())
    }

    /// Names of the outputs that have a loss.
    pub(crate) fn trained_outputs(&self) -> Result<Vec<&str>> {
        let named = self.graph.output_names().into_iter().zip(self.losses()?);
        Ok(named.filter_map(|(name, loss)| loss.map(|_| name)).collect())
    }

    /// Trains on inputs and targets. An array x [N, T, I] is the only input, an array y the target of the only output: [N, F] (or `[N]`
    /// where F is 1) for a model that returns the last step, [N, T, F] for one that returns sequences. Several are given by name
    /// ([`Inputs`], [`Targets`]).
    ///
    /// A fit of several epochs keeps inputs and targets on a GPU if they take no more memory there than its plan does, or than 256 MiB.
    ///
    /// # Errors
    /// Shapes that do not fit, numbers that are not finite (named by their position), settings out of range, a loss or weights
    /// that become NaN or infinite ([`Error::Diverged`], with the step; not an error if a callback can restore earlier weights,
    /// as [`EarlyStopping`](crate::EarlyStopping) does), errors of callbacks. After divergence the optimiser's state, its
    /// count of steps and carried states are zero, so that finite weights can be trained further.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn fit<'x, 'y>(
        &mut self,
        x: impl Into<Inputs<'x>>,
        y: impl Into<Targets<'y>>,
        fit: Fit<'_>,
    ) -> Result<History> {
        wait::block_on(self.fit_async(x, y, fit))
    }

    /// [`Model::fit`] for places that cannot block.
    pub async fn fit_async<'x, 'y>(
        &mut self,
        x: impl Into<Inputs<'x>>,
        y: impl Into<Targets<'y>>,
        fit: Fit<'_>,
    ) -> Result<History> {
        fit::fit(self, x.into(), y.into(), fit).await
    }

    /// Trains on data that do not fit one array: `batches` gives an iterator for each epoch (counted from 1), whose items are the batches
    /// of its steps, of any size. The next ones are made on a thread of their own while one is trained on ([`Fit::batches_ahead`]). An
    /// item that is an error ends the fit with it. A fit that resumes within an epoch passes over the batches that were done.
    ///
    /// # Errors
    /// As [`Model::fit`]; settings that are for arrays (splits, lengths, weights, windows); an iterator without a batch.
    ///
    /// ```
    /// use ndarray::{Array2, Array3};
    /// use wgpu_lstm::{Dense, Device, Fit, Loss, Lstm, Optimiser, Sequential};
    /// let mut model = Sequential::new(1).add(Lstm::new(4)).add(Dense::new(1)).build(&Device::cpu(), 0)?;
    /// model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-2))?;
    /// let batch = |k: usize| {
    ///     let x = Array3::from_shape_fn((8, 10, 1), |(n, t, _)| ((k + n + t) as f32 / 5.0).sin()); // read from a file, say
    ///     let y = Array2::from_shape_fn((8, 1), |(n, _)| ((k + n + 10) as f32 / 5.0).sin());
    ///     Ok((x.into(), y.into()))
    /// };
    /// let history = model.fit_batches(|_epoch| (0..20).map(batch), Fit::new().epochs(5).batches_ahead(2))?;
    /// assert_eq!(history.steps, 100);
    /// assert!(history.loss[4] < history.loss[0]);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn fit_batches<I>(&mut self, batches: impl FnMut(usize) -> I + MaybeSend, fit: Fit<'_>) -> Result<History>
    where
        I: Iterator<Item = Result<(Inputs<'static>, Targets<'static>)>> + MaybeSend + 'static,
    {
        wait::block_on(self.fit_batches_async(batches, fit))
    }

    /// [`Model::fit_batches`] for places that cannot block.
    pub async fn fit_batches_async<I>(
        &mut self,
        batches: impl FnMut(usize) -> I + MaybeSend,
        fit: Fit<'_>,
    ) -> Result<History>
    where
        I: Iterator<Item = Result<(Inputs<'static>, Targets<'static>)>> + MaybeSend + 'static,
    {
        fit::fit_batches(self, batches, fit).await
    }

    /// The plan of a training step for B sequences of T steps, for inspection.
    ///
    /// # Errors
    /// Sizes that the device cannot hold; a model that was not compiled.
    pub fn training_plan(&self, batch: usize, steps: usize) -> Result<Plan> {
        let ragged = self.graph.masks();
        let purpose = self.purpose(PlanPurpose::Train, ragged)?;
        let sizes = Batch::new(batch, steps).ragged(ragged).segment(self.segment(PlanPurpose::Train, &[steps]));
        Ok(graph_plan(&self.graph, &sizes, purpose, &self.device.tuned_capabilities())?.plan)
    }

    /// An optimiser step on a batch, or the part of one; the loss goes to the log.
    pub(crate) async fn train_step(
        &mut self,
        data: &Data<'_, '_>,
        stateful: bool,
        micro: MicroBatch,
        slot: usize,
    ) -> Result<()> {
        let key = data.key(PlanPurpose::Train, stateful);
        let (compiled, step) = self.ready_to_step(&key, data, micro).await?;
        let Compiled { plan, executable } = &compiled;
        let range = micro.commands(plan);
        let done = executable.run_slices(range.start..executable.traceless().min(range.end)).await?;
        let training = self.training.as_mut().ok_or_else(not_compiled)?;
        let loss = plan.loss.ok_or_else(|| Error::Plan("a training plan without a loss".into()))?;
        {
            // From here on the step is atomic: streams see all of it or none, and a future dropped before this point has no effect.
            let _changing = self.parameters.change();
            match micro.is_last() {
                true => executable.run_copying(done..range.end, (loss, 0), (&training.log, slot as u64), 1)?,
                false => executable.run_range(done..range.end)?,
            }
        }
        if micro.is_last() {
            training.steps = step;
        }
        drop(self.plans.lend(key, compiled));
        Ok(())
    }

    /// The plan of an optimiser step, with the inputs of a batch handed over, and the number of the step.
    pub(super) async fn ready_to_step(
        &mut self,
        key: &Key,
        data: &Data<'_, '_>,
        micro: MicroBatch,
    ) -> Result<(Compiled<NetworkPlan>, u64)> {
        if self.parameters.detach(&self.device).await? {
            self.plans.forget(|_| true);
        }
        let training = self.training.as_mut().ok_or_else(not_compiled)?;
        if training.detach(&self.device).await? {
            self.plans.forget(|key| key.purpose.trains());
        }
        let compiled = match self.plans.take(key) {
            Some(compiled) => compiled,
            None => {
                let plan = self.plan(key).await?;
                self.remember(&plan.plan, key.batch).await?;
                self.make_ready(key, plan).await?
            }
        };
        let training = self.training.as_ref().ok_or_else(not_compiled)?;
        let step = training.steps + 1;
        self.hand_over(&compiled, data, step).await?;
        if micro.index > 0 {
            // Other random bits than those of the step's first batch.
            let seed = training.seed.wrapping_add((micro.index as u32).wrapping_mul(0x9e37_79b9));
            for &(_, words) in &compiled.plan.words {
                compiled.executable.write((words, 0), &[seed, step as u32].map(f32::from_bits))?;
            }
        }
        Ok((compiled, step))
    }

    /// Writes a loss that the host computed to the log.
    pub(crate) fn log_loss(&mut self, slot: usize, loss: f32) -> Result<()> {
        self.training.as_ref().ok_or_else(not_compiled)?.log.write(slot as u64, &[loss]);
        Ok(())
    }

    /// Allocates the tensors that a training plan keeps from step to step, unless they exist.
    pub(super) async fn remember(&mut self, plan: &Plan, batch: usize) -> Result<()> {
        let training = self.training.as_mut().ok_or_else(not_compiled)?;
        for buffer in plan.buffers.iter().filter(|buffer| buffer.role == Role::Optimiser) {
            if !training.memory.contains_key(&buffer.name) {
                let tensor = self.device.tensor(&buffer.name, buffer.len).await?;
                training.memory.insert(buffer.name.clone(), tensor);
            }
        }
        for buffer in plan.buffers.iter().filter(|buffer| buffer.role == Role::Gradient && training.accumulate) {
            if !training.gradients.contains_key(&buffer.name) {
                let tensor = self.device.tensor(&buffer.name, buffer.len).await?;
                training.gradients.insert(buffer.name.clone(), tensor);
            }
        }
        for buffer in plan.buffers.iter().filter(|buffer| buffer.role == Role::State) {
            if let Entry::Vacant(place) = training.states.entry((batch, buffer.name.clone())) {
                place.insert(self.device.tensor(&buffer.name, buffer.len).await?);
            }
        }
        Ok(())
    }

    /// Has the first losses of the log read, as they are after the steps so far.
    pub(crate) fn begin_losses(&self, count: usize) -> Result<TensorReading> {
        self.training.as_ref().ok_or_else(not_compiled)?.log.begin_read(0..count as u64)
    }
}

/// The place of a batch among those of an optimiser step, whose gradients are added up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MicroBatch {
    /// Its index among the step's batches.
    pub index: usize,
    /// Batches of the step.
    pub count: usize,
}

impl MicroBatch {
    /// A step of one batch.
    pub const WHOLE: MicroBatch = MicroBatch { index: 0, count: 1 };

    /// True for the batch after which the optimiser takes its step.
    pub fn is_last(self) -> bool {
        self.index + 1 == self.count
    }

    /// The commands of its plan that are run for it.
    pub fn commands(self, NetworkPlan { plan, phases, .. }: &NetworkPlan) -> Range<usize> {
        let start = if self.index == 0 { 0 } else { phases.forward };
        start..if self.is_last() { plan.commands.len() } else { phases.update }
    }
}

pub(super) fn not_compiled() -> Error {
    Error::Config("the model has no loss and no optimiser yet; call compile first".into())
}
