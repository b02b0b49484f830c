//! The training loop.

use super::{Callback, EpochEvent, Flow, Schedule, StepEvent};
use crate::error::{Error, Result};
use crate::memory;
use crate::model::{Given, Model, check_divides};
use crate::transfer::{finite, not_empty};
use ndarray::{Array1, Array2, Array3, ArrayView3, Axis, s};
use rand::seq::SliceRandom;
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::time::Instant;

/// Steps between two looks at the loss; the device works ahead in between.
const STEPS_A_LOOK: usize = 32;

/// What a fit is judged on after each epoch.
#[derive(Clone, Debug, Default)]
pub enum Validation {
    /// Nothing.
    #[default]
    None,
    /// The last part of the data, taken off before anything is shuffled; above 0 and below 1.
    Split(f64),
    /// Data of its own: x [N, T, I] and y [N, T, F] (T = 1 for a model that returns the last step).
    Data(Array3<f32>, Array3<f32>),
    /// The same with the length of each sequence, `[N]`.
    Ragged(Array3<f32>, Array3<f32>, Vec<usize>),
}

/// When states that are carried from batch to batch go back to zero; see [`Fit::stateful`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// At the start of each epoch.
    EachEpoch,
    /// Only by [`Model::reset_states`]: states go on from epoch to epoch and from fit to fit with batches of the same size, and
    /// [`Model::save_training`] saves them.
    ByHand,
}

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
    pub(crate) resume: bool,
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
            resume: false,
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

    /// Times through the data.
    pub fn epochs(self, epochs: usize) -> Self {
        Fit { epochs, ..self }
    }

    /// Sequences of a step; the last batch of an epoch holds the rest.
    pub fn batch_size(self, batch_size: usize) -> Self {
        Fit { batch_size, ..self }
    }

    /// Whether each epoch takes the sequences in a new order.
    pub fn shuffle(self, shuffle: bool) -> Self {
        Fit { shuffle, ..self }
    }

    /// Seed of the order.
    pub fn seed(self, seed: u64) -> Self {
        Fit { seed, ..self }
    }

    /// Judges on the last `share` of the data, which is not trained on.
    pub fn validation_split(self, share: f64) -> Self {
        Fit { validation: Validation::Split(share), ..self }
    }

    /// Judges on other data.
    pub fn validation_data(self, x: Array3<f32>, y: Array3<f32>) -> Self {
        Fit { validation: Validation::Data(x, y), ..self }
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
    /// through batches of the same size in the same way, from zero states of its own ([`Model::evaluate_stateful`]); use
    /// [`Model::stream`] to predict. With [`Fit::truncated`], the batches' windows go on from batch to batch, too.
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

    /// Judges on other sequences that have lengths.
    pub fn validation_ragged(self, x: Array3<f32>, y: Array3<f32>, lengths: Vec<usize>) -> Self {
        Fit { validation: Validation::Ragged(x, y, lengths), ..self }
    }

    /// Goes on after the last epoch of a model that came from [`Model::load_training`](crate::Model::load_training), up to
    /// [`Fit::epochs`] in all, with the schedule as it stood then. With the same data and settings, the run ends with the same
    /// bits as one that was not stopped; early stopping begins to count anew.
    pub fn resume(self, resume: bool) -> Self {
        Fit { resume, ..self }
    }

    /// Adds a callback; they are called in the order they were added.
    pub fn callback(mut self, callback: impl Callback + 'a) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }
}

/// What a fit returns: the losses of its epochs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Mean training loss per epoch, each batch's taken before its step.
    pub loss: Vec<f32>,
    /// Loss on the validation data per epoch; empty without.
    pub validation_loss: Vec<f32>,
    /// Learning rate of each epoch's last step.
    pub learning_rate: Vec<f64>,
    /// The schedule as it stands now, if there was one.
    pub schedule: Option<Schedule>,
    /// Optimiser steps in all.
    pub steps: u64,
    /// Seconds in all.
    pub seconds: f64,
}

/// How far a fit has come; what a run that goes on must know beside the model and its optimiser's memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Epochs done.
    pub epoch: usize,
    /// Of the order of sequences and of random bits.
    pub seed: u64,
    /// As it stands.
    pub schedule: Option<Schedule>,
}

/// Runs the fit; y is [N, T, F].
pub(crate) async fn fit(
    model: &mut Model,
    x: ArrayView3<'_, f32>,
    y: ArrayView3<'_, f32>,
    mut fit: Fit<'_>,
) -> Result<History> {
    if fit.batch_size == 0 {
        return Err(Error::Config("the batch size is 0; it must be at least 1".into()));
    }
    check_carried(model, &fit)?;
    check_data(model, "x", "y", &x, &y)?;
    check_weights(model, fit.weights.as_ref(), x.dim())?;
    let mut schedule = fit.schedule.take();
    let mut done = 0;
    if fit.resume {
        let progress = model.progress()?;
        if progress.seed != fit.seed {
            return Err(Error::Config(format!(
                "the run to resume has seed {}, this fit has {}; they must be the same",
                progress.seed, fit.seed
            )));
        }
        (done, schedule) = (progress.epoch, progress.schedule.clone());
    } else if let Some(schedule) = &mut schedule {
        schedule.validate()?;
        model.set_learning_rate(schedule.begin(model.learning_rate()?))?;
    }
    model.set_weighted(fit.weights.is_some())?;
    fit.lengths = model.config().lengths("x", &x, fit.lengths.as_deref())?;
    model.set_seed(fit.seed)?;
    let validation = std::mem::take(&mut fit.validation);
    let (x, y, validation) = split(model, x, y, fit.lengths.as_deref(), validation)?;
    if fit.stateful.is_some() {
        check_divides("x", x.dim().0, fit.batch_size)?;
        if let Some((x, ..)) = &validation {
            check_divides("validation x", x.dim().0, fit.batch_size)?;
        }
    }
    for callback in &mut fit.callbacks {
        callback.on_begin(model)?;
    }
    let start = Instant::now();
    let ((count, all_steps, _), mut history) = (x.dim(), History::default());
    let carries = fit.truncated.is_some() || fit.stateful.is_some();
    let mut order: Vec<usize> = (0..count).collect();
    for epoch in done + 1..=fit.epochs {
        if fit.shuffle {
            // Each epoch's order depends on the seed and the epoch alone.
            order.sort_unstable();
            order.shuffle(&mut Pcg64::new(fit.seed as u128, epoch as u128));
        }
        if fit.stateful == Some(Reset::EachEpoch) {
            model.reset_states()?;
        }
        let (mut sum, mut seen) = (0.0f64, 0.0f64);
        let pieces = pieces(&order, &fit, all_steps);
        let steps = pieces.len();
        let mut learning_rate = model.learning_rate()?;
        for (look, group) in pieces.chunks(STEPS_A_LOOK).enumerate() {
            for (slot, Piece { rows, steps, .. }) in group.iter().enumerate() {
                if carries && fit.stateful.is_none() && steps.start == 0 {
                    model.reset_states()?;
                }
                let part =
                    |all: &ArrayView3<f32>, steps: Range<usize>| all.slice(s![.., steps, ..]).select(Axis(0), rows);
                let target = if y.dim().1 == all_steps { steps.clone() } else { 0..y.dim().1 };
                let elements = rows.len() * (steps.len() * x.dim().2 + target.len() * y.dim().2);
                memory::probe(4 * elements as u64, format_args!("a batch of {} sequences", rows.len()))?;
                let (x, y) = (part(&x, steps.clone()), part(&y, target));
                let weights = fit.weights.as_ref().map(|all| {
                    let own = if all.ncols() == all_steps { steps.clone() } else { 0..all.ncols() };
                    all.slice(s![.., own]).select(Axis(0), rows)
                });
                learning_rate = model.learning_rate()?;
                let lengths =
                    fit.lengths.as_ref().map(|all| rows.iter().map(|&n| held(all[n], steps)).collect::<Vec<_>>());
                let given = Given {
                    x: x.view(),
                    y: Some(y.view()),
                    lengths: lengths.as_deref(),
                    weights: weights.as_ref().map(|all| all.view()),
                    stateful: carries,
                };
                model.train_step(&given, slot).await?;
                if let Some(schedule) = schedule.as_mut().filter(|schedule| schedule.is_per_step()) {
                    advance(schedule, model, f64::NAN)?;
                }
            }
            let losses = model.step_losses(group.len()).await?;
            for (slot, (&loss, piece)) in losses.iter().zip(group).enumerate() {
                if !loss.is_finite() {
                    return Err(Error::Diverged { epoch, step: look * STEPS_A_LOOK + slot + 1, loss });
                }
                sum += loss as f64 * piece.sequences;
                seen += piece.sequences;
            }
            let step = look * STEPS_A_LOOK + group.len();
            let event = StepEvent { epoch, epochs: fit.epochs, step, steps, loss: (sum / seen) as f32, learning_rate };
            fit.callbacks.iter_mut().for_each(|callback| callback.on_steps(&event));
        }
        history.steps += steps as u64;
        let loss = (sum / seen) as f32;
        history.loss.push(loss);
        let validation_loss = match &validation {
            Some((x, y, lengths)) => Some(match fit.stateful {
                Some(_) => {
                    model.evaluate_stateful_async(x.view(), y.view(), lengths.as_deref(), fit.batch_size).await?
                }
                None => model.evaluate_async(x.view(), y.view(), lengths.as_deref()).await?,
            }),
            None => None,
        };
        history.validation_loss.extend(validation_loss);
        history.learning_rate.push(learning_rate);
        history.seconds = start.elapsed().as_secs_f64();
        let seconds = history.seconds;
        let event = EpochEvent { epoch, epochs: fit.epochs, steps, loss, validation_loss, learning_rate, seconds };
        if let Some(schedule) = schedule.as_mut().filter(|schedule| !schedule.is_per_step()) {
            advance(schedule, model, event.watched() as f64)?;
        }
        model.set_progress(Progress { epoch, seed: fit.seed, schedule: schedule.clone() })?;
        let mut flow = Flow::Continue;
        for callback in &mut fit.callbacks {
            if callback.on_epoch(&event, model)? == Flow::Stop {
                flow = Flow::Stop;
            }
        }
        if flow == Flow::Stop {
            break;
        }
    }
    for callback in &mut fit.callbacks {
        callback.on_end(model)?;
    }
    history.schedule = schedule;
    Ok(history)
}

/// What an optimiser step learns from: a batch, or a window of one.
struct Piece<'a> {
    /// The sequences.
    rows: &'a [usize],
    /// Their steps.
    steps: Range<usize>,
    /// What it counts in the epoch's loss: sequences of the batch, shared out to its windows by their steps.
    sequences: f64,
}

/// The pieces of an epoch, in their order.
fn pieces<'a>(order: &'a [usize], fit: &Fit<'_>, all_steps: usize) -> Vec<Piece<'a>> {
    let window = fit.truncated.unwrap_or(all_steps).min(all_steps);
    let length = |&n: &usize| fit.lengths.as_ref().map_or(all_steps, |lengths| lengths[n]);
    let batches = order.chunks(fit.batch_size);
    let windows = batches.flat_map(|rows| {
        let longest = rows.iter().map(length).max().unwrap_or(0).max(1);
        let there = move |steps: &Range<usize>| rows.iter().map(|n| held(length(n), steps)).sum::<usize>();
        let all = there(&(0..all_steps)).max(1) as f64;
        (0..longest).step_by(window).map(move |first| {
            let steps = first..(first + window).min(all_steps);
            let share = if window < all_steps { there(&steps) as f64 / all } else { 1.0 };
            Piece { rows, steps, sequences: rows.len() as f64 * share }
        })
    });
    windows.collect()
}

/// Steps of a sequence of this length that lie in a window.
fn held(length: usize, window: &Range<usize>) -> usize {
    length.clamp(window.start, window.end) - window.start
}

/// Refuses to carry states where that has no meaning.
fn check_carried(model: &Model, fit: &Fit<'_>) -> Result<()> {
    if let Some(window) = fit.truncated {
        if window == 0 {
            return Err(Error::Config("truncated was given windows of 0 steps; they must have at least 1".into()));
        }
        if !model.returns_sequences() {
            return Err(Error::Config(
                "truncated needs a model with an output at every step, but this one ends its sequences; set \
                 return_sequences(true) on its recurrent layers, or cut the sequences and use stateful"
                    .into(),
            ));
        }
    }
    if fit.stateful.is_some() && fit.shuffle {
        return Err(Error::Config(
            "stateful carries states from batch to batch, so sequences must stay in their order; set shuffle(false)"
                .into(),
        ));
    }
    if fit.truncated.is_some() || fit.stateful.is_some() { model.check_carried() } else { Ok(()) }
}

/// Sets the learning rate of the next step.
fn advance(schedule: &mut Schedule, model: &mut Model, watched: f64) -> Result<()> {
    match schedule.advance(watched) {
        Some(rate) => model.set_learning_rate(rate),
        None => Ok(()),
    }
}

/// Refuses weights that do not fit x [N, T, I] and the model's output, or are no weights.
fn check_weights(model: &Model, weights: Option<&Array2<f32>>, (count, steps, _): (usize, usize, usize)) -> Result<()> {
    let Some(weights) = weights else { return Ok(()) };
    let steps = model.output_shape(steps).0;
    if weights.nrows() != count || ![1, steps].contains(&weights.ncols()) {
        return Err(Error::Shape(format!(
            "the weights have shape {:?}; expected one for each of {count} sequences, or [N, T] = [{count}, {steps}]",
            weights.shape()
        )));
    }
    match weights.indexed_iter().find(|&(_, &weight)| !(weight >= 0.0 && weight.is_finite())) {
        None => Ok(()),
        Some(((n, t), weight)) => Err(Error::Config(format!(
            "the weight of [sequence, step] = [{n}, {t}] is {weight}; it must be finite and at least 0"
        ))),
    }
}

/// Refuses data that do not fit the model or are not finite.
pub(crate) fn check_data(
    model: &Model,
    x_name: &str,
    y_name: &str,
    x: &ArrayView3<f32>,
    y: &ArrayView3<f32>,
) -> Result<()> {
    model.check_input(x_name, x)?;
    not_empty(y_name, "[N, T, F]", y.shape())?;
    let (steps, outputs) = model.output_shape(x.dim().1);
    let features = model.loss()?.target_width(outputs)?;
    if y.dim() != (x.dim().0, steps, features) {
        return Err(Error::Shape(format!(
            "{y_name} has shape {:?}, expected [N, T, F] = {:?} for {x_name} of shape {:?}",
            y.shape(),
            [x.dim().0, steps, features],
            x.shape()
        )));
    }
    finite(x_name, "[sequence, step, feature]", x)?;
    finite(y_name, "[sequence, step, feature]", y)?;
    model.loss()?.check_target(y_name, y, outputs)
}

type Split<'a> = (ArrayView3<'a, f32>, ArrayView3<'a, f32>, Option<Held>);

/// Validation data, with lengths where they have some.
type Held = (Array3<f32>, Array3<f32>, Option<Vec<usize>>);

/// Takes the validation data off.
fn split<'a>(
    model: &Model,
    x: ArrayView3<'a, f32>,
    y: ArrayView3<'a, f32>,
    lengths: Option<&[usize]>,
    validation: Validation,
) -> Result<Split<'a>> {
    match validation {
        Validation::None => Ok((x, y, None)),
        Validation::Data(vx, vy) => {
            check_data(model, "validation x", "validation y", &vx.view(), &vy.view())?;
            let lengths = model.config().lengths("validation x", &vx.view(), None)?;
            Ok((x, y, Some((vx, vy, lengths))))
        }
        Validation::Ragged(vx, vy, lengths) => {
            check_data(model, "validation x", "validation y", &vx.view(), &vy.view())?;
            let lengths = model.config().lengths("validation x", &vx.view(), Some(&lengths))?;
            Ok((x, y, Some((vx, vy, lengths))))
        }
        Validation::Split(share) => {
            let count = x.dim().0;
            let kept = (count as f64 * (1.0 - share)).floor() as usize;
            if !(share > 0.0 && share < 1.0) || kept == 0 || kept == count {
                return Err(Error::Config(format!(
                    "a validation split of {share} leaves {kept} of {count} sequences to train on; it must be above 0 and \
                     below 1 and leave at least one on each side"
                )));
            }
            memory::probe(4 * (x.len() / count + y.len() / count) as u64 * (count - kept) as u64, "validation data")?;
            let (vx, vy) = (x.slice(s![kept.., .., ..]).to_owned(), y.slice(s![kept.., .., ..]).to_owned());
            let held = (vx, vy, lengths.map(|lengths| lengths[kept..].to_vec()));
            Ok((x.slice_move(s![..kept, .., ..]), y.slice_move(s![..kept, .., ..]), Some(held)))
        }
    }
}
