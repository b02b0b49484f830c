//! Scores of classes.

use super::same_shape;
use crate::error::{Error, Result};
use crate::memory;
use crate::transfer::{finite, not_empty};
use ndarray::{Array2, ArrayD, ArrayView, Axis, Dimension, RemoveAxis, Zip};
use std::fmt;

/// The class of the highest score along the last axis (the first of equal ones): [.., C] to [..]. A last axis of 1 holds
/// logits of a single class, as [`Loss::BinaryCrossEntropy`](crate::Loss) takes them: 1 above 0, else 0.
///
/// # Errors
/// No elements; scores that are not finite.
///
/// ```
/// use ndarray::array;
/// let logits = array![[0.5f32, 2.0, -1.0], [3.0, 0.0, 0.5]];
/// assert_eq!(wgpu_lstm::metrics::classes(logits.view())?, array![1, 0].into_dyn());
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
pub fn classes<D: Dimension>(scores: ArrayView<f32, D>) -> Result<ArrayD<usize>> {
    not_empty("scores", "[.., C]", scores.shape())?;
    finite("scores", "its index", &scores)?;
    let scores = scores.into_dyn();
    if scores.ndim() == 0 {
        return Err(Error::Shape("scores is a single number; expected [.., C]".into()));
    }
    let highest = |row: ndarray::ArrayView1<f32>| match row.len() {
        1 => (row[0] > 0.0) as usize,
        _ => row.indexed_iter().fold(0, |best, (k, &score)| if score > row[best] { k } else { best }),
    };
    let last = Axis(scores.ndim() - 1);
    let shape = scores.raw_dim().remove_axis(last);
    memory::array_of(shape, scores.lanes(last).into_iter().map(highest), "classes")
}

/// Accuracy: the share of correct predictions.
///
/// # Errors
/// Shapes that differ; no elements.
///
/// ```
/// use ndarray::array;
/// assert_eq!(wgpu_lstm::metrics::accuracy(array![0, 1, 1, 2].view(), array![0, 1, 2, 2].view())?, 0.75);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
pub fn accuracy<D: Dimension, E: Dimension>(
    prediction: ArrayView<usize, D>,
    truth: ArrayView<usize, E>,
) -> Result<f64> {
    same_shape(prediction.shape(), truth.shape())?;
    let (prediction, truth) = (prediction.into_dyn(), truth.into_dyn());
    let right = Zip::from(&prediction).and(&truth).fold(0u64, |sum, p, t| sum + (p == t) as u64);
    Ok(right as f64 / truth.len() as f64)
}

/// Confusion matrix: number of samples by true class (row) and predicted class (column), as
/// [`sklearn.metrics.confusion_matrix`](https://scikit-learn.org/stable/modules/generated/sklearn.metrics.confusion_matrix.html).
///
/// ```
/// use ndarray::array;
/// use wgpu_lstm::metrics::ConfusionMatrix;
/// let matrix = ConfusionMatrix::new(array![0, 1, 1, 1].view(), array![0, 1, 0, 1].view(), 2)?;
/// assert_eq!(matrix.counts(), array![[1, 1], [0, 2]]);
/// assert_eq!((matrix.recall(0), matrix.precision(0)), (Some(0.5), Some(1.0)));
/// println!("{matrix}");
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfusionMatrix(Array2<u64>);

impl ConfusionMatrix {
    /// Counts the pairs of predicted and true classes, each from 0 to `classes` − 1.
    ///
    /// # Errors
    /// Shapes that differ; no elements; a class that is too high; more classes than there is memory for (8 bytes times their
    /// square).
    pub fn new<D: Dimension, E: Dimension>(
        prediction: ArrayView<usize, D>,
        truth: ArrayView<usize, E>,
        classes: usize,
    ) -> Result<ConfusionMatrix> {
        same_shape(prediction.shape(), truth.shape())?;
        if let Some(class) = prediction.iter().chain(truth.iter()).find(|&&class| class >= classes) {
            return Err(Error::Config(format!("class {class} is beyond the {classes} classes, which count from 0")));
        }
        let mut counts = memory::array((classes, classes), format_args!("a confusion matrix of {classes} classes"))?;
        for (&p, &t) in prediction.into_dyn().iter().zip(truth.into_dyn().iter()) {
            counts[[t, p]] += 1;
        }
        Ok(ConfusionMatrix(counts))
    }

    /// The counts [true class, predicted class].
    pub fn counts(&self) -> ndarray::ArrayView2<'_, u64> {
        self.0.view()
    }

    /// Accuracy: the share of correct predictions.
    pub fn accuracy(&self) -> f64 {
        self.0.diag().sum() as f64 / self.0.sum() as f64
    }

    /// Precision: TP / (TP + FP); `None` if nothing was predicted as this class, or if there is no such class.
    pub fn precision(&self, class: usize) -> Option<f64> {
        (class < self.0.nrows()).then(|| self.share(class, self.0.column(class).sum()))?
    }

    /// Recall: TP / (TP + FN); `None` if no sample is of this class, or if there is no such class.
    pub fn recall(&self, class: usize) -> Option<f64> {
        (class < self.0.nrows()).then(|| self.share(class, self.0.row(class).sum()))?
    }

    fn share(&self, class: usize, of: u64) -> Option<f64> {
        (of > 0).then(|| self.0[[class, class]] as f64 / of as f64)
    }
}

impl fmt::Display for ConfusionMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let classes = self.0.nrows();
        let widest = self.0.iter().copied().chain([classes as u64]).max().unwrap_or(0).to_string().len().max(4);
        write!(f, "true \\ predicted")?;
        for class in 0..classes {
            write!(f, " {class:>widest$}")?;
        }
        writeln!(f, " recall")?;
        let share = |share: Option<f64>| share.map_or_else(|| "-".into(), |share| format!("{share:.2}"));
        for (class, row) in self.0.rows().into_iter().enumerate() {
            write!(f, "{class:>16}")?;
            for count in row {
                write!(f, " {count:>widest$}")?;
            }
            writeln!(f, " {:>6}", share(self.recall(class)))?;
        }
        write!(f, "{:>16}", "precision")?;
        for class in 0..classes {
            write!(f, " {:>widest$}", share(self.precision(class)))?;
        }
        write!(f, " {:>6.2}", self.accuracy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, array};

    /// Counts, accuracy, precision and recall computed by scikit-learn 1.9.1.
    #[test]
    fn counts_are_scikit_learns() {
        let (p, t) = (array![0, 1, 2, 2, 1, 0, 2, 1], array![0, 2, 2, 2, 1, 0, 1, 1]);
        let matrix = ConfusionMatrix::new(p.view(), t.view(), 3).unwrap();
        assert_eq!(matrix.counts(), array![[2, 0, 0], [0, 2, 1], [0, 1, 2]]);
        assert_eq!((matrix.accuracy(), accuracy(p.view(), t.view()).unwrap()), (0.75, 0.75));
        let shares = [Some(1.0), Some(2.0 / 3.0), Some(2.0 / 3.0)];
        assert_eq!([0, 1, 2].map(|class| matrix.precision(class)), shares);
        assert_eq!([0, 1, 2].map(|class| matrix.recall(class)), shares);
        assert_eq!(matrix.recall(3), None);
        let wide = ConfusionMatrix::new(p.view(), t.view(), 4).unwrap();
        assert_eq!((wide.precision(3), wide.recall(3)), (None, None));
        assert_eq!(
            matrix.to_string(),
            "true \\ predicted    0    1    2 recall\n               0    2    0    0   1.00\n               \
             1    0    2    1   0.67\n               2    0    1    2   0.67\n       precision 1.00 0.67 0.67   0.75"
        );
    }

    #[test]
    fn single_logits_are_two_classes() {
        assert_eq!(classes(array![[0.5f32], [-0.5], [0.0]].view()).unwrap(), array![1, 0, 0].into_dyn());
        assert_eq!(classes(array![[[1.0f32, 1.0], [0.0, 2.0]]].view()).unwrap(), array![[0, 1]].into_dyn());
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        let text = |error: Error| error.to_string();
        assert!(text(accuracy(array![1].view(), array![1, 2].view()).unwrap_err()).contains("[1], the truth [2]"));
        let none = Array1::<usize>::zeros(0);
        assert!(text(accuracy(none.view(), none.view()).unwrap_err()).contains("empty"));
        let high = ConfusionMatrix::new(array![0].view(), array![2].view(), 2).unwrap_err();
        assert!(text(high).contains("class 2 is beyond the 2 classes"));
        assert!(text(classes(array![[f32::NAN, 0.0]].view()).unwrap_err()).contains("NaN"));
        assert!(text(classes(ndarray::arr0(1.0f32).view()).unwrap_err()).contains("[.., C]"));
    }
}
