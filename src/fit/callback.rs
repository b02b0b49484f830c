//! Callbacks: the interface through which others follow and steer a running fit.

use crate::error::{Error, Result};
use crate::layer::HostTensor;
use crate::model::Model;
use crate::wait::MaybeSend;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A callback's request to the fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// End the fit here. All callbacks of the same moment are still called.
    Stop,
}

/// Some steps of an epoch are done.
#[derive(Clone, Copy, Debug)]
pub struct StepEvent {
    /// Epoch, counted from 1.
    pub epoch: usize,
    /// Epochs asked for.
    pub epochs: usize,
    /// Steps done in this epoch.
    pub step: usize,
    /// Steps of an epoch; 0 in the first epoch on an iterator, as long as they are not known.
    pub steps: usize,
    /// Mean loss of the epoch so far.
    pub loss: f32,
    /// Learning rate of the last of these steps.
    pub learning_rate: f64,
}

/// An epoch is done.
#[derive(Clone, Debug)]
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
    /// Scores of [`Fit::metric`](crate::Fit::metric), by name.
    pub metrics: Vec<(String, f64)>,
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

    /// A value by name: "loss", "validation_loss", or a metric.
    ///
    /// # Errors
    /// A name that the epoch has no value of.
    pub fn value(&self, name: &str) -> Result<f64> {
        let of_loss = match name {
            "loss" => Some(self.loss as f64),
            "validation_loss" => self.validation_loss.map(|loss| loss as f64),
            _ => None,
        };
        let metric = self.metrics.iter().find(|(other, _)| other == name).map(|&(_, value)| value);
        of_loss.or(metric).ok_or_else(|| {
            let mut known = vec!["loss"];
            known.extend(self.validation_loss.map(|_| "validation_loss"));
            known.extend(self.metrics.iter().map(|(name, _)| name.as_str()));
            Error::Config(format!("the epoch has no value \"{name}\"; it has {}", known.join(", ")))
        })
    }
}

/// Follows a fit and may steer it. Callbacks are called in the order in which they were added.
///
/// A fit ends with an error as soon as a callback returns one. [`Callback::on_end`] of every callback runs nevertheless, and the
/// first error is the one that the fit returns.
///
/// Callbacks are `Send`, except in browsers, so that an executor of several threads can run [`fit_async`](Model::fit_async).
///
/// ```
/// use wgpu_lstm::{Callback, EpochEvent, Flow, Model, Result, StepEvent};
/// struct Print;
/// impl Callback for Print {
///     fn on_steps(&mut self, event: &StepEvent, model: &mut Model) -> Result<Flow> {
///         if event.epoch == 1 && event.step == event.steps {
///             model.set_learning_rate(1e-4)?; // of the steps to come
///         }
///         Ok(if event.loss > 1e6 { Flow::Stop } else { Flow::Continue })
///     }
///     fn on_epoch(&mut self, event: &EpochEvent, _: &mut Model) -> Result<Flow> {
///         println!("epoch {}: loss {}", event.epoch, event.loss);
///         Ok(Flow::Continue)
///     }
/// }
/// ```
pub trait Callback: MaybeSend {
    /// Called when the fit begins, after its settings and data were found good, and after [`Callback::restore`].
    ///
    /// # Errors
    /// An error ends the fit and is returned by it.
    fn on_begin(&mut self, _model: &mut Model) -> Result<()> {
        Ok(())
    }

    /// Called after some steps of an epoch: after every 32, after those that a callback's [`Callback::interval`] asks for, after the
    /// epoch's last, and where steps are slow about once a second.
    ///
    /// It may save the model ([`Model::save_training`] keeps the place in the epoch, and a resumed run goes on from it) and set
    /// the learning rate. A schedule overrides that rate when it next advances: after the next step if it counts steps, after
    /// the epoch if it counts epochs. [`Flow::Stop`] ends the fit after these steps: the unfinished epoch has no validation,
    /// no [`Callback::on_epoch`] and no entry in [`History::loss`](crate::History::loss). After an epoch's last steps the epoch
    /// ends as usual, and the fit with it.
    ///
    /// # Errors
    /// An error ends the fit and is returned by it.
    fn on_steps(&mut self, _event: &StepEvent, _model: &mut Model) -> Result<Flow> {
        Ok(Flow::Continue)
    }

    /// Number n of steps: [`Callback::on_steps`] is called when a multiple of n steps of an epoch is done. Losses are read
    /// back for each call, so a small n makes small models slower.
    fn interval(&self) -> usize {
        super::pace::MOST_STEPS
    }

    /// Called at the end of an epoch.
    ///
    /// # Errors
    /// An error ends the fit and is returned by it.
    fn on_epoch(&mut self, _event: &EpochEvent, _model: &mut Model) -> Result<Flow> {
        Ok(Flow::Continue)
    }

    /// Called when all callbacks have seen some steps or an epoch: a file that [`Model::save_training`] writes here holds every
    /// callback's state as of now. `flow` is [`Flow::Stop`] where the fit takes no further step.
    ///
    /// # Errors
    /// An error ends the fit and is returned by it.
    fn save(&mut self, _model: &mut Model, _flow: Flow) -> Result<()> {
        Ok(())
    }

    /// Called once at the end of every fit that began, however it ended: also after divergence, an error of a callback or one
    /// of the device.
    ///
    /// # Errors
    /// An error is returned by the fit, unless there was one before it.
    fn on_end(&mut self, _model: &mut Model) -> Result<()> {
        Ok(())
    }

    /// True if [`Callback::on_end`] would put finite weights into the model. A fit that diverges is then one that was
    /// stopped ([`Stopped::Diverged`](crate::Stopped::Diverged)) and not an error.
    fn restores_weights(&self) -> bool {
        false
    }

    /// State that is saved with the training, if the callback has some.
    ///
    /// # Errors
    /// An error ends the fit and is returned by it.
    fn state(&self) -> Result<Option<CallbackState>> {
        Ok(None)
    }

    /// Takes back, in a resumed fit, what [`Callback::state`] gave when the run was saved: the state of the same name, and where
    /// several have that name the one at the same place among them. [`Flow::Stop`] if the run had come to its end by this callback:
    /// the fit then takes no step.
    ///
    /// # Errors
    /// An error ends the fit and is returned by it.
    fn restore(&mut self, _state: &CallbackState) -> Result<Flow> {
        Ok(Flow::Continue)
    }
}

/// State of a callback, as a checkpoint holds it.
///
/// ```
/// use wgpu_lstm::{Callback, CallbackState, Flow, Result};
/// struct Halve { every: usize, halved: usize }
/// impl Callback for Halve {
///     fn state(&self) -> Result<Option<CallbackState>> {
///         let state = CallbackState::new("halving", &self.halved)?;
///         Ok(Some(state.with_settings(format!("every {}", self.every))))
///     }
///     fn restore(&mut self, state: &CallbackState) -> Result<Flow> {
///         self.halved = state.value()?;
///         Ok(Flow::Continue)
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallbackState {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) settings: String,
    value: serde_json::Value,
    /// Weights to go back to, which a file keeps as tensors.
    #[serde(skip)]
    pub(crate) weights: Option<Arc<Vec<HostTensor>>>,
}

impl CallbackState {
    /// A state under the callback's name.
    ///
    /// # Errors
    /// A value that JSON cannot hold.
    pub fn new(name: impl Into<String>, value: &impl Serialize) -> Result<CallbackState> {
        let name = name.into();
        let value = serde_json::to_value(value)
            .map_err(|error| Error::Config(format!("the state of the callback \"{name}\": {error}")))?;
        Ok(CallbackState { name, settings: String::new(), value, weights: None })
    }

    /// Settings that the result of the run depends on, in words. A resumed fit in which they differ, or in which the callback is
    /// missing, is refused ([`Fit::accept_changes`](crate::Fit::accept_changes)).
    pub fn with_settings(self, settings: impl Into<String>) -> CallbackState {
        CallbackState { settings: settings.into(), ..self }
    }

    /// The value.
    ///
    /// # Errors
    /// A value of another type.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T> {
        serde_path_to_error::deserialize(&self.value)
            .map_err(|error| Error::Config(format!("the saved state of the callback \"{}\": {error}", self.name)))
    }
}
