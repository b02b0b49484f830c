//! Loss functions.

use crate::error::{Error, Result};
use crate::kernel::LossKind;
use ndarray::ArrayView3;
use serde::{Deserialize, Serialize};

/// A loss, averaged over a batch. F is the number of features of the target, C the number of classes.
///
/// ```
/// use wgpu_lstm::Loss;
/// let loss = Loss::Huber { delta: 1.0 };
/// let bands = Loss::Quantile { quantiles: vec![0.1, 0.5, 0.9] };
/// assert_eq!(bands.target_width(6)?, 2); // a prediction of 6 holds 3 quantiles of 2 features
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Loss {
    /// Mean of squares over all elements, as
    /// [`torch.nn.MSELoss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.MSELoss.html).
    MeanSquaredError,
    /// Mean of absolute values over all elements, as
    /// [`torch.nn.L1Loss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.L1Loss.html).
    MeanAbsoluteError,
    /// Half the square of errors up to `delta`, and a straight line beyond; mean over all elements. As
    /// [`torch.nn.HuberLoss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.HuberLoss.html) and
    /// [`keras.losses.Huber`](https://keras.io/api/losses/regression_losses/#huber-class), whose defaults are 1.
    Huber {
        /// The error at which the loss becomes linear, in units of the target; finite and above 0.
        delta: f32,
    },
    /// Pinball loss of several quantiles at once: max(q·e, (q − 1)·e) with e = target − prediction (Koenker and Bassett
    /// 1978). The prediction is [.., F·Q], the Q quantiles of a feature side by side; the target is [.., F]. Mean over
    /// all F·Q terms. As [`sklearn.metrics.mean_pinball_loss`](https://scikit-learn.org/stable/modules/generated/sklearn.metrics.mean_pinball_loss.html)
    /// for each quantile.
    Quantile {
        /// The quantiles, each above 0 and below 1.
        quantiles: Vec<f32>,
    },
    /// Cross-entropy between target probabilities (0 to 1) and the sigmoid of the prediction, which holds logits (no
    /// activation on the last layer); mean over all elements. As
    /// [`torch.nn.BCEWithLogitsLoss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html), or
    /// Keras's `BinaryCrossentropy(from_logits=True)`.
    BinaryCrossEntropy,
    /// Cross-entropy between target probabilities [.., C] (one-hot, or summing to 1) and the softmax of the
    /// prediction, which holds logits (no activation on the last layer); mean over rows. As
    /// [`torch.nn.CrossEntropyLoss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html)
    /// with probabilities, or Keras's `CategoricalCrossentropy(from_logits=True)`.
    SoftmaxCrossEntropy,
    /// [`Loss::SoftmaxCrossEntropy`] for a target [.., 1] that holds the class, counted from 0, as a whole number; the
    /// prediction is [.., C]. As
    /// [`torch.nn.CrossEntropyLoss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html)
    /// with classes, or Keras's `SparseCategoricalCrossentropy(from_logits=True)`.
    SparseSoftmaxCrossEntropy,
    /// Negative logarithm of a normal density, without its constant: ½·(log var + (target − mean)² / var), var at least
    /// 1e-6; mean over the F terms. The prediction is [.., 2·F]: F means, then F logarithms of variances. As
    /// [`torch.nn.GaussianNLLLoss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.GaussianNLLLoss.html) with
    /// `full=False` and var = exp(second half); as there, a variance below the least still has a gradient.
    GaussianNll,
}

impl Loss {
    /// The kernel's setting.
    pub(crate) fn kernel(&self) -> LossKind {
        match self {
            Loss::MeanSquaredError => LossKind::Squared,
            Loss::MeanAbsoluteError => LossKind::Absolute,
            Loss::Huber { .. } => LossKind::Huber,
            Loss::Quantile { .. } => LossKind::Quantile,
            Loss::BinaryCrossEntropy => LossKind::Binary,
            Loss::SoftmaxCrossEntropy => LossKind::Softmax,
            Loss::SparseSoftmaxCrossEntropy => LossKind::SparseSoftmax,
            Loss::GaussianNll => LossKind::Gaussian,
        }
    }

    /// Name for people.
    pub fn name(&self) -> &'static str {
        match self {
            Loss::MeanSquaredError => "mean squared error",
            Loss::MeanAbsoluteError => "mean absolute error",
            Loss::Huber { .. } => "Huber",
            Loss::Quantile { .. } => "quantile",
            Loss::BinaryCrossEntropy => "binary cross-entropy",
            Loss::SoftmaxCrossEntropy => "softmax cross-entropy",
            Loss::SparseSoftmaxCrossEntropy => "sparse softmax cross-entropy",
            Loss::GaussianNll => "Gaussian negative log-likelihood",
        }
    }

    /// The quantiles, or Huber's δ: what the kernel is given beside the prediction and the target.
    pub(crate) fn levels(&self) -> &[f32] {
        match self {
            Loss::Huber { delta } => std::slice::from_ref(delta),
            Loss::Quantile { quantiles } => quantiles,
            _ => &[],
        }
    }

    /// True if the prediction holds logits, which an activation would spoil.
    pub(crate) fn takes_logits(&self) -> bool {
        matches!(self, Loss::BinaryCrossEntropy | Loss::SoftmaxCrossEntropy | Loss::SparseSoftmaxCrossEntropy)
    }

    /// Features of the target for a prediction of `prediction` features.
    ///
    /// # Errors
    /// A prediction whose features cannot be shared out among quantiles, or among means and variances.
    pub fn target_width(&self, prediction: usize) -> Result<usize> {
        let parts = match self {
            Loss::SparseSoftmaxCrossEntropy => return Ok(1),
            Loss::Quantile { quantiles } => quantiles.len(),
            Loss::GaussianNll => 2,
            _ => 1,
        };
        if parts == 0 || !prediction.is_multiple_of(parts) {
            return Err(Error::Config(format!(
                "the {} loss needs {parts} outputs for each feature of the target; the model has {prediction} outputs, \
                 which is no multiple of {parts}",
                self.name()
            )));
        }
        Ok(prediction / parts)
    }

    /// Number of terms that the mean is over, for predictions of `width` features.
    pub(crate) fn terms(&self, rows: u64, width: u64) -> f64 {
        let of_a_row = match self {
            Loss::SoftmaxCrossEntropy | Loss::SparseSoftmaxCrossEntropy => 1.0,
            Loss::GaussianNll => width as f64 / 2.0,
            _ => width as f64,
        };
        rows as f64 * of_a_row
    }

    /// Refuses settings out of range.
    pub(crate) fn validate(&self) -> Result<()> {
        match self {
            Loss::Huber { delta } if !(*delta > 0.0 && delta.is_finite()) => {
                Err(Error::Config(format!("delta of the Huber loss is {delta}; it must be finite and above 0")))
            }
            Loss::Quantile { quantiles } if quantiles.is_empty() => {
                Err(Error::Config("the quantile loss has no quantile; give at least one, above 0 and below 1".into()))
            }
            Loss::Quantile { quantiles } => match quantiles.iter().find(|&&q| !(q > 0.0 && q < 1.0)) {
                Some(q) => Err(Error::Config(format!("a quantile is {q}; it must be above 0 and below 1"))),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Refuses targets [N, T, F] that the loss has no meaning for: classes that the prediction does not have, numbers that
    /// are no probabilities.
    pub(crate) fn check_target(&self, name: &str, target: &ArrayView3<f32>, prediction: usize) -> Result<()> {
        let (expected, good): (String, Box<dyn Fn(f32) -> bool>) = match self {
            Loss::SparseSoftmaxCrossEntropy => (
                format!("a class, which is a whole number from 0 to {}", prediction - 1),
                Box::new(move |t| t >= 0.0 && t < prediction as f32 && t.fract() == 0.0),
            ),
            Loss::BinaryCrossEntropy | Loss::SoftmaxCrossEntropy => {
                ("a probability, from 0 to 1".into(), Box::new(|t| (0.0..=1.0).contains(&t)))
            }
            _ => return Ok(()),
        };
        match target.indexed_iter().find(|&(_, &t)| !good(t)) {
            None => Ok(()),
            Some(((n, t, f), value)) => Err(Error::Config(format!(
                "{name} holds {value} at [sequence, step, feature] = [{n}, {t}, {f}]; the {} loss expects {expected}",
                self.name()
            ))),
        }
    }
}
