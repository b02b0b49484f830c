//! Files that are saved during a fit.

use super::watch::Watch;
use super::{Callback, CallbackState, EpochEvent, Flow, StepEvent};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::train::check_count;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Saves the model during a fit.
///
/// ```
/// use std::time::Duration;
/// use wgpu_lstm::{Checkpoint, Fit};
/// let fit = Fit::new()
///     .callback(Checkpoint::best("model.safetensors"))
///     .callback(Checkpoint::every("training.safetensors", Duration::from_secs(600)));
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    when: When,
    training: bool,
    watch: Watch,
    memory: Memory,
    /// The file was last written then.
    last: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    Best,
    Epoch,
    Steps(usize),
    Time(Duration),
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Memory {
    /// The least watched loss, an f32; JSON keeps an f64 to the bit.
    best: Option<f64>,
    /// Steps at which the file was last written.
    steps: u64,
    /// The file is about to be written. In a file, where states are gathered before any is written, this says that it may not have been.
    due: bool,
}

impl Checkpoint {
    /// Saves after every epoch whose watched loss is the least so far. A resumed run remembers that loss, so that the file stays
    /// until there is a better model.
    pub fn best(path: impl Into<PathBuf>) -> Checkpoint {
        let (watch, memory) = (Watch::default(), Memory::default());
        Checkpoint { path: path.into(), when: When::Best, training: false, watch, memory, last: None }
    }

    /// Saves after every epoch.
    pub fn every_epoch(path: impl Into<PathBuf>) -> Checkpoint {
        Checkpoint { when: When::Epoch, ..Checkpoint::best(path) }
    }

    /// Saves the state of training after every `steps` optimiser steps, counted through all epochs, and when the fit ends. A resumed
    /// run goes on within the epoch.
    ///
    /// ```
    /// use ndarray::{Array2, Array3};
    /// use wgpu_lstm::{Checkpoint, Device, Fit, Loss, Lstm, Model, Optimiser, Sequential};
    /// let path = std::env::temp_dir().join("wgpu-lstm-steps-doc.safetensors");
    /// let (x, y) = (Array3::ones((90, 5, 3)), Array2::zeros((90, 2)));
    /// let mut model = Sequential::new(3).add(Lstm::new(2)).build(&Device::cpu(), 0)?;
    /// model.compile(Loss::MeanSquaredError, Optimiser::adam(0.01))?;
    /// let fit = || Fit::new().batch_size(2).epochs(2); // 45 steps an epoch
    /// model.fit(x.view(), y.view(), fit().callback(Checkpoint::every_steps(&path, 40)))?;
    /// let mut again = Model::load_training(&path, &Device::cpu())?; // after any of these files was written
    /// again.fit(x.view(), y.view(), fit().resume(true))?;
    /// assert_eq!(model.parameters()?, again.parameters()?);
    /// # std::fs::remove_file(path).unwrap();
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn every_steps(path: impl Into<PathBuf>, steps: usize) -> Checkpoint {
        Checkpoint { when: When::Steps(steps), training: true, ..Checkpoint::best(path) }
    }

    /// Saves the state of training whenever this time has passed, and when the fit ends. It looks at the clock when
    /// [`Callback::on_steps`] is called, about once a second.
    pub fn every(path: impl Into<PathBuf>, time: Duration) -> Checkpoint {
        Checkpoint { when: When::Time(time), training: true, ..Checkpoint::best(path) }
    }

    /// Follows another value of the epochs in [`Checkpoint::best`]: a metric ([`Fit::metric`](crate::Fit::metric)), "loss" or
    /// "validation_loss".
    pub fn watch(self, name: impl Into<String>) -> Checkpoint {
        Checkpoint { watch: self.watch.named(name.into()), ..self }
    }

    /// Takes larger values for better ones, as for an accuracy; by default smaller ones are better.
    pub fn larger_is_better(self) -> Checkpoint {
        Checkpoint { watch: self.watch.larger(), ..self }
    }

    /// Chooses whether the file holds the state of training, too, so that a run that was stopped can go on; see
    /// [`Model::save_training`]. By default it does where it is written every so many steps or so often.
    pub fn training(self, training: bool) -> Checkpoint {
        Checkpoint { training, ..self }
    }

    fn write(&mut self, model: &Model) -> Result<()> {
        if self.training {
            model.save_training(&self.path)?
        } else {
            model.save(&self.path)?
        }
        self.memory.due = false;
        self.last = Some(Instant::now());
        Ok(())
    }
}

impl Callback for Checkpoint {
    fn on_begin(&mut self, model: &mut Model) -> Result<()> {
        if self.when == When::Steps(0) {
            return Err(Error::Config("a checkpoint is to be saved every 0 steps; it must be at least 1".into()));
        }
        self.last = Some(Instant::now());
        if self.memory.due {
            // The run ended between the file that it was resumed from and this one.
            self.write(model)?;
        }
        Ok(())
    }

    fn on_steps(&mut self, event: &StepEvent, _: &mut Model) -> Result<Flow> {
        let all = ((event.epoch - 1) as u64).saturating_mul(event.steps as u64).saturating_add(event.step as u64);
        self.memory.due |= match self.when {
            When::Best | When::Epoch => false,
            When::Steps(steps) => all / steps as u64 > self.memory.steps / steps as u64,
            When::Time(time) => self.last.is_none_or(|last| last.elapsed() >= time),
        };
        if self.memory.due {
            self.memory.steps = all;
        }
        Ok(Flow::Continue)
    }

    fn interval(&self) -> usize {
        match self.when {
            When::Steps(steps) => steps,
            _ => super::pace::MOST_STEPS,
        }
    }

    fn on_epoch(&mut self, event: &EpochEvent, _: &mut Model) -> Result<Flow> {
        match self.when {
            When::Best => {
                let watched = self.watch.value(event)?;
                if self.watch.is_better(watched, self.memory.best, 0.0) {
                    self.memory = Memory { best: Some(watched as f64), due: true, ..self.memory };
                }
            }
            When::Epoch => self.memory.due = true,
            _ => {}
        }
        Ok(Flow::Continue)
    }

    fn save(&mut self, model: &mut Model, flow: Flow) -> Result<()> {
        let last = flow == Flow::Stop && matches!(self.when, When::Steps(_) | When::Time(_));
        if self.memory.due || last { self.write(model) } else { Ok(()) }
    }

    fn state(&self) -> Result<Option<CallbackState>> {
        let name = match self.when {
            When::Best => "checkpoint of the best epoch",
            When::Epoch => "checkpoint of every epoch",
            When::Steps(_) => "checkpoint by steps",
            When::Time(_) => "checkpoint by time",
        };
        CallbackState::new(name, &self.memory).map(Some)
    }

    fn restore(&mut self, state: &CallbackState) -> Result<Flow> {
        let memory: Memory = state.value()?;
        check_count("the steps of a checkpoint", memory.steps)?;
        if let Some(best) = memory.best.filter(|&best| !(best as f32).is_finite()) {
            return Err(Error::Config(format!("the best loss of a checkpoint is {best:e}; it must be finite")));
        }
        // Without the file there is nothing that a worse model would overwrite.
        if self.when != When::Best || memory.due || self.path.exists() {
            self.memory = memory;
        }
        Ok(Flow::Continue)
    }
}
