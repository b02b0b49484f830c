//! From a sequence to one vector.

use serde::{Deserialize, Serialize};

/// Takes one vector [B, F] from a sequence [B, T, F], of the steps that each sequence has.
///
/// ```
/// use wgpu_lstm::{Dense, Lstm, Pool, Sequential};
/// let model = Sequential::new(3).add(Lstm::new(16).return_sequences(true)).add(Pool::Max).add(Dense::new(2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// The last step.
    Last,
    /// The mean over time, as
    /// [Keras's GlobalAveragePooling1D](https://keras.io/api/layers/pooling_layers/global_average_pooling1d/) with a mask.
    Mean,
    /// The largest over time, as
    /// [Keras's GlobalMaxPooling1D](https://keras.io/api/layers/pooling_layers/global_max_pooling1d/).
    Max,
    /// The sum over time; `x.sum(dim=1)` in PyTorch.
    Sum,
}
