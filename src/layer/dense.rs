//! The dense layer's configuration.

use super::Init;
use crate::activation::Activation;
use serde::{Deserialize, Serialize};

/// A fully connected layer: y = activation(x·Wᵀ + b), on the last axis: [B, F] to [B, units], [B, T, F] to
/// [B, T, units]. As [`torch.nn.Linear`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html) and
/// [Keras's Dense](https://keras.io/api/layers/core_layers/dense/).
///
/// ```
/// use wgpu_lstm::{Dense, Lstm, Sequential};
/// let model = Sequential::new(3).add(Lstm::new(16)).add(Dense::new(2));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dense {
    pub(crate) units: usize,
    pub(crate) bias: bool,
    pub(crate) activation: Activation,
    pub(crate) init: Init,
}

impl Dense {
    /// `units` outputs, with a bias, no activation, initialised as PyTorch does.
    pub fn new(units: usize) -> Dense {
        Dense { units, bias: true, activation: Activation::Linear, init: Init::PyTorch }
    }

    /// The same, initialised as Keras does (Glorot uniform, bias 0).
    pub fn keras(units: usize) -> Dense {
        Dense { init: Init::Keras, ..Dense::new(units) }
    }

    /// Whether a bias is added.
    pub fn bias(self, bias: bool) -> Dense {
        Dense { bias, ..self }
    }

    /// What follows the sum.
    pub fn activation(self, activation: Activation) -> Dense {
        Dense { activation, ..self }
    }

    /// How the weights start.
    pub fn init(self, init: Init) -> Dense {
        Dense { init, ..self }
    }
}
