//! From a sequence to one vector.

use serde::{Deserialize, Serialize};

/// Takes one vector [B, F] from a sequence [B, T, F], of the steps that each sequence has unless said otherwise.
///
/// ```
/// use wgpu_lstm::{Dense, Lstm, Pool, Sequential};
/// let model = Sequential::new(3).add(Lstm::new(16).return_sequences(true)).add(Pool::Max).add(Dense::new(2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Pool {
    /// The last step.
    Last,
    /// The mean over time, as
    /// [Keras's GlobalAveragePooling1D](https://keras.io/api/layers/pooling_layers/global_average_pooling1d/) with a mask.
    Mean,
    /// The largest over time, as
    /// [Keras's GlobalMaxPooling1D](https://keras.io/api/layers/pooling_layers/global_max_pooling1d/) without a mask.
    Max,
    /// The largest over all T steps of the batch, those past the end of a sequence, too: what Keras's GlobalMaxPooling1D, which
    /// sees no mask, gives of masked sequences. There, layers give what they make of padding
    /// ([`Lstm::repeat_output`](crate::Lstm::repeat_output)).
    MaxWithPadding,
    /// The sum over time; `x.sum(dim=1)` in PyTorch.
    Sum,
}

impl Pool {
    /// The shaders' number, and whether lengths of sequences count.
    pub(crate) fn kernel(self) -> (u32, bool) {
        match self {
            Pool::Last => (0, true),
            Pool::Mean => (1, true),
            Pool::Max => (2, true),
            Pool::MaxWithPadding => (2, false),
            Pool::Sum => (3, true),
        }
    }

    /// The name, for summaries.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Pool::Last => "last",
            Pool::Mean => "mean",
            Pool::Max => "max",
            Pool::MaxWithPadding => "max with padding",
            Pool::Sum => "sum",
        }
    }
}
