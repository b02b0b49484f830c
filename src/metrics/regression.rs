//! Scores of numbers.

use super::same_shape;
use crate::error::{Error, Result};
use crate::transfer::finite_numbers;
use ndarray::{ArrayView, ArrayView1, Axis, Dimension, Zip};

/// Mean of a function of (prediction, truth).
fn mean<D: Dimension, E: Dimension>(
    prediction: ArrayView<impl Into<f64> + Copy, D>,
    truth: ArrayView<impl Into<f64> + Copy, E>,
    term: impl Fn(f64, f64) -> f64,
) -> Result<f64> {
    same_shape(prediction.shape(), truth.shape())?;
    finite_numbers("the prediction", "its index", &prediction)?;
    finite_numbers("the truth", "its index", &truth)?;
    let (prediction, truth) = (prediction.into_dyn(), truth.into_dyn());
    let count = truth.len() as f64;
    Ok(Zip::from(&prediction).and(&truth).fold(0.0, |sum, &p, &t| sum + term(p.into(), t.into())) / count)
}

/// Root mean squared error (RMSE) over all elements, in units of the truth.
///
/// # Errors
/// Shapes that differ, no elements, numbers that are not finite: as for all scores here.
///
/// ```
/// use ndarray::array;
/// let (prediction, truth) = (array![1.0f32, 5.0], array![2.0f32, -2.0]);
/// assert_eq!(wgpu_lstm::metrics::rmse(prediction.view(), truth.view())?, 5.0);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
pub fn rmse<D: Dimension, E: Dimension>(
    prediction: ArrayView<impl Into<f64> + Copy, D>,
    truth: ArrayView<impl Into<f64> + Copy, E>,
) -> Result<f64> {
    let squares = |unit: f64| mean(prediction.view(), truth.view(), |p, t| ((p - t) / unit).powi(2));
    let plain = squares(1.0)?;
    if plain.is_normal() {
        return Ok(plain.sqrt());
    }
    // Squares that overflow or vanish are taken in units of the mean absolute error.
    let unit = mae(prediction.view(), truth.view())?;
    if unit.is_normal() { Ok(squares(unit)?.sqrt() * unit) } else { Ok(unit) }
}

/// Mean absolute error (MAE) over all elements, in units of the truth.
///
/// # Errors
/// As [`rmse`].
///
/// ```
/// use ndarray::array;
/// let (prediction, truth) = (array![1.0f32, 5.0], array![2.0f32, -2.0]);
/// assert_eq!(wgpu_lstm::metrics::mae(prediction.view(), truth.view())?, 4.0);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
pub fn mae<D: Dimension, E: Dimension>(
    prediction: ArrayView<impl Into<f64> + Copy, D>,
    truth: ArrayView<impl Into<f64> + Copy, E>,
) -> Result<f64> {
    mean(prediction, truth, |p, t| (p - t).abs())
}

/// Mean absolute percentage error (MAPE), the mean of |error| / |truth|: 0.1 is ten per cent.
///
/// # Errors
/// As [`rmse`]; a truth of 0, for which it has no meaning.
///
/// ```
/// use ndarray::array;
/// let (prediction, truth) = (array![1.5f32, 6.0], array![2.0f32, 4.0]);
/// assert_eq!(wgpu_lstm::metrics::mape(prediction.view(), truth.view())?, 0.375);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
pub fn mape<D: Dimension, E: Dimension>(
    prediction: ArrayView<impl Into<f64> + Copy, D>,
    truth: ArrayView<impl Into<f64> + Copy, E>,
) -> Result<f64> {
    if let Some((at, _)) = truth.view().into_dyn().indexed_iter().find(|&(_, &t)| t.into() == 0.0) {
        return Err(Error::Config(format!(
            "the truth is 0 at {:?}, where an error has no percentage; use smape or mase",
            at.as_array_view().to_vec()
        )));
    }
    mean(prediction, truth, |p, t| (p - t).abs() / t.abs())
}

/// Symmetric MAPE, the mean of 2·|error| / (|prediction| + |truth|), from 0 to 2; where both are 0 there is no error. As in the M4
/// competition (Makridakis et al. 2020), which multiplies it by 100.
///
/// # Errors
/// As [`rmse`].
///
/// ```
/// use ndarray::array;
/// let (prediction, truth) = (array![3.0f32, 0.0], array![1.0f32, 0.0]);
/// assert_eq!(wgpu_lstm::metrics::smape(prediction.view(), truth.view())?, 0.5);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
pub fn smape<D: Dimension, E: Dimension>(
    prediction: ArrayView<impl Into<f64> + Copy, D>,
    truth: ArrayView<impl Into<f64> + Copy, E>,
) -> Result<f64> {
    let term = |p: f64, t: f64| if p == t { 0.0 } else { 2.0 * (p - t).abs() / (p.abs() + t.abs()) };
    mean(prediction, truth, term)
}

/// Mean absolute error over that of the naive forecast on the data trained on, `history`, which says that each value is
/// the one `season` steps before (Hyndman and Koehler 2006). Below 1 is better than naive.
///
/// # Errors
/// As [`rmse`]; a season of 0, a history that is not longer than it, or one that the naive forecast has without error.
///
/// ```
/// use ndarray::array;
/// let history = array![1.0f32, 3.0, 5.0]; // naive errors of 2
/// let (prediction, truth) = (array![8.0f32], array![7.0f32]);
/// assert_eq!(wgpu_lstm::metrics::mase(prediction.view(), truth.view(), history.view(), 1)?, 0.5);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
pub fn mase<D: Dimension, E: Dimension>(
    prediction: ArrayView<impl Into<f64> + Copy, D>,
    truth: ArrayView<impl Into<f64> + Copy, E>,
    history: ArrayView1<impl Into<f64> + Copy>,
    season: usize,
) -> Result<f64> {
    if season == 0 || history.len() <= season {
        return Err(Error::Config(format!(
            "the history has {} values for a season of {season}; the season must be at least 1 and the history longer",
            history.len()
        )));
    }
    let (before, after) = (history.slice(ndarray::s![..-(season as isize)]), history.slice(ndarray::s![season..]));
    let naive = mae(before, after)?;
    if naive == 0.0 {
        return Err(Error::Config(format!(
            "the history repeats itself every {season} steps, so the naive forecast has no error to compare with"
        )));
    }
    Ok(mae(prediction, truth)? / naive)
}

/// Coefficient of determination, 1 − Σ error² / Σ (truth − its mean)², for each index of the last axis and averaged over
/// them; 1 is perfect, 0 as good as the mean. As
/// [`sklearn.metrics.r2_score`](https://scikit-learn.org/stable/modules/generated/sklearn.metrics.r2_score.html). A
/// single axis is a single output.
///
/// # Errors
/// As [`rmse`]; a truth that does not vary, for which it has no meaning.
///
/// ```
/// use ndarray::array;
/// let truth = array![1.0f32, 2.0, 3.0];
/// assert_eq!(wgpu_lstm::metrics::r2(truth.view(), truth.view())?, 1.0);
/// assert_eq!(wgpu_lstm::metrics::r2(array![2.0f32, 2.0, 2.0].view(), truth.view())?, 0.0);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
pub fn r2<D: Dimension, E: Dimension>(
    prediction: ArrayView<impl Into<f64> + Copy, D>,
    truth: ArrayView<impl Into<f64> + Copy, E>,
) -> Result<f64> {
    same_shape(prediction.shape(), truth.shape())?;
    let (mut prediction, mut truth) = (prediction.into_dyn(), truth.into_dyn());
    if truth.ndim() < 2 {
        (prediction, truth) =
            (prediction.insert_axis(Axis(truth.ndim())), truth.clone().insert_axis(Axis(truth.ndim())));
    }
    let last = Axis(truth.ndim() - 1);
    let mut sum = 0.0;
    for (index, (p, t)) in prediction.axis_iter(last).zip(truth.axis_iter(last)).enumerate() {
        // Relative to the first value, so that a truth that does not vary has a spread of exactly 0
        let first: f64 = t.iter().next().map_or(0.0, |&t| t.into());
        let middle = mean(t.view(), t.view(), |t, _| t - first)?;
        let spread = mean(t.view(), t.view(), |t, _| (t - first - middle).powi(2))?;
        if spread == 0.0 {
            return Err(Error::Config(format!(
                "the truth of output {index} is always {first}; R² has no meaning for it"
            )));
        }
        sum += 1.0 - mean(p, t, |p, t| (p - t) * (p - t))? / spread;
    }
    Ok(sum / truth.len_of(last) as f64)
}

/// Mean of max(q·e, (q − 1)·e) with e = truth − prediction: how good a prediction of the quantile q is, in units of the
/// truth. As [`sklearn.metrics.mean_pinball_loss`](https://scikit-learn.org/stable/modules/generated/sklearn.metrics.mean_pinball_loss.html).
///
/// # Errors
/// As [`rmse`]; a quantile that is not above 0 and below 1.
///
/// ```
/// use ndarray::array;
/// let (prediction, truth) = (array![1.0f32, 3.0], array![2.0f32, 2.0]);
/// assert_eq!(wgpu_lstm::metrics::pinball(prediction.view(), truth.view(), 0.75)?, 0.5); // ¾ below, ¼ above
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
pub fn pinball<D: Dimension, E: Dimension>(
    prediction: ArrayView<impl Into<f64> + Copy, D>,
    truth: ArrayView<impl Into<f64> + Copy, E>,
    quantile: f64,
) -> Result<f64> {
    if !(quantile > 0.0 && quantile < 1.0) {
        return Err(Error::Config(format!("the quantile is {quantile}; it must be above 0 and below 1")));
    }
    mean(prediction, truth, |p, t| (quantile * (t - p)).max((quantile - 1.0) * (t - p)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, Array2, array};

    fn pair() -> (Array2<f32>, Array2<f32>) {
        (array![[1.5, -2.0], [0.25, 3.0], [4.0, 0.5]], array![[1.0, -1.0], [0.5, 2.0], [5.0, 1.0]])
    }

    /// Computed by scikit-learn 1.9.1 from the same numbers; sMAPE and MASE by NumPy from their definitions.
    #[test]
    fn scores_are_scikit_learns() {
        let (p, t) = pair();
        let history = array![3.0, 5.0, 4.0, 7.0, 6.0, 9.0];
        let column = || (p.column(0), t.column(0));
        for (given, expected) in [
            (rmse(p.view(), t.view()), 0.770551750371122),
            (mae(p.view(), t.view()), 0.7083333333333334),
            (mape(p.view(), t.view()), 0.5333333333333333),
            (smape(p.view(), t.view()), 0.5037037037037037),
            (r2(p.view(), t.view()), 0.7049902152641878),
            (pinball(p.view(), t.view(), 0.9), 0.4375),
            (mase(column().0, column().1, history.view(), 1), 0.2916666666666667),
            (mase(column().0, column().1, history.view(), 2), 0.33333333333333337),
        ] {
            let given = given.unwrap();
            assert!((given - expected).abs() < 1e-12, "{given}, expected {expected}");
        }
    }

    #[test]
    fn numbers_of_f64_are_not_rounded() {
        let truth = array![1e12, 1e12 + 1.0]; // one and the same as f32
        assert_eq!(rmse(array![1e12 + 3.0, 1e12 + 5.0].view(), truth.view()).unwrap(), 12.5f64.sqrt());
        assert_eq!(mae(array![1e12f32, 1e12].view(), truth.view()).unwrap(), 4096.5); // 1e12 as f32 is 1e12 - 4,096
        for size in [1e-200, 1e200] {
            let error = rmse(array![3.0 * size, 0.0].view(), array![0.0, 4.0 * size].view()).unwrap();
            assert!((error / size - 12.5f64.sqrt()).abs() < 1e-12, "{error:e}");
        }
        assert_eq!(rmse(truth.view(), truth.view()).unwrap(), 0.0);
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        let (p, t) = pair();
        let says = |result: Result<f64>, part: &str| {
            let text = result.unwrap_err().to_string();
            assert!(text.contains(part), "{text}");
        };
        says(rmse(p.view(), t.slice(ndarray::s![..2, ..])), "[3, 2], the truth [2, 2]");
        says(mae(Array1::<f32>::zeros(0).view(), Array1::<f64>::zeros(0).view()), "empty");
        says(mae(array![f32::NAN].view(), array![1.0].view()), "NaN");
        says(mape(array![1.0, 1.0].view(), array![1.0, 0.0].view()), "0 at [1]");
        says(r2(p.view(), Array2::from_elem((3, 2), 0.1).view()), "output 0 is always 0.1");
        for quantile in [0.0, 1.0, f64::NAN] {
            says(pinball(p.view(), t.view(), quantile), "above 0 and below 1");
        }
        says(mase(p.view(), t.view(), array![1.0, 2.0].view(), 2), "2 values for a season of 2");
        says(mase(p.view(), t.view(), array![1.0, 2.0].view(), 0), "season");
        says(mase(p.view(), t.view(), array![2.0, 2.0].view(), 1), "repeats itself");
    }
}
