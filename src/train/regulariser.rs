//! Penalties on weights and bounds of their norms, for the parameters that a pattern names.

use crate::error::{Error, Result};
use crate::layer::tensor_shapes;
use crate::schedule::LayerPlan;
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

    fn names(&self, parameter: &str, shape: &[usize]) -> bool {
        match &self.on {
            Some(pattern) => parameter.contains(pattern.as_str()),
            None => shape.len() == 2,
        }
    }

    /// True if it acts on the device's buffer of that name.
    pub(crate) fn acts_on(&self, buffer: &str, layers: &[LayerPlan]) -> bool {
        parts(buffer, layers).iter().any(|(name, shape)| self.names(name, shape))
    }

    pub(crate) fn validate(&self, layers: &[LayerPlan]) -> Result<()> {
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
        let all: Vec<(String, Vec<usize>)> = layers.iter().flat_map(tensor_shapes).collect();
        let (named, others): (Vec<_>, Vec<_>) = all.iter().partition(|(name, shape)| self.names(name, shape));
        let pattern = self.on.as_deref().unwrap_or("weight");
        if named.is_empty() {
            let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).take(6).collect();
            return Err(Error::Config(format!(
                "a regulariser is on \"{pattern}\", which no parameter's name contains; among the names: {}",
                names.join(", ")
            )));
        }
        for (name, shape) in named {
            if let Some((other, _)) = others.iter().find(|(other, _)| buffer_of(other) == buffer_of(name)) {
                return Err(Error::Config(format!(
                    "a regulariser is on \"{pattern}\", which names {name} but not {other}; the device keeps the two \
                     together, so name both or neither"
                )));
            }
            if matches!(self.action, Action::MaxNorm(_)) && shape.len() != 2 {
                return Err(Error::Config(format!(
                    "max_norm is on \"{pattern}\", which names {name} of shape {shape:?}; it bounds matrices only"
                )));
            }
        }
        Ok(())
    }
}

/// The device's buffer that a parameter lies in: both directions share one, and all biases.
pub(crate) fn buffer_of(parameter: &str) -> String {
    let name = parameter.strip_suffix("_reverse").unwrap_or(parameter);
    let kinds = [
        ("weight_ih_l", "w"),
        ("weight_hh_l", "r"),
        ("weight_hr_l", "projection"),
        ("bias_ih_l", "bias"),
        ("bias_hh_l", "bias"),
        ("peephole_l", "bias"),
        ("norm_ih_l", "norm x"),
        ("norm_hh_l", "norm h"),
        ("norm_c_weight_l", "norm c"),
        ("norm_c_bias_l", "norm c"),
    ];
    let shared = kinds.iter().find_map(|(kind, short)| {
        let (layer, index) = name.rsplit_once(kind)?;
        index.parse::<u32>().ok()?;
        Some(format!("{layer}l{index}.{short}"))
    });
    shared.unwrap_or_else(|| name.to_string())
}

/// The parameters in a buffer of the device, with their shapes.
pub(crate) fn parts(buffer: &str, layers: &[LayerPlan]) -> Vec<(String, Vec<usize>)> {
    layers.iter().flat_map(tensor_shapes).filter(|(name, _)| buffer_of(name) == buffer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_lie_in_the_buffers_of_the_plans() {
        for (parameter, buffer) in [
            ("lstm.weight_ih_l0", "lstm.l0.w"),
            ("lstm_1.weight_hh_l12_reverse", "lstm_1.l12.r"),
            ("lstm.bias_hh_l0", "lstm.l0.bias"),
            ("lstm.peephole_l1_reverse", "lstm.l1.bias"),
            ("lstm.weight_hr_l0", "lstm.l0.projection"),
            ("lstm.norm_c_bias_l0", "lstm.l0.norm c"),
            ("dense.weight", "dense.weight"),
        ] {
            assert_eq!(buffer_of(parameter), buffer);
        }
    }
}
