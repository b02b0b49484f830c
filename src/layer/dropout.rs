//! The dropout layer's configuration.

use serde::{Deserialize, Serialize};

/// In training, sets elements to 0 with a probability and scales the others so that the expected value stays; else it does
/// nothing. As [`torch.nn.Dropout`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout.html) and
/// [Keras's Dropout](https://keras.io/api/layers/regularization_layers/dropout/).
///
/// ```
/// use wgpu_lstm::{Dense, Dropout, Lstm, Sequential};
/// let model = Sequential::new(3).add(Lstm::new(16)).add(Dropout::new(0.3)).add(Dense::new(2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dropout {
    pub(crate) probability: f64,
}

impl Dropout {
    /// Drops with this probability, from 0 to below 1.
    pub fn new(probability: f64) -> Dropout {
        Dropout { probability }
    }
}
