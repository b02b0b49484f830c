//! All that happens between a gradient and a weight.

use super::pattern::Pattern;
use super::{Optimiser, Regulariser, WeightDecay};
use crate::error::{Error, Result};
use crate::layer::DeviceTensor;
use serde::{Deserialize, Serialize};

/// Gradient clipping.
///
/// ```
/// use wgpu_lstm::{Clip, Optimiser, Update};
/// let update = Update::new(Optimiser::sgd(0.1, 0.9)).clip(Clip::Value(0.5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Clip {
    /// The gradients of all layers together are scaled down to at most this norm, as
    /// [`torch.nn.utils.clip_grad_norm_`](https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html)
    /// and Keras's `global_clipnorm` do.
    Norm(f32),
    /// Each element of each gradient is cut off at ± this, as
    /// [`torch.nn.utils.clip_grad_value_`](https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_value_.html)
    /// and Keras's `clipvalue` do.
    Value(f32),
}

/// All that happens between a gradient and a weight, in this order: penalties are added, the gradient is clipped, the
/// optimiser takes its step with its weight decay, norms are bounded.
///
/// Parameters can be frozen ([`Update::freeze`]) or have a learning rate ([`Update::rate`]) and a weight decay ([`Update::decay`]) of
/// their own, by patterns as [`Regulariser::on`] takes them.
///
/// An [`Optimiser`] alone is an update without the rest, so [`Model::compile`](crate::Model::compile) takes either.
///
/// ```
/// use wgpu_lstm::{Clip, Dense, Device, Loss, Lstm, Optimiser, Regulariser, Sequential, Update};
/// let mut model = Sequential::new(3).add(Lstm::new(8)).add(Dense::new(1)).build(&Device::cpu(), 0)?;
/// let update = Update::new(Optimiser::adamw(1e-3, 0.01))
///     .clip(Clip::Norm(1.0))
///     .regularise(Regulariser::l2(1e-4).on("weight_hh"));
/// model.compile(Loss::Huber { delta: 1.0 }, update)?;
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// The optimiser.
    pub optimiser: Optimiser,
    /// Gradient clipping, if any.
    pub clip: Option<Clip>,
    /// Penalties and bounds, each on the parameters that it names.
    pub regularisers: Vec<Regulariser>,
    /// Settings of some parameters, in the order in which they were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) exceptions: Vec<Exception>,
}

/// A setting of the parameters that a pattern names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Exception {
    on: Pattern,
    setting: Setting,
}

/// Settings that parameters can have of their own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Setting {
    /// No training.
    Frozen,
    /// Factor of the learning rate.
    Rate(f64),
    /// Weight decay in place of the optimiser's.
    Decay(WeightDecay),
}

/// Parameters that have the same learning rate and decoupled weight decay, as a parameter group of
/// [`torch.optim`](https://docs.pytorch.org/docs/stable/optim.html#per-parameter-options) has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Group {
    /// Factor of the learning rate.
    pub rate: f64,
    /// Weight decay.
    pub decay: WeightDecay,
}

impl Group {
    /// The optimiser for these parameters.
    pub fn optimiser(&self, optimiser: &Optimiser) -> Optimiser {
        Optimiser { lr: self.rate * optimiser.lr, weight_decay: self.decay, ..optimiser.clone() }
    }
}

impl From<Optimiser> for Update {
    fn from(optimiser: Optimiser) -> Update {
        Update::new(optimiser)
    }
}

impl Update {
    /// An optimiser's steps as they are.
    pub fn new(optimiser: Optimiser) -> Update {
        Update { optimiser, clip: None, regularisers: Vec::new(), exceptions: Vec::new() }
    }

    /// Clips gradients.
    pub fn clip(self, clip: Clip) -> Update {
        Update { clip: Some(clip), ..self }
    }

    /// Adds a penalty or a bound; several may name the same parameter, and then all act, in their order.
    pub fn regularise(mut self, regulariser: Regulariser) -> Update {
        self.regularisers.push(regulariser);
        self
    }

    /// Freezes the parameters whose names contain this: their values stay, to the bit. As PyTorch's
    /// [`requires_grad_(False)`](https://docs.pytorch.org/docs/stable/generated/torch.Tensor.requires_grad_.html), they take no part in
    /// [`Clip::Norm`], in weight decay and in the optimiser's memory; regularisers leave them alone, too.
    ///
    /// ```
    /// use wgpu_lstm::{Optimiser, Update};
    /// let head = Update::new(Optimiser::adam(1e-3)).freeze("lstm."); // trains the layers above alone
    /// ```
    pub fn freeze(self, pattern: impl Into<String>) -> Update {
        self.except(pattern, Setting::Frozen)
    }

    /// Multiplies the learning rate of the parameters whose names contain this by a factor, finite and at least 0, as `lr` of a
    /// parameter group of [`torch.optim`](https://docs.pytorch.org/docs/stable/optim.html#per-parameter-options) does. Schedules and
    /// [`Model::set_learning_rate`](crate::Model::set_learning_rate) change the rate that is multiplied. The factors of several
    /// patterns that name the same parameter are multiplied.
    ///
    /// ```
    /// use wgpu_lstm::{Optimiser, Update};
    /// let fine_tuning = Update::new(Optimiser::adam(1e-3)).rate("lstm.", 0.1);
    /// ```
    pub fn rate(self, pattern: impl Into<String>, factor: f64) -> Update {
        self.except(pattern, Setting::Rate(factor))
    }

    /// Sets the weight decay of the parameters whose names contain this, in place of the optimiser's. If several patterns name the
    /// same parameter, the last one counts.
    ///
    /// ```
    /// use wgpu_lstm::{Optimiser, Update, WeightDecay};
    /// let update = Update::new(Optimiser::adamw(1e-3, 0.01)).decay("bias", WeightDecay::None);
    /// ```
    pub fn decay(self, pattern: impl Into<String>, decay: WeightDecay) -> Update {
        self.except(pattern, Setting::Decay(decay))
    }

    /// True if some parameters are frozen.
    pub(crate) fn freezes(&self) -> bool {
        self.exceptions.iter().any(|exception| exception.setting == Setting::Frozen)
    }

    fn except(mut self, pattern: impl Into<String>, setting: Setting) -> Update {
        self.exceptions.push(Exception { on: Pattern::new(pattern), setting });
        self
    }

    /// Learning rate and weight decay of a tensor; `None` if it is frozen.
    pub(crate) fn group(&self, tensor: &DeviceTensor) -> Option<Group> {
        let mut group = Group { rate: 1.0, decay: self.optimiser.weight_decay };
        for Exception { setting, .. } in self.exceptions.iter().filter(|exception| exception.on.is_of(tensor)) {
            match *setting {
                Setting::Frozen => return None,
                Setting::Rate(factor) => group.rate *= factor,
                Setting::Decay(decay) => group.decay = decay,
            }
        }
        Some(group)
    }

    /// Refuses settings out of range, and patterns that name no parameter of these tensors or only a part of what the device
    /// keeps together.
    pub(crate) fn validate(&self, tensors: &[DeviceTensor]) -> Result<()> {
        self.optimiser.validate()?;
        if let Some(clip) = self.clip {
            let (what, limit) = match clip {
                Clip::Norm(limit) => ("clip_norm", limit),
                Clip::Value(limit) => ("the value that gradients are clipped to", limit),
            };
            if !(limit > 0.0 && limit.is_finite()) {
                return Err(Error::Config(format!("{what} is {limit}; it must be finite and above 0")));
            }
        }
        self.regularisers.iter().try_for_each(|regulariser| regulariser.validate(tensors))?;
        self.exceptions.iter().try_for_each(|exception| exception.validate(tensors))?;
        let mut trained =
            tensors.iter().filter(|tensor| tensor.len > 0 && tensor.trained && self.group(tensor).is_some());
        if !self.exceptions.is_empty() && trained.next().is_none() {
            return Err(Error::Config("all parameters are frozen, so there is nothing to train; freeze fewer".into()));
        }
        Ok(())
    }
}

impl Exception {
    fn validate(&self, tensors: &[DeviceTensor]) -> Result<()> {
        let (what, value) = match self.setting {
            Setting::Frozen => ("freeze", 0.0),
            Setting::Rate(factor) => ("the factor of a learning rate", factor),
            Setting::Decay(decay) => ("a weight decay", decay.strength()),
        };
        if !(value >= 0.0 && value.is_finite()) {
            return Err(Error::Config(format!(
                "{what} on \"{}\" is {value}; it must be finite and at least 0",
                self.on.text()
            )));
        }
        self.on.validate(what, tensors)
    }
}
