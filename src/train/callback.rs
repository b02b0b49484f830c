//! What can look into a running fit.

use crate::error::Result;
use crate::model::Model;
use crate::wait::MaybeSend;
use std::path::PathBuf;

/// Whether a fit goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// On.
    Continue,
    /// No further epoch.
    Stop,
}

/// After some steps of an epoch.
#[derive(Clone, Copy, Debug)]
pub struct StepEvent {
    /// Epoch, counted from 1.
    pub epoch: usize,
    /// Epochs asked for.
    pub epochs: usize,
    /// Steps done in this epoch.
    pub step: usize,
    /// Steps of an epoch.
    pub steps: usize,
    /// Mean loss of the epoch so far.
    pub loss: f32,
    /// Learning rate of the last of these steps.
    pub learning_rate: f64,
}

/// At the end of an epoch.
#[derive(Clone, Copy, Debug)]
pub struct EpochEvent {
    /// Epoch, counted from 1.
    pub epoch: usize,
    /// Epochs asked for.
    pub epochs: usize,
    /// Steps of an epoch.
    pub steps: usize,
    /// Mean loss over the epoch's batches, each taken before its step.
    pub loss: f32,
    /// Loss on the validation data after the epoch.
    pub validation_loss: Option<f32>,
    /// Learning rate of the epoch's last step.
    pub learning_rate: f64,
    /// Seconds since the fit began.
    pub seconds: f64,
}

impl EpochEvent {
    /// The validation loss, or where there is no validation the training loss.
    pub fn watched(&self) -> f32 {
        self.validation_loss.unwrap_or(self.loss)
    }
}

/// Looks into a fit. It is `Send`, except in browsers, so that an executor of several threads can run
/// [`fit_async`](Model::fit_async).
///
/// ```
/// use wgpu_lstm::{Callback, EpochEvent, Flow, Model, Result};
/// struct Print;
/// impl Callback for Print {
///     fn on_epoch(&mut self, event: &EpochEvent, _: &mut Model) -> Result<Flow> {
///         println!("epoch {}: loss {}", event.epoch, event.loss);
///         Ok(Flow::Continue)
///     }
/// }
/// ```
pub trait Callback: MaybeSend {
    /// When the fit begins, after its settings and data were found good.
    ///
    /// # Errors
    /// An error ends the fit and is returned by it.
    fn on_begin(&mut self, _model: &mut Model) -> Result<()> {
        Ok(())
    }

    /// After some steps: at least every 32, and at the end of the epoch.
    fn on_steps(&mut self, _event: &StepEvent) {}

    /// At the end of an epoch.
    ///
    /// # Errors
    /// An error ends the fit and is returned by it.
    fn on_epoch(&mut self, _event: &EpochEvent, _model: &mut Model) -> Result<Flow> {
        Ok(Flow::Continue)
    }

    /// At the end of the fit.
    ///
    /// # Errors
    /// An error is returned by the fit.
    fn on_end(&mut self, _model: &mut Model) -> Result<()> {
        Ok(())
    }
}

/// Stops when the validation loss (the training loss, without validation data) no longer falls, and goes back to the
/// best weights. As [Keras's EarlyStopping](https://keras.io/api/callbacks/early_stopping/).
///
/// ```
/// use wgpu_lstm::{EarlyStopping, Fit};
/// let fit = Fit::new().epochs(500).validation_split(0.2).callback(EarlyStopping::new(10));
/// ```
#[derive(Debug)]
pub struct EarlyStopping {
    patience: usize,
    min_delta: f32,
    restore_best: bool,
    best: f32,
    waited: usize,
    weights: Option<Vec<crate::layer::HostTensor>>,
}

impl EarlyStopping {
    /// Stops after `patience` epochs without a better loss; restores the best weights.
    pub fn new(patience: usize) -> EarlyStopping {
        EarlyStopping { patience, min_delta: 0.0, restore_best: true, best: f32::INFINITY, waited: 0, weights: None }
    }

    /// The loss must fall by more than this to count as better.
    pub fn min_delta(self, min_delta: f32) -> EarlyStopping {
        EarlyStopping { min_delta, ..self }
    }

    /// Whether the model ends with its best weights (the default) or its last ones.
    pub fn restore_best(self, restore_best: bool) -> EarlyStopping {
        EarlyStopping { restore_best, ..self }
    }
}

impl Callback for EarlyStopping {
    fn on_epoch(&mut self, event: &EpochEvent, model: &mut Model) -> Result<Flow> {
        if event.watched() < self.best - self.min_delta {
            self.best = event.watched();
            self.waited = 0;
            if self.restore_best {
                self.weights = Some(model.export()?);
            }
            return Ok(Flow::Continue);
        }
        self.waited += 1;
        Ok(if self.waited >= self.patience { Flow::Stop } else { Flow::Continue })
    }

    fn on_end(&mut self, model: &mut Model) -> Result<()> {
        self.best = f32::INFINITY;
        self.waited = 0;
        match self.weights.take() {
            Some(weights) => model.import(weights),
            None => Ok(()),
        }
    }
}

/// Saves the model during a fit.
///
/// ```
/// use wgpu_lstm::{Checkpoint, Fit};
/// let fit = Fit::new().callback(Checkpoint::best("model.safetensors"));
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    best_only: bool,
    training: bool,
    best: f32,
}

impl Checkpoint {
    /// After every epoch whose watched loss is the best so far.
    pub fn best(path: impl Into<PathBuf>) -> Checkpoint {
        Checkpoint { path: path.into(), best_only: true, training: false, best: f32::INFINITY }
    }

    /// After every epoch.
    pub fn every_epoch(path: impl Into<PathBuf>) -> Checkpoint {
        Checkpoint { best_only: false, ..Checkpoint::best(path) }
    }

    /// Whether the file holds the state of training, too, so that a run that was stopped can go on; see
    /// [`Model::save_training`](crate::Model::save_training).
    pub fn training(self, training: bool) -> Checkpoint {
        Checkpoint { training, ..self }
    }
}

impl Callback for Checkpoint {
    fn on_epoch(&mut self, event: &EpochEvent, model: &mut Model) -> Result<Flow> {
        if !self.best_only || event.watched() < self.best {
            self.best = event.watched();
            if self.training { model.save_training(&self.path)? } else { model.save(&self.path)? }
        }
        Ok(Flow::Continue)
    }
}
