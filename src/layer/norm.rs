//! The layer normalisation's configuration.

use serde::{Deserialize, Serialize};

/// Brings the features of every step to mean 0 and variance 1, then scales and shifts them by learned numbers (Ba, Kiros and
/// Hinton 2016). As [`torch.nn.LayerNorm`](https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html) over the last
/// axis; parameters `weight` (1 at first) and `bias` (0 at first), each `[F]`.
///
/// ```
/// use wgpu_lstm::{Dense, LayerNorm, Lstm, Sequential};
/// let model = Sequential::new(3).add(Lstm::new(16)).add(LayerNorm::new()).add(Dense::new(2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerNorm {
    pub(crate) epsilon: f32,
}

impl Default for LayerNorm {
    fn default() -> Self {
        LayerNorm { epsilon: 1e-5 }
    }
}

impl LayerNorm {
    /// With PyTorch's ε of 1e-5.
    pub fn new() -> LayerNorm {
        LayerNorm::default()
    }

    /// With the ε of 1e-3 of [Keras's
    /// LayerNormalization](https://keras.io/api/layers/normalization_layers/layer_normalization/).
    ///
    /// ```
    /// use wgpu_lstm::LayerNorm;
    /// assert_eq!(LayerNorm::keras(), LayerNorm::new().epsilon(1e-3));
    /// ```
    pub fn keras() -> LayerNorm {
        LayerNorm { epsilon: 1e-3 }
    }

    /// What is added to the variance; above 0.
    pub fn epsilon(self, epsilon: f32) -> LayerNorm {
        LayerNorm { epsilon }
    }
}
