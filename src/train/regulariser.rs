//! Penalties on weights and bounds of their norms, for the parameters that a pattern names.

use super::pattern::Pattern;
use crate::error::{Error, Result};
use crate::layer::{DeviceTensor, Parameter};
use serde::{Deserialize, Serialize};

/// A penalty on weights, or a bound of their norms, as Keras's
/// [regularisers](https://keras.io/api/layers/regularizers/) and [constraints](https://keras.io/api/layers/constraints/).
///
/// A penalty acts by its gradient; the losses that are reported are those of the data alone, without it.
///
/// Without [`Regulariser::on`] it acts on every weight matrix and no bias. Parameters have PyTorch's names, as
/// [`Model::parameters`](crate::Model::parameters) gives them; Keras's `kernel` is `weight_ih`, its `recurrent_kernel`
/// `weight_hh`. The device keeps both directions of a layer's weights together, and all its biases: one of these cannot be
/// named without the other.
///
/// ```
/// use wgpu_lstm::{Optimiser, Regulariser, Update};
/// let update = Update::new(Optimiser::adam(1e-3))
///     .regularise(Regulariser::l2(1e-4).on("weight_hh")) // recurrent weights of all layers
///     .regularise(Regulariser::max_norm(3.0).on("dense.weight"));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Regulariser {
    pub(crate) action: Action,
    on: Pattern,
}

/// The effect of a regulariser.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Adds l1·Σ|w| + l2·Σw² to the loss that is minimised.
    Penalty { l1: f64, l2: f64 },
    /// Scales each unit's incoming weights down to at most this norm.
    MaxNorm(f64),
}

impl Regulariser {
    /// λ·Σ|w|, as [`keras.regularizers.L1`](https://keras.io/api/layers/regularizers/#l1-class).
    pub fn l1(weight: f64) -> Regulariser {
        Regulariser::l1_l2(weight, 0.0)
    }

    /// λ·Σw² (without a factor ½), as [`keras.regularizers.L2`](https://keras.io/api/layers/regularizers/#l2-class).
    pub fn l2(weight: f64) -> Regulariser {
        Regulariser::l1_l2(0.0, weight)
    }

    /// λ₁·Σ|w| + λ₂·Σw², as [`keras.regularizers.L1L2`](https://keras.io/api/layers/regularizers/#l1l2-class).
    pub fn l1_l2(l1: f64, l2: f64) -> Regulariser {
        Regulariser { action: Action::Penalty { l1, l2 }, on: Pattern::default() }
    }

    /// After each step, the weights that come into a unit (into one gate of it, for an LSTM) are scaled down to at most
    /// this norm (Srivastava et al. 2014), as
    /// [`keras.constraints.MaxNorm`](https://keras.io/api/layers/constraints/) with `axis=0`.
    pub fn max_norm(limit: f64) -> Regulariser {
        Regulariser { action: Action::MaxNorm(limit), on: Pattern::default() }
    }

    /// Acts on the parameters whose names contain this.
    pub fn on(self, pattern: impl Into<String>) -> Regulariser {
        Regulariser { on: Pattern::new(pattern), ..self }
    }

    /// True if it acts on a tensor of the device.
    pub(crate) fn acts_on(&self, tensor: &DeviceTensor) -> bool {
        self.on.is_of(tensor)
    }

    /// Refuses weights out of range, and patterns that name no parameter of these tensors or a part of a tensor.
    pub(crate) fn validate(&self, tensors: &[DeviceTensor]) -> Result<()> {
        match self.action {
            Action::Penalty { l1, l2 } => {
                if let Some(weight) = [l1, l2].into_iter().find(|weight| !(*weight >= 0.0 && weight.is_finite())) {
                    let what = format!("the weight of a penalty is {weight}; it must be finite and at least 0");
                    return Err(Error::Config(what));
                }
            }
            Action::MaxNorm(limit) if !(limit > 0.0 && limit.is_finite()) => {
                return Err(Error::Config(format!("max_norm is {limit}; it must be finite and above 0")));
            }
            Action::MaxNorm(_) => {}
        }
        self.on.validate("a regulariser", tensors)?;
        let vector = self.on.named(tensors).find(|parameter| !parameter.is_matrix());
        match (self.action, vector) {
            (Action::MaxNorm(_), Some(Parameter { name, shape, .. })) => Err(Error::Config(format!(
                "max_norm is on \"{}\", which names {name} of shape {shape:?}; it bounds matrices only",
                self.on.text()
            ))),
            _ => Ok(()),
        }
    }
}
