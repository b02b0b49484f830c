//! Scores of predictions, as pure functions of arrays. Those of numbers take f32 and f64; sums are taken in f64.
//!
//! ```
//! use ndarray::array;
//! use wgpu_lstm::metrics;
//! let (prediction, truth) = (array![[1.5f32], [2.0]], array![[1.0f32], [2.5]]);
//! assert_eq!(metrics::mae(prediction.view(), truth.view())?, 0.5);
//! let classes = metrics::classes(array![[0.1f32, 2.0, -1.0], [3.0, 0.0, 0.5]].view())?; // of scores [N, C]
//! assert_eq!(metrics::accuracy(classes.view(), array![1, 2].view())?, 0.5);
//! # Ok::<(), wgpu_lstm::Error>(())
//! ```

mod classification;
mod regression;

pub use classification::{ConfusionMatrix, accuracy, classes};
pub use regression::{mae, mape, mase, pinball, r2, rmse, smape};

use crate::error::{Error, Result};
use crate::transfer::not_empty;

/// Refuses a prediction and a truth of different shapes, or of no elements.
fn same_shape(prediction: &[usize], truth: &[usize]) -> Result<()> {
    if prediction != truth {
        return Err(Error::Shape(format!(
            "the prediction has shape {prediction:?}, the truth {truth:?}; they must be the same"
        )));
    }
    not_empty("the prediction", "of every axis", prediction)
}
