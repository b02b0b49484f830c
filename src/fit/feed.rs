//! Batches of an epoch: cut from arrays, or given by an iterator.

use super::Fit;
use crate::error::{Error, Result};
use crate::model::{Data, Inputs, Model, Targets, steps_within};
use crate::wait::MaybeSend;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64;
use std::ops::Range;

/// Source of a fit's batches.
pub(super) enum Source<'x, 'y, 'f> {
    /// Arrays of all sequences.
    Arrays(Data<'x, 'y>),
    /// Iterators, by epoch.
    Batches(Make<'f>),
}

/// Gives the batches of an epoch, counted from 1.
#[cfg(not(target_arch = "wasm32"))]
type Make<'f> = Box<dyn FnMut(usize) -> Batches + Send + 'f>;
#[cfg(target_arch = "wasm32")]
type Make<'f> = Box<dyn FnMut(usize) -> Batches + 'f>;

#[cfg(not(target_arch = "wasm32"))]
type Iter = Box<dyn Iterator<Item = GivenBatch> + Send>;
#[cfg(target_arch = "wasm32")]
type Iter = Box<dyn Iterator<Item = GivenBatch>>;

/// Settings of a fit that decide its batches.
#[derive(Clone, Copy)]
pub(super) struct Cutting {
    shuffle: bool,
    seed: u64,
    batch_size: usize,
    /// Steps of a window, if sequences are cut into some.
    window: Option<usize>,
    stateful: bool,
    /// Batches of an optimiser step.
    accumulate: usize,
    /// True if the loss is the caller's own.
    own_loss: bool,
    missing: bool,
}

impl Cutting {
    pub fn of(fit: &Fit<'_>) -> Cutting {
        let Fit { shuffle, seed, batch_size, truncated, stateful, accumulate, .. } = fit;
        let (window, stateful) = (*truncated, stateful.is_some());
        let (accumulate, own_loss, missing) = (*accumulate, fit.loss.is_some(), fit.missing_targets);
        Cutting {
            shuffle: *shuffle,
            seed: *seed,
            batch_size: *batch_size,
            window,
            stateful,
            accumulate,
            own_loss,
            missing,
        }
    }

    /// Data of the fit, checked, with targets for its loss; `prefix` is put before their names in messages.
    pub fn data<'x, 'y>(self, model: &Model, prefix: &str, x: Inputs<'x>, y: Targets<'y>) -> Result<Data<'x, 'y>> {
        if self.own_loss {
            return model.own_data(prefix, x, y);
        }
        let y = if self.missing { y.missing(true) } else { y };
        model.data(prefix, x, Some(y))
    }
}

/// A batch as an iterator gives it.
pub(super) type GivenBatch = Result<(Inputs<'static>, Targets<'static>)>;

/// The batches of an epoch from an iterator.
pub(super) enum Batches {
    /// Made when they are needed.
    Here(Iter),
    /// Made ahead, on a thread of their own.
    #[cfg(not(target_arch = "wasm32"))]
    Ahead(futures_intrusive::channel::shared::Receiver<GivenBatch>),
}

impl Batches {
    /// Batches of an iterator, of which `ahead` are made before they are needed.
    pub fn new(iterator: impl Iterator<Item = GivenBatch> + MaybeSend + 'static, ahead: usize) -> Batches {
        #[cfg(not(target_arch = "wasm32"))]
        if ahead > 0 {
            let (sender, receiver) = futures_intrusive::channel::shared::channel(ahead);
            let shared = std::sync::Arc::new(std::sync::Mutex::new(Some(iterator)));
            let theirs = shared.clone();
            let make = move || {
                let iterator = crate::lock::lock(&theirs).take();
                for batch in iterator.into_iter().flatten() {
                    // Nobody receives any more when the fit has ended.
                    if pollster::block_on(sender.send(batch)).is_err() {
                        return;
                    }
                }
            };
            if std::thread::Builder::new().name("batches".into()).spawn(make).is_ok() {
                return Batches::Ahead(receiver);
            }
            // The system has no thread left.
            if let Some(iterator) = crate::lock::lock(&shared).take() {
                return Batches::Here(Box::new(iterator));
            }
            return Batches::Here(Box::new(std::iter::empty()));
        }
        let _ = ahead;
        Batches::Here(Box::new(iterator))
    }

    async fn next(&mut self) -> Option<GivenBatch> {
        match self {
            Batches::Here(iterator) => iterator.next(),
            #[cfg(not(target_arch = "wasm32"))]
            Batches::Ahead(receiver) => receiver.receive().await,
        }
    }
}

/// A batch, or a window of one.
pub(super) struct StepBatch<'s> {
    pub data: Data<'s, 's>,
    /// Weight in the epoch's loss: sequences of the batch, shared out to its windows by their steps.
    pub sequences: f64,
    /// True if it begins its sequences.
    pub begins: bool,
    /// True if it is the epoch's last.
    last: bool,
}

/// The batches of an optimiser step, whose gradients are added up.
#[derive(Default)]
pub(super) struct StepBatches<'s> {
    pub batches: Vec<StepBatch<'s>>,
    /// Weight in the epoch's loss.
    pub sequences: f64,
    /// True if it is the epoch's last.
    pub last: bool,
}

/// The batches of an epoch, in their order.
pub(super) enum Epoch<'s, 'x, 'y> {
    /// Parts of arrays, of which so many are done.
    Arrays { data: &'s Data<'x, 'y>, parts: Vec<Part>, done: usize, accumulate: usize },
    /// Batches of an iterator, and the one that comes next.
    Batches { batches: Batches, next: Option<Data<'static, 'static>>, cutting: Cutting },
}

/// Sequences and steps of a batch.
pub(super) struct Part {
    rows: Vec<usize>,
    steps: Range<usize>,
    sequences: f64,
}

impl<'x, 'y> Source<'x, 'y, '_> {
    /// All sequences, if they are in arrays.
    pub fn arrays(&self) -> Option<&Data<'x, 'y>> {
        match self {
            Source::Arrays(data) => Some(data),
            Source::Batches(_) => None,
        }
    }

    /// The batches of an epoch, after those that are done.
    ///
    /// # Errors
    /// An epoch that is shorter than what is done; batches that do not fit the model.
    pub async fn epoch<'s>(
        &'s mut self,
        model: &Model,
        cutting: Cutting,
        epoch: usize,
        done: usize,
    ) -> Result<Epoch<'s, 'x, 'y>> {
        let short = |has: usize| {
            Error::Config(format!("the run to resume has done {done} steps of epoch {epoch}, which has {has}"))
        };
        match self {
            Source::Arrays(data) => {
                let mut order: Vec<usize> = (0..data.count()).collect();
                if cutting.shuffle {
                    // Each epoch's order depends on the seed and the epoch alone.
                    order.shuffle(&mut Pcg64::new(cutting.seed as u128, epoch as u128));
                }
                let parts = parts(&order, cutting, data);
                let accumulate = cutting.accumulate;
                let steps = parts.len().div_ceil(accumulate);
                if done > steps {
                    return Err(short(steps));
                }
                let done = done.saturating_mul(accumulate).min(parts.len());
                Ok(Epoch::Arrays { data, parts, done, accumulate })
            }
            Source::Batches(make) => {
                let mut batches = make(epoch);
                for has in 0..done {
                    for place in 0..cutting.accumulate {
                        match batches.next().await {
                            Some(batch) => drop(batch?),
                            // The last step may have fewer.
                            None if place > 0 => break,
                            None => return Err(short(has)),
                        }
                    }
                }
                let next = checked(model, batches.next().await, cutting)?;
                if next.is_none() && done == 0 {
                    return Err(Error::Config(format!("the iterator of epoch {epoch} gave no batch")));
                }
                Ok(Epoch::Batches { batches, next, cutting })
            }
        }
    }
}

impl<'s, 'x, 'y> Epoch<'s, 'x, 'y> {
    /// All sequences, if they are in arrays.
    pub fn arrays(&self) -> Option<&'s Data<'x, 'y>> {
        match self {
            Epoch::Arrays { data, .. } => Some(data),
            Epoch::Batches { .. } => None,
        }
    }

    /// Number of steps; `None` if it is not known yet.
    pub fn len(&self) -> Option<usize> {
        match self {
            Epoch::Arrays { parts, accumulate, .. } => Some(parts.len().div_ceil(*accumulate)),
            Epoch::Batches { .. } => None,
        }
    }

    /// The batches of the next step, `accumulate` of them or what is left.
    pub async fn step(&mut self, model: &mut Model, accumulate: usize) -> Result<Option<StepBatches<'s>>> {
        let mut step = StepBatches::default();
        while step.batches.len() < accumulate {
            let Some(batch) = self.next(model).await? else { break };
            step.sequences += batch.sequences;
            step.last = batch.last;
            step.batches.push(batch);
        }
        Ok((!step.batches.is_empty()).then_some(step))
    }

    /// The next batch.
    async fn next(&mut self, model: &mut Model) -> Result<Option<StepBatch<'s>>> {
        match self {
            Epoch::Arrays { data, parts, done, .. } => {
                let Some(Part { rows, steps, sequences }) = parts.get(*done) else { return Ok(None) };
                *done += 1;
                let (begins, last) = (steps.start == 0, *done == parts.len());
                Ok(Some(StepBatch { data: data.choose(rows, steps), sequences: *sequences, begins, last }))
            }
            Epoch::Batches { batches, next, cutting } => {
                let Some(data) = next.take() else { return Ok(None) };
                *next = checked(model, batches.next().await, *cutting)?;
                model.set_weighted(data.is_weighted())?;
                let (sequences, begins) = (data.count() as f64, !cutting.stateful);
                Ok(Some(StepBatch { data: data.into_owned(), sequences, begins, last: next.is_none() }))
            }
        }
    }
}

/// A batch of an iterator, checked.
fn checked(model: &Model, given: Option<GivenBatch>, cutting: Cutting) -> Result<Option<Data<'static, 'static>>> {
    let Some(given) = given else { return Ok(None) };
    let (x, y) = given?;
    cutting.data(model, "", x, y).map(Some)
}

/// The parts of an epoch, in their order.
fn parts(order: &[usize], cutting: Cutting, data: &Data<'_, '_>) -> Vec<Part> {
    let all_steps = data.longest();
    let lengths = data.inputs.iter().find_map(|input| input.lengths.as_ref());
    let window = cutting.window.unwrap_or(all_steps).min(all_steps);
    let length = |&n: &usize| lengths.map_or(all_steps, |lengths| lengths[n]);
    let windows = order.chunks(cutting.batch_size).flat_map(|rows| {
        let longest = match window < all_steps {
            true => rows.iter().map(length).max().unwrap_or(0).max(1),
            false => all_steps,
        };
        let there = move |steps: &Range<usize>| rows.iter().map(|n| steps_within(length(n), steps)).sum::<usize>();
        let all = there(&(0..all_steps)).max(1) as f64;
        (0..longest).step_by(window).map(move |first| {
            let steps = first..(first + window).min(all_steps);
            let share = if window < all_steps { there(&steps) as f64 / all } else { 1.0 };
            Part { rows: rows.to_vec(), steps, sequences: rows.len() as f64 * share }
        })
    });
    windows.collect()
}
