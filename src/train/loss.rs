//! What training makes small.

use serde::{Deserialize, Serialize};

/// A loss, averaged over a batch.
///
/// ```
/// use wgpu_lstm::{Loss, Optimiser};
/// let loss = Loss::MeanSquaredError;
/// let optimiser = Optimiser::adam(1e-3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Mean of squares over all elements, as
    /// [`torch.nn.MSELoss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.MSELoss.html).
    MeanSquaredError,
    /// Mean of absolute values over all elements, as
    /// [`torch.nn.L1Loss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.L1Loss.html).
    MeanAbsoluteError,
    /// Cross-entropy between target probabilities [.., C] (one-hot, or summing to 1) and the softmax of the
    /// prediction, which holds logits (no activation on the last layer); mean over rows. As
    /// [`torch.nn.CrossEntropyLoss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html)
    /// with probabilities, or Keras's `CategoricalCrossentropy(from_logits=True)`.
    SoftmaxCrossEntropy,
}

impl Loss {
    /// All, in the order of the shader's numbers.
    pub const ALL: [Loss; 3] = [Loss::MeanSquaredError, Loss::MeanAbsoluteError, Loss::SoftmaxCrossEntropy];

    /// The shader's number.
    pub(crate) fn index(self) -> u32 {
        self as u32
    }

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Loss::MeanSquaredError => "mean squared error",
            Loss::MeanAbsoluteError => "mean absolute error",
            Loss::SoftmaxCrossEntropy => "softmax cross-entropy",
        }
    }

    /// How many terms the mean is over.
    pub(crate) fn terms(self, rows: u64, width: u64) -> f64 {
        match self {
            Loss::MeanSquaredError | Loss::MeanAbsoluteError => rows as f64 * width as f64,
            Loss::SoftmaxCrossEntropy => rows as f64,
        }
    }
}
