//! Sliding windows over a series.

use crate::error::{Error, Result};
use crate::memory;
use ndarray::{Array2, Array3, ArrayView2, s};

/// Cuts a series into pairs of what is known and what follows. Numbers stay as they are: of a scaled series, f32, the windows are
/// what a model takes; of the series itself, f64, `y` is the truth in its own unit.
///
/// ```
/// use ndarray::Array2;
/// use wgpu_lstm::data::Windows;
/// let series = Array2::from_shape_fn((6, 1), |(t, _)| t as f32); // [time, features]
/// let windows = Windows::new(3, 2).cut(series.view())?;
/// assert_eq!(windows.x.slice(ndarray::s![0, .., 0]).to_vec(), [0.0, 1.0, 2.0]);
/// assert_eq!(windows.y.row(0).to_vec(), [3.0, 4.0]);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Windows {
    lookback: usize,
    horizon: usize,
    targets: Option<Vec<usize>>,
    stride: usize,
}

/// Windows of a series; those of f32 are ready for [`Model::fit`](crate::Model::fit).
#[derive(Clone, Debug, PartialEq)]
pub struct Windowed<A = f32> {
    /// Inputs, [N, lookback, features].
    pub x: Array3<A>,
    /// Targets, [N, horizon · targets]: all targets of the first step, then of the second, ...
    pub y: Array2<A>,
    /// For each window, the time of the first step that follows.
    pub first: Vec<usize>,
}

impl Windows {
    /// Windows of `lookback` known steps and `horizon` steps to forecast, one starting at every step, all features
    /// being targets.
    pub fn new(lookback: usize, horizon: usize) -> Windows {
        Windows { lookback, horizon, targets: None, stride: 1 }
    }

    /// Forecasts only these features.
    pub fn target(self, targets: &[usize]) -> Windows {
        Windows { targets: Some(targets.to_vec()), ..self }
    }

    /// Steps between the starts of two windows.
    pub fn stride(self, stride: usize) -> Windows {
        Windows { stride, ..self }
    }

    /// Cuts a series [time, features].
    ///
    /// # Errors
    /// A size of 0, a target that does not exist, a series shorter than lookback + horizon, more windows than there is
    /// memory for.
    pub fn cut<A: Copy>(&self, series: ArrayView2<A>) -> Result<Windowed<A>> {
        let (time, features) = series.dim();
        let (lookback, horizon) = (self.lookback, self.horizon);
        for (what, value) in
            [("lookback", lookback), ("horizon", horizon), ("stride", self.stride), ("number of features", features)]
        {
            if value == 0 {
                return Err(Error::Config(format!("the {what} is 0; it must be at least 1")));
            }
        }
        let targets = self.targets.clone().unwrap_or_else(|| (0..features).collect());
        if targets.is_empty() || targets.iter().any(|&target| target >= features) {
            return Err(Error::Config(format!("targets {targets:?} of a series with features 0 to {}", features - 1)));
        }
        let needed = lookback.saturating_add(horizon);
        if time < needed {
            return Err(Error::Shape(format!(
                "the series has {time} steps; lookback {lookback} + horizon {horizon} need at least {needed}"
            )));
        }
        let starts = (lookback..time - horizon + 1).step_by(self.stride);
        let count = starts.len();
        let first = memory::collect(count, starts, "the windows' times")?;
        let (series, targets) = (&series, &targets);
        let shape = (count, lookback, features);
        let known = first.iter().flat_map(|&at| (at - lookback..at).flat_map(|t| series.row(t)).copied());
        let x = memory::array_of(shape, known, format_args!("windows x of shape {shape:?}"))?;
        let shape = (count, horizon.saturating_mul(targets.len()));
        let follows = first
            .iter()
            .flat_map(|&at| (at..at + horizon).flat_map(|t| targets.iter().map(move |&target| series[[t, target]])));
        let y = memory::array_of(shape, follows, format_args!("windows y of shape {shape:?}"))?;
        Ok(Windowed { x, y, first })
    }
}

/// The series without its last `test` rows, and these.
///
/// # Errors
/// A test part of 0 rows, or one that leaves nothing to train on.
pub fn chronological_split<A>(
    series: ArrayView2<'_, A>,
    test: usize,
) -> Result<(ArrayView2<'_, A>, ArrayView2<'_, A>)> {
    let rows = series.nrows();
    if test == 0 || test >= rows {
        return Err(Error::Config(format!(
            "{test} of {rows} rows cannot be held out; leave at least one on each side"
        )));
    }
    Ok((series.slice_move(s![..rows - test, ..]), series.slice_move(s![rows - test.., ..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_what_is_known_and_what_follows() {
        let series = Array2::from_shape_fn((10, 3), |(t, f)| (10 * f + t) as f32);
        let cut = Windows::new(4, 2).target(&[2, 0]).stride(2).cut(series.view()).unwrap();
        assert_eq!(cut.x.dim(), (3, 4, 3));
        assert_eq!(cut.first, [4, 6, 8]);
        assert_eq!(cut.x[[1, 0, 1]], 12.0);
        assert_eq!(cut.y.row(1).to_vec(), [26.0, 6.0, 27.0, 7.0]);
        assert_eq!(cut.y.row(2).to_vec(), [28.0, 8.0, 29.0, 9.0]);
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        let series = Array2::<f64>::zeros((5, 1));
        let error = Windows::new(4, 2).cut(series.view()).unwrap_err().to_string();
        assert_eq!(error, "the series has 5 steps; lookback 4 + horizon 2 need at least 6");
        assert!(Windows::new(0, 2).cut(series.view()).is_err());
        assert!(Windows::new(1, 1).target(&[1]).cut(series.view()).is_err());
        assert!(Windows::new(usize::MAX, 2).cut(series.view()).is_err());
        assert!(chronological_split(series.view(), 5).is_err());
        assert_eq!(chronological_split(series.view(), 2).unwrap().1.nrows(), 2);
    }
}
