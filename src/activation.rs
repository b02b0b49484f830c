//! Activation functions: of dense layers and of the three places in a cell.

use crate::error::{Error, Result};
use crate::real::saturating::{
    Activated, Restored, sigmoid_activated, sigmoid_restored, tanh_activated, tanh_and_slope, tanh_restored,
};
use crate::real::{Number, sigmoid, tanh};
use serde::{Deserialize, Serialize};

/// Activations. Parameters are named as
/// [ONNX names them](https://onnx.ai/onnx/operators/onnx__LSTM.html).
///
/// ```
/// use wgpu_lstm::{Activation, Dense, Lstm};
/// let dense = Dense::new(8).activation(Activation::Tanh);
/// let lstm = Lstm::new(16).gate_activation(Activation::KERAS_HARD_SIGMOID).output_activation(Activation::Relu);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// The identity: x.
    #[default]
    Linear,
    /// max(x, 0)
    Relu,
    /// 1 / (1 + e⁻ˣ)
    Sigmoid,
    /// tanh x
    Tanh,
    /// max(0, min(1, αx + β))
    HardSigmoid {
        /// α; ONNX's default is 0.2.
        alpha: f32,
        /// β; ONNX's default is 0.5.
        beta: f32,
    },
    /// x / (1 + |x|)
    Softsign,
    /// ln(1 + eˣ)
    Softplus,
    /// x where x ≥ 0, else α(eˣ − 1)
    Elu {
        /// α, at least 0; ONNX's default is 1.
        alpha: f32,
    },
    /// x where x ≥ 0, else αx
    LeakyRelu {
        /// α, at least 0; ONNX's default is 0.01.
        alpha: f32,
    },
    /// x where x > α, else 0
    ThresholdedRelu {
        /// α, at least 0; ONNX's default is 1.
        alpha: f32,
    },
    /// αx + β
    Affine {
        /// α; ONNX's default is 1.
        alpha: f32,
        /// β; ONNX's default is 0.
        beta: f32,
    },
    /// α·tanh(βx)
    ScaledTanh {
        /// α.
        alpha: f32,
        /// β.
        beta: f32,
    },
    /// eˣ over the sum of eˣ of a row, the last axis: probabilities that add up to 1. Of dense layers only, as
    /// [Keras's softmax](https://keras.io/api/layers/activations/#softmax-function) and
    /// [`torch.nn.Softmax(dim=-1)`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Softmax.html). The cross-entropy losses
    /// take its argument (logits) instead: train with [`Linear`](Activation::Linear).
    Softmax,
    /// The logarithm of [`Softmax`](Activation::Softmax). Of dense layers only.
    LogSoftmax,
}

impl std::fmt::Display for Activation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plain = |f: &mut std::fmt::Formatter<'_>, name: &str| f.write_str(name);
        match *self {
            Activation::Linear => plain(f, "Linear"),
            Activation::Relu => plain(f, "Relu"),
            Activation::Sigmoid => plain(f, "Sigmoid"),
            Activation::Tanh => plain(f, "Tanh"),
            Activation::HardSigmoid { alpha, beta } => write!(f, "HardSigmoid(alpha {alpha}, beta {beta})"),
            Activation::Softsign => plain(f, "Softsign"),
            Activation::Softplus => plain(f, "Softplus"),
            Activation::Elu { alpha } => write!(f, "Elu(alpha {alpha})"),
            Activation::LeakyRelu { alpha } => write!(f, "LeakyRelu(alpha {alpha})"),
            Activation::ThresholdedRelu { alpha } => write!(f, "ThresholdedRelu(alpha {alpha})"),
            Activation::Affine { alpha, beta } => write!(f, "Affine(alpha {alpha}, beta {beta})"),
            Activation::ScaledTanh { alpha, beta } => write!(f, "ScaledTanh(alpha {alpha}, beta {beta})"),
            Activation::Softmax => plain(f, "Softmax"),
            Activation::LogSoftmax => plain(f, "LogSoftmax"),
        }
    }
}

impl Activation {
    /// [Keras 3's](https://keras.io/api/layers/activations/#hardsigmoid-function) hard sigmoid: relu6(x + 3) / 6.
    pub const KERAS_HARD_SIGMOID: Activation = Activation::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 };
    /// The hard sigmoid of Keras 1 and 2, and of files made by them: 0.2x + 0.5 between 0 and 1.
    pub const KERAS2_HARD_SIGMOID: Activation = Activation::HardSigmoid { alpha: 0.2, beta: 0.5 };

    /// The number by which kernels know it, α and β.
    pub(crate) fn shape(self) -> Shape {
        let (kind, alpha, beta) = match self {
            // What rows go through has kernels of its own; elements stay as they are.
            Activation::Linear | Activation::Softmax | Activation::LogSoftmax => (LINEAR, 0.0, 0.0),
            Activation::Relu => (RELU, 0.0, 0.0),
            Activation::Sigmoid => (SIGMOID, 0.0, 0.0),
            Activation::Tanh => (TANH, 0.0, 0.0),
            Activation::HardSigmoid { alpha, beta } => (HARD_SIGMOID, alpha, beta),
            Activation::Softsign => (SOFTSIGN, 0.0, 0.0),
            Activation::Softplus => (SOFTPLUS, 0.0, 0.0),
            Activation::Elu { alpha } => (ELU, alpha, 0.0),
            Activation::LeakyRelu { alpha } => (LEAKY_RELU, alpha, 0.0),
            Activation::ThresholdedRelu { alpha } => (THRESHOLDED_RELU, alpha, 0.0),
            Activation::Affine { alpha, beta } => (AFFINE, alpha, beta),
            Activation::ScaledTanh { alpha, beta } => (SCALED_TANH, alpha, beta),
        };
        Shape { kind, alpha, beta }
    }

    /// True if each output depends on a whole row of sums (softmax).
    pub(crate) fn is_of_rows(self) -> bool {
        matches!(self, Activation::Softmax | Activation::LogSoftmax)
    }

    /// Refuses parameters that are not finite, and those for which the derivative is no function of the output.
    pub(crate) fn validate(self, place: &str) -> Result<()> {
        let Shape { kind, alpha, beta } = self.shape();
        let refuse = |expected: &str| {
            Err(Error::Config(format!("{place} is {self}; its alpha and beta must be finite{expected}")))
        };
        if !(alpha.is_finite() && beta.is_finite()) {
            return refuse("");
        }
        match kind {
            ELU | LEAKY_RELU | THRESHOLDED_RELU if alpha < 0.0 => refuse(", and alpha at least 0"),
            _ => Ok(()),
        }
    }
}

// Numbers of the kinds in the shaders.
const LINEAR: u32 = 0;
const RELU: u32 = 1;
const SIGMOID: u32 = 2;
const TANH: u32 = 3;
const HARD_SIGMOID: u32 = 4;
const SOFTSIGN: u32 = 5;
const SOFTPLUS: u32 = 6;
const ELU: u32 = 7;
const LEAKY_RELU: u32 = 8;
const THRESHOLDED_RELU: u32 = 9;
const AFFINE: u32 = 10;
const SCALED_TANH: u32 = 11;

/// An activation as kernels take it. Twin of `shaders/common/activation.wgsl`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shape {
    /// The number of the kind.
    pub kind: u32,
    /// α.
    pub alpha: f32,
    /// β.
    pub beta: f32,
}

impl Shape {
    /// The function.
    #[inline(always)]
    pub fn of<N: Number>(self, x: N) -> N {
        let (zero, alpha, beta) = (x.nothing(), x.constant(self.alpha), x.constant(self.beta));
        match self.kind {
            RELU => x.at_least(zero),
            SIGMOID => sigmoid(x),
            TANH => tanh(x),
            HARD_SIGMOID => (alpha * x + beta).at_most(x.constant(1.0)).at_least(zero),
            SOFTSIGN => x / (x.magnitude() + x.constant(1.0)),
            SOFTPLUS => {
                let small = (zero - x.magnitude()).exponential();
                x.at_least(zero) + small.logarithm_of_one_plus()
            }
            ELU => x.below(zero, alpha * x.at_most(zero).exponential_minus_one(), x),
            LEAKY_RELU => x.below(zero, alpha * x, x),
            THRESHOLDED_RELU => alpha.below(x, x, zero),
            AFFINE => alpha * x + beta,
            SCALED_TANH => alpha * tanh(beta * x),
            _ => x,
        }
    }

    /// Its derivative, in terms of the function's value y.
    #[inline(always)]
    pub fn slope<N: Number>(self, y: N) -> N {
        let (zero, one) = (y.nothing(), y.constant(1.0));
        let (alpha, beta) = (y.constant(self.alpha), y.constant(self.beta));
        match self.kind {
            RELU => zero.below(y, one, zero),
            SIGMOID => y * y.one_minus(),
            TANH => (y * y).one_minus(),
            HARD_SIGMOID => zero.below(y, y.below(one, alpha, zero), zero),
            SOFTSIGN => {
                let rest = y.magnitude().one_minus();
                rest * rest
            }
            SOFTPLUS => zero - (zero - y).exponential_minus_one(),
            ELU => y.below(zero, y + alpha, one),
            LEAKY_RELU => y.below(zero, alpha, one),
            THRESHOLDED_RELU => alpha.below(y, one, zero),
            AFFINE => alpha,
            SCALED_TANH if self.alpha == 0.0 => zero,
            SCALED_TANH => beta * (alpha - y * y / alpha),
            _ => one,
        }
    }

    /// The function in a cell's forward step, with what its backward step needs: of σ and tanh the side that f32 has room for
    /// (`saturating.rs`), of the others the value.
    #[inline(always)]
    pub(crate) fn activated<N: Number>(self, x: N) -> Activated<N> {
        match self.kind {
            SIGMOID => sigmoid_activated(x),
            TANH => tanh_activated(x),
            _ => {
                let value = self.of(x);
                Activated { value, complement: value.one_minus(), saved: value }
            }
        }
    }

    /// Value and derivative from the number that [`Shape::activated`] saved.
    #[inline(always)]
    pub(crate) fn restored<N: Number>(self, saved: N) -> Restored<N> {
        match self.kind {
            SIGMOID => sigmoid_restored(saved),
            TANH => tanh_restored(saved),
            _ => Restored { value: saved, complement: saved.one_minus(), slope: self.slope(saved) },
        }
    }

    /// [`Shape::restored`] for an argument clamped to ±clip, with a derivative of 0 where the clip was active. If a saved number equals
    /// the bound's by rounding alone, the derivative is 0 in any case or the argument is on the bound.
    #[inline(always)]
    pub(crate) fn restored_within<N: Number>(self, clip: f32, saved: N) -> Restored<N> {
        let restored = self.restored(saved);
        if clip == f32::MAX {
            return restored;
        }
        let (zero, slope) = (saved.nothing(), restored.slope);
        let slope = match self.kind {
            // Both derivatives fall with |x|; the values cannot tell, since f32 has too few digits near 1.
            SIGMOID | TANH => self.restored(self.activated(saved.constant(clip)).saved).slope.below(slope, slope, zero),
            _ => {
                let (one, other) = (self.of(saved.constant(clip)), self.of(saved.constant(-clip)));
                let (low, high) = (one.at_most(other), one.at_least(other));
                low.below(saved, saved.below(high, slope, zero), zero)
            }
        };
        Restored { slope, ..restored }
    }

    /// The function and its derivative at x.
    #[inline(always)]
    pub(crate) fn with_slope<N: Number>(self, x: N) -> (N, N) {
        match self.kind {
            SIGMOID => {
                let Activated { value, complement, .. } = sigmoid_activated(x);
                (value, value * complement)
            }
            TANH => tanh_and_slope(x),
            SCALED_TANH => {
                let (alpha, beta) = (x.constant(self.alpha), x.constant(self.beta));
                let (y, slope) = tanh_and_slope(beta * x);
                (alpha * y, alpha * beta * slope)
            }
            _ => {
                let y = self.of(x);
                (y, self.slope(y))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) const ALL: [Activation; 13] = [
        Activation::Linear,
        Activation::Relu,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::KERAS_HARD_SIGMOID,
        Activation::KERAS2_HARD_SIGMOID,
        Activation::Softsign,
        Activation::Softplus,
        Activation::Elu { alpha: 0.7 },
        Activation::LeakyRelu { alpha: 0.1 },
        Activation::ThresholdedRelu { alpha: 0.3 },
        Activation::Affine { alpha: -0.4, beta: 0.1 },
        Activation::ScaledTanh { alpha: 1.7, beta: -0.6 },
    ];

    /// Slopes in terms of the value against central differences, in f64; corners left out.
    #[test]
    fn slopes_are_derivatives() {
        for activation in ALL {
            let shape = activation.shape();
            for k in -400..400 {
                let x = f64::from(k) * 0.01 + 0.003_1;
                let step = 1e-6;
                let expected = (shape.of(x + step) - shape.of(x - step)) / (2.0 * step);
                let given = shape.slope(shape.of(x));
                assert!((given - expected).abs() < 1e-7, "{activation:?} at {x}: {given}, expected {expected}");
            }
        }
    }

    #[test]
    fn large_numbers_stay_finite() {
        for activation in ALL {
            for x in [-1e4f32, -90.0, 90.0, 1e4] {
                let y = activation.shape().of(x);
                assert!(y.is_finite() && activation.shape().slope(y).is_finite(), "{activation:?} at {x}");
            }
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let refused = |activation: Activation| activation.validate("the gate activation").unwrap_err().to_string();
        assert!(refused(Activation::Elu { alpha: -1.0 }).contains("at least 0"));
        assert!(refused(Activation::Affine { alpha: f32::NAN, beta: 0.0 }).contains("finite"));
        assert!(ALL.iter().all(|activation| activation.validate("").is_ok()));
    }
}
