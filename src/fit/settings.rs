//! Settings of a fit, and what it returns.

use super::Callback;
use super::metric::{Metric, MetricFunction};
use crate::error::Result;
use crate::model::{Inputs, NamedArrays, Targets};
use crate::train::Schedule;
use crate::wait::MaybeSend;
use ndarray::{Array1, Array2, ArrayViewD, Axis};
use std::collections::BTreeMap;

/// Validation data, on which a fit is evaluated after each epoch.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Validation {
    /// No validation.
    #[default]
    None,
    /// A share of the data, held out from its end before anything is shuffled; above 0 and below 1.
    Split(f64),
    /// Data of its own, as a fit takes them.
    Data(Inputs<'static>, Targets<'static>),
}

/// The moment at which states that are carried from batch to batch go back to zero; see [`Fit::stateful`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reset {
    /// At the start of each epoch.
    EachEpoch,
    /// Only by [`Model::reset_states`](crate::Model::reset_states): states go on from epoch to epoch and from fit to fit with batches of the same size, and
    /// [`Model::save_training`](crate::Model::save_training) saves them.
    ByHand,
}

/// A loss of the caller's own: of outputs and targets by name, the loss and its gradients by the outputs.
pub(crate) trait OwnLoss: FnMut(&NamedArrays, &NamedArrays) -> Result<(f32, NamedArrays)> + MaybeSend {}

impl<F: FnMut(&NamedArrays, &NamedArrays) -> Result<(f32, NamedArrays)> + MaybeSend> OwnLoss for F {}

/// Settings of a fit.
///
/// ```
/// use wgpu_lstm::{EarlyStopping, Fit};
/// let fit = Fit::new().epochs(50).batch_size(64).seed(1).validation_split(0.1).callback(EarlyStopping::new(5));
/// ```
pub struct Fit<'a> {
    pub(crate) epochs: usize,
    pub(crate) batch_size: usize,
    pub(crate) shuffle: bool,
    pub(crate) seed: u64,
    pub(crate) validation: Validation,
    pub(crate) schedule: Option<Schedule>,
    /// [N, T] or [N, 1].
    pub(crate) weights: Option<Array2<f32>>,
    /// `[N]`.
    pub(crate) lengths: Option<Vec<usize>>,
    pub(crate) truncated: Option<usize>,
    pub(crate) stateful: Option<Reset>,
    pub(crate) batches_ahead: usize,
    pub(crate) accumulate: usize,
    pub(crate) missing_targets: bool,
    pub(crate) metrics: Vec<Metric<'a>>,
    /// A loss of the caller's own; set by [`Model::fit_with`](crate::Model::fit_with).
    pub(crate) loss: Option<Box<dyn OwnLoss + 'a>>,
    pub(crate) resume: bool,
    pub(crate) accept_changes: bool,
    pub(crate) callbacks: Vec<Box<dyn Callback + 'a>>,
}

impl Default for Fit<'_> {
    fn default() -> Self {
        Fit {
            epochs: 1,
            batch_size: 32,
            shuffle: true,
            seed: 0,
            validation: Validation::None,
            schedule: None,
            weights: None,
            lengths: None,
            truncated: None,
            stateful: None,
            batches_ahead: 1,
            accumulate: 1,
            missing_targets: false,
            metrics: Vec::new(),
            loss: None,
            resume: false,
            accept_changes: false,
            callbacks: Vec::new(),
        }
    }
}

impl std::fmt::Debug for Fit<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fit")
            .field("epochs", &self.epochs)
            .field("batch_size", &self.batch_size)
            .field("shuffle", &self.shuffle)
            .field("seed", &self.seed)
            .field("schedule", &self.schedule)
            .field("callbacks", &self.callbacks.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Fit<'a> {
    /// Keras's defaults: one epoch, batches of 32, shuffled, no validation.
    pub fn new() -> Fit<'a> {
        Fit::default()
    }

    /// Number of epochs, passes over the data.
    pub fn epochs(self, epochs: usize) -> Self {
        Fit { epochs, ..self }
    }

    /// Sequences of a step; the last batch of an epoch holds the rest.
    pub fn batch_size(self, batch_size: usize) -> Self {
        Fit { batch_size, ..self }
    }

    /// Shuffles the sequences anew in each epoch, if true.
    pub fn shuffle(self, shuffle: bool) -> Self {
        Fit { shuffle, ..self }
    }

    /// Seed of the order.
    pub fn seed(self, seed: u64) -> Self {
        Fit { seed, ..self }
    }

    /// Holds out the last `share` of the sequences for validation.
    pub fn validation_split(self, share: f64) -> Self {
        Fit { validation: Validation::Split(share), ..self }
    }

    /// Validates on other data, shaped as those of the fit: arrays, or [`Inputs`] (with lengths, if they have some) and [`Targets`].
    /// Arrays that are lent are copied.
    pub fn validation_data<'x, 'y>(self, x: impl Into<Inputs<'x>>, y: impl Into<Targets<'y>>) -> Self {
        Fit { validation: Validation::Data(x.into().into_owned(), y.into().into_owned()), ..self }
    }

    /// Changes the learning rate by a schedule. [`History::schedule`] gives it back, for a fit that goes on.
    pub fn schedule(self, schedule: Schedule) -> Self {
        Fit { schedule: Some(schedule), ..self }
    }

    /// Weighs sequences, `[N]`: the loss of a batch is Σ w·l over the number of its terms, as Keras's `sample_weight` with
    /// `sum_over_batch_size`. Finite and at least 0. The validation loss is not weighted.
    ///
    /// ```
    /// use wgpu_lstm::Fit;
    /// let fit = Fit::new().sample_weights(ndarray::array![1.0, 0.5, 2.0]); // three sequences
    /// ```
    pub fn sample_weights(self, weights: Array1<f32>) -> Self {
        Fit { weights: Some(weights.insert_axis(Axis(1))), ..self }
    }

    /// Weighs steps, [N, T], of a model that returns sequences; otherwise as [`Fit::sample_weights`], which it replaces.
    pub fn step_weights(self, weights: Array2<f32>) -> Self {
        Fit { weights: Some(weights), ..self }
    }

    /// Gives each sequence a length, `[N]`: it ends before that step, and what is padded after it takes no part in anything. A
    /// model that returns sequences learns from the mean over the steps that there are. Validation data split off keeps
    /// its lengths.
    ///
    /// ```
    /// use ndarray::{Array2, Array3};
    /// use wgpu_lstm::{Dense, Device, Fit, Loss, Lstm, Optimiser, Sequential};
    /// let mut model = Sequential::new(2).add(Lstm::new(4)).add(Dense::new(1)).build(&Device::cpu(), 0)?;
    /// model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-3))?;
    /// let (x, y) = (Array3::ones((3, 5, 2)), Array2::zeros((3, 1)));
    /// model.fit(x.view(), y.view(), Fit::new().lengths(vec![5, 2, 4]))?;
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn lengths(self, lengths: Vec<usize>) -> Self {
        Fit { lengths: Some(lengths), ..self }
    }

    /// Cuts sequences into windows of `steps` steps (the last holds the rest) and takes an optimiser step per window: truncated
    /// backpropagation through time (Williams and Peng 1990). States are carried from window to window, from zero at the start
    /// of each batch; no gradient flows through them, as with PyTorch's `hidden.detach()`. Memory on the device is that of a
    /// window. Random masks that all steps of a sequence share (of inputs, hidden states and recurrent weights) are drawn anew for
    /// each window. A window that no sequence of its batch reaches takes no step. Validation is on whole sequences from zero states.
    ///
    /// For models that return sequences and whose recurrent layers run forward only.
    ///
    /// ```
    /// use ndarray::Array3;
    /// use wgpu_lstm::{Dense, Device, Fit, Loss, Lstm, Optimiser, Sequential};
    /// let layers = Sequential::new(1).add(Lstm::new(4).return_sequences(true)).add(Dense::new(1));
    /// let mut model = layers.build(&Device::cpu(), 0)?;
    /// model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-3))?;
    /// let (x, y) = (Array3::ones((2, 100, 1)), Array3::zeros((2, 100, 1)));
    /// let history = model.fit(x.view(), y.view(), Fit::new().truncated(30))?; // 30, 30, 30 and 10 steps
    /// assert_eq!(history.steps, 4);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn truncated(self, steps: usize) -> Self {
        Fit { truncated: Some(steps), ..self }
    }

    /// Carries states from batch to batch, as Keras's [`stateful=True`](https://keras.io/api/layers/recurrent_layers/lstm/):
    /// sequence b of a batch goes on where sequence b of the batch before it ended; no gradient flows through the states. Needs
    /// [`Fit::shuffle`]`(false)` and a batch size that divides N, and recurrent layers that run forward only. Validation goes
    /// through batches of the same size in the same way, from zero states of its own ([`Evaluate::stateful`](crate::Evaluate::stateful)); use
    /// [`Model::stream`](crate::Model::stream) to predict. With [`Fit::truncated`], the batches' windows go on from batch to batch, too.
    ///
    /// ```
    /// use ndarray::{Array3, s};
    /// use wgpu_lstm::{Dense, Device, Fit, Loss, Lstm, Optimiser, Reset, Sequential};
    /// let mut model = Sequential::new(1).add(Lstm::new(4)).add(Dense::new(1)).build(&Device::cpu(), 0)?;
    /// model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-3))?;
    /// // Two series of 31 steps in three parts of 10, in the order series 0, series 1, series 0, ...
    /// let series = Array3::from_shape_fn((2, 31, 1), |(n, t, _)| (n + t) as f32 / 31.0);
    /// let x = Array3::from_shape_fn((6, 10, 1), |(n, t, _)| series[[n % 2, n / 2 * 10 + t, 0]]);
    /// let y = Array3::from_shape_fn((6, 1, 1), |(n, ..)| series[[n % 2, n / 2 * 10 + 10, 0]]);
    /// model.fit(x.view(), y.slice(s![.., 0, ..]), Fit::new().batch_size(2).shuffle(false).stateful(Reset::EachEpoch))?;
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn stateful(self, reset: Reset) -> Self {
        Fit { stateful: Some(reset), ..self }
    }

    /// Has [`Model::fit_batches`](crate::Model::fit_batches) make this many batches ahead, on a thread of its own, while others are
    /// trained on: 1 by default. With 0, and in browsers, a batch is made when it is needed.
    pub fn batches_ahead(self, batches: usize) -> Self {
        Fit { batches_ahead: batches, ..self }
    }

    /// Adds up the gradients of `count` batches before each optimiser step, at least 1, so that a step is that of a batch `count` times as
    /// large, up to rounding, with the memory on the device of a small one (gradient accumulation). The last step of an epoch has the
    /// batches that are left. Steps that callbacks and schedules count are those of the optimiser. Layers see the small batches: batch
    /// normalisation normalises by them, and dropout draws a mask for each.
    ///
    /// ```
    /// use ndarray::{Array2, Array3};
    /// use wgpu_lstm::{Dense, Device, Fit, Loss, Lstm, Optimiser, Sequential};
    /// let mut model = Sequential::new(2).add(Lstm::new(4)).add(Dense::new(1)).build(&Device::cpu(), 0)?;
    /// model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-3))?;
    /// let (x, y) = (Array3::ones((40, 5, 2)), Array2::zeros((40, 1)));
    /// let history = model.fit(x.view(), y.view(), Fit::new().batch_size(8).accumulate(2))?; // steps of 16, 16 and 8
    /// assert_eq!(history.steps, 3);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn accumulate(self, count: usize) -> Self {
        Fit { accumulate: count, ..self }
    }

    /// Takes rows of targets that are NaN for missing, in the data of the fit and those of validation: see
    /// [`Targets::missing`](crate::Targets::missing). Metrics are then of the rows that are there.
    pub fn missing_targets(self, missing: bool) -> Self {
        Fit { missing_targets: missing, ..self }
    }

    /// Computes a score after each epoch, of all predictions and targets of the validation data, or without validation of the training
    /// data: (prediction, target), both [N, F] or [N, T, F], of the first output that has a loss. It is in
    /// [`EpochEvent::metrics`](crate::EpochEvent::metrics), [`History::metrics`] and logs, and
    /// [`EarlyStopping::watch`](crate::EarlyStopping::watch) and [`Checkpoint::watch`](crate::Checkpoint::watch) can follow it. Steps
    /// past the ends of sequences are included; states begin at zero.
    ///
    /// ```
    /// use wgpu_lstm::{EarlyStopping, Fit, metrics};
    /// let fit = Fit::new()
    ///     .validation_split(0.2)
    ///     .metric("r2", |prediction, target| metrics::r2(prediction, target))
    ///     .callback(EarlyStopping::new(5).watch("r2").larger_is_better());
    /// ```
    pub fn metric(
        self,
        name: impl Into<String>,
        function: impl FnMut(ArrayViewD<'_, f32>, ArrayViewD<'_, f32>) -> Result<f64> + MaybeSend + 'a,
    ) -> Self {
        self.add_metric(None, name.into(), function)
    }

    /// [`Fit::metric`] of an output by name, of a model that has several.
    pub fn metric_of(
        self,
        output: impl Into<String>,
        name: impl Into<String>,
        function: impl FnMut(ArrayViewD<'_, f32>, ArrayViewD<'_, f32>) -> Result<f64> + MaybeSend + 'a,
    ) -> Self {
        self.add_metric(Some(output.into()), name.into(), function)
    }

    fn add_metric(mut self, output: Option<String>, name: String, function: impl MetricFunction + 'a) -> Self {
        self.metrics.push(Metric { output, name, function: Box::new(function) });
        self
    }

    /// Goes on where a run ended whose model is here or came from [`Model::load_training`](crate::Model::load_training), up to
    /// [`Fit::epochs`] in all: after its last epoch, or within the epoch in which it was saved. Its schedule goes on unless
    /// another is given, and callbacks take back their state. The run then ends with the same bits as one that was not stopped. A
    /// model that was never trained begins its run.
    ///
    /// Data and settings of the run are compared: x, y, lengths, weights and validation data by their checksums, batch size, order,
    /// seed, windows and states, loss, optimiser, schedule, and settings of callbacks. A difference is an error that names it, unless it is
    /// accepted ([`Fit::accept_changes`]). Files of older versions say the seed and the schedule alone.
    ///
    /// [`EarlyStopping`](crate::EarlyStopping) puts its best weights into the model at the end of each fit; a run that was stopped
    /// before its end goes on as if it had not been from a [`Checkpoint`](crate::Checkpoint), which has the last ones.
    pub fn resume(self, resume: bool) -> Self {
        Fit { resume, ..self }
    }

    /// Accepts, in a resumed fit, what differs from the run: it goes on with what is given here. If the order or number of steps may
    /// be another, an unfinished epoch begins anew.
    ///
    /// ```
    /// use wgpu_lstm::{EarlyStopping, Fit};
    /// let fit = Fit::new().epochs(100).resume(true).callback(EarlyStopping::new(20)).accept_changes(true); // more patience
    /// ```
    pub fn accept_changes(self, accept: bool) -> Self {
        Fit { accept_changes: accept, ..self }
    }

    /// Adds a callback; they are called in the order they were added.
    pub fn callback(mut self, callback: impl Callback + 'a) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }
}

/// Course of a fit: the losses of the epochs that it completed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Mean training loss per epoch, each batch's taken before its step.
    pub loss: Vec<f32>,
    /// Loss on the validation data per epoch; empty without.
    pub validation_loss: Vec<f32>,
    /// Scores of each epoch, by the names of [`Fit::metric`].
    pub metrics: BTreeMap<String, Vec<f64>>,
    /// Learning rate of each epoch's last step.
    pub learning_rate: Vec<f64>,
    /// The state of the schedule, if there was one.
    pub schedule: Option<Schedule>,
    /// Optimiser steps of this fit.
    pub steps: u64,
    /// Seconds in all.
    pub seconds: f64,
    /// Why the fit ended before its last epoch, if it did.
    pub stopped: Option<Stopped>,
}

/// Reason for which a fit ended early, without an error.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Stopped {
    /// A callback asked for it.
    Callback,
    /// The training diverged, and a callback put back finite weights ([`Callback::restores_weights`]). The optimiser's memory began
    /// anew.
    Diverged {
        /// Epoch, counted from 1.
        epoch: usize,
        /// Optimiser step within the epoch, counted from 1.
        step: usize,
        /// The loss read back; finite where the step that it was taken before spoilt the weights.
        loss: f32,
    },
}
