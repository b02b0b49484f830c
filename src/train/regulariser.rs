//! Penalties on weights and bounds of their norms, for the parameters that a pattern names.

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
    on: Option<String>,
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
        Regulariser { action: Action::Penalty { l1, l2 }, on: None }
    }

    /// After each step, the weights that come into a unit (into one gate of it, for an LSTM) are scaled down to at most
    /// this norm (Srivastava et al. 2014), as
    /// [`keras.constraints.MaxNorm`](https://keras.io/api/layers/constraints/) with `axis=0`.
    pub fn max_norm(limit: f64) -> Regulariser {
        Regulariser { action: Action::MaxNorm(limit), on: None }
    }

    /// Acts on the parameters whose names contain this.
    pub fn on(self, pattern: impl Into<String>) -> Regulariser {
        Regulariser { on: Some(pattern.into()), ..self }
    }

    fn names(&self, parameter: &Parameter) -> bool {
        match &self.on {
            Some(pattern) => parameter.name.contains(pattern.as_str()),
            None => parameter.is_weight(),
        }
    }

    /// True if it acts on a tensor of the device.
    pub(crate) fn acts_on(&self, tensor: &DeviceTensor) -> bool {
        tensor.parameters.iter().any(|parameter| self.names(parameter))
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
        let pattern = self.on.as_deref().unwrap_or("weight");
        if !tensors.iter().any(|tensor| self.acts_on(tensor)) {
            let all = tensors.iter().flat_map(|tensor| &tensor.parameters);
            let names: Vec<&str> = all.map(|parameter| parameter.name.as_str()).take(6).collect();
            return Err(Error::Config(format!(
                "a regulariser is on \"{pattern}\", which no parameter's name contains; among the names: {}",
                names.join(", ")
            )));
        }
        for tensor in tensors {
            let (named, others): (Vec<_>, Vec<_>) =
                tensor.parameters.iter().partition(|parameter| self.names(parameter));
            if let (Some(name), Some(other)) = (named.first(), others.first()) {
                return Err(Error::Config(format!(
                    "a regulariser is on \"{pattern}\", which names {} but not {}; the device keeps the two together, so name \
                     both or neither",
                    name.name, other.name
                )));
            }
            let vector = named.into_iter().find(|parameter| !parameter.is_matrix());
            if let (Action::MaxNorm(_), Some(Parameter { name, shape, .. })) = (self.action, vector) {
                return Err(Error::Config(format!(
                    "max_norm is on \"{pattern}\", which names {name} of shape {shape:?}; it bounds matrices only"
                )));
            }
        }
        Ok(())
    }
}
