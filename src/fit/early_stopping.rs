//! Early stopping.

use super::watch::Watch;
use super::{Callback, CallbackState, EpochEvent, Flow};
use crate::error::{Error, Result};
use crate::layer::HostTensor;
use crate::model::Model;
use crate::train::check_count;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Stops when the validation loss (the training loss, without validation data) no longer falls, and goes back to the
/// best weights. As [Keras's EarlyStopping](https://keras.io/api/callbacks/early_stopping/).
///
/// The model gets its best weights back however the fit ends. If training diverges, the fit so ends with them, as one that was stopped
/// ([`Stopped::Diverged`](crate::Stopped::Diverged)); before the first epoch's end there are none, and divergence is an error.
/// Checkpoints hold best loss, epochs waited and best weights, so that a resumed run stops where it would have stopped.
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
    watch: Watch,
    memory: Memory,
    weights: Option<Arc<Vec<HostTensor>>>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Memory {
    /// An f32; JSON keeps an f64 to the bit.
    best: Option<f64>,
    waited: u64,
}

impl EarlyStopping {
    /// Stops after `patience` epochs without a better loss; restores the best weights.
    pub fn new(patience: usize) -> EarlyStopping {
        let (watch, memory) = (Watch::default(), Memory::default());
        EarlyStopping { patience, min_delta: 0.0, restore_best: true, watch, memory, weights: None }
    }

    /// The loss must fall by more than this to count as better; finite and at least 0.
    pub fn min_delta(self, min_delta: f32) -> EarlyStopping {
        EarlyStopping { min_delta, ..self }
    }

    /// Chooses whether the model ends with its best weights (the default) or its last ones.
    pub fn restore_best(self, restore_best: bool) -> EarlyStopping {
        EarlyStopping { restore_best, ..self }
    }

    /// Follows another value of the epochs: a metric ([`Fit::metric`](crate::Fit::metric)), "loss" or "validation_loss".
    ///
    /// ```
    /// use wgpu_lstm::{EarlyStopping, Fit, metrics};
    /// let fit = Fit::new()
    ///     .validation_split(0.2)
    ///     .metric("mae", |prediction, target| metrics::mae(prediction, target))
    ///     .callback(EarlyStopping::new(10).watch("mae"));
    /// ```
    pub fn watch(self, name: impl Into<String>) -> EarlyStopping {
        EarlyStopping { watch: self.watch.named(name.into()), ..self }
    }

    /// Takes larger values for better ones, as for an accuracy; by default smaller ones are better.
    pub fn larger_is_better(self) -> EarlyStopping {
        EarlyStopping { watch: self.watch.larger(), ..self }
    }

    fn is_over(&self) -> bool {
        self.memory.waited > 0 && self.memory.waited >= self.patience as u64
    }
}

impl Callback for EarlyStopping {
    fn on_begin(&mut self, _: &mut Model) -> Result<()> {
        if !(self.min_delta >= 0.0 && self.min_delta.is_finite()) {
            return Err(Error::Config(format!(
                "min_delta of early stopping is {}; it must be finite and at least 0",
                self.min_delta
            )));
        }
        Ok(())
    }

    fn on_epoch(&mut self, event: &EpochEvent, model: &mut Model) -> Result<Flow> {
        let value = self.watch.value(event)?;
        if self.watch.is_better(value, self.memory.best, self.min_delta) {
            if self.restore_best {
                let weights = model.export()?;
                // The last step can spoil the weights though its loss, taken before, was finite.
                if !weights.iter().all(HostTensor::is_finite) {
                    return Ok(Flow::Continue);
                }
                self.weights = Some(Arc::new(weights));
            }
            self.memory = Memory { best: Some(value as f64), waited: 0 };
            return Ok(Flow::Continue);
        }
        self.memory.waited += 1;
        Ok(if self.is_over() { Flow::Stop } else { Flow::Continue })
    }

    fn on_end(&mut self, model: &mut Model) -> Result<()> {
        self.memory = Memory::default();
        match self.weights.take() {
            Some(weights) => model.import(Arc::unwrap_or_clone(weights)),
            None => Ok(()),
        }
    }

    fn restores_weights(&self) -> bool {
        self.weights.is_some()
    }

    fn state(&self) -> Result<Option<CallbackState>> {
        let Self { patience, min_delta, restore_best, watch, .. } = self;
        let watch = watch.settings();
        let settings = format!("patience {patience}, min_delta {min_delta} and restore_best {restore_best}{watch}");
        let mut state = CallbackState::new("early stopping", &self.memory)?.with_settings(settings);
        state.weights = self.weights.clone();
        Ok(Some(state))
    }

    fn restore(&mut self, state: &CallbackState) -> Result<Flow> {
        let memory: Memory = state.value()?;
        check_count("the epochs that early stopping has waited", memory.waited)?;
        if let Some(best) = memory.best.filter(|&best| !(best as f32).is_finite()) {
            return Err(Error::Config(format!("the best loss of early stopping is {best:e}; it must be finite")));
        }
        self.memory = memory;
        self.weights = state.weights.clone().filter(|_| self.restore_best);
        if self.restore_best && self.weights.is_none() {
            // The run did not keep its best weights; the best from here on are those to go back to.
            self.memory.best = None;
        }
        Ok(if self.is_over() { Flow::Stop } else { Flow::Continue })
    }
}
