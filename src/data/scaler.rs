//! Scaling features to the range that training likes.

use crate::error::{Error, Result};
use crate::memory;
use crate::transfer::finite_numbers;
use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

/// Per feature: scaled = (value − shift) / scale. Fit it on the training part only; save it with the model
/// ([`Model::set_extra`](crate::Model::set_extra)).
///
/// Series are f32 or f64 (anything that is exactly an f64). Shift, scale and inverted values are f64, and a value becomes f32,
/// as networks take it, only when it is scaled: values of 10¹² that differ by 1 stay different.
///
/// ```
/// use ndarray::array;
/// use wgpu_lstm::data::Scaler;
/// let train = array![[1.0, 1e12], [3.0, 1e12 + 20.0]]; // [time, features]
/// let scaler = Scaler::min_max(train.view())?;
/// assert_eq!(scaler.transform(train.view())?, array![[0.0f32, 0.0], [1.0, 1.0]]);
/// assert_eq!(scaler.invert(1, 0.5f32)?, 1e12 + 10.0);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Saved")]
pub struct Scaler {
    shift: Vec<f64>,
    scale: Vec<f64>,
}

/// A scaler as a file has it, which may be anybody's.
#[derive(Deserialize)]
struct Saved {
    shift: Vec<f64>,
    scale: Vec<f64>,
}

impl TryFrom<Saved> for Scaler {
    type Error = String;

    fn try_from(Saved { shift, scale }: Saved) -> Result<Scaler, String> {
        if shift.len() != scale.len() || shift.is_empty() {
            return Err(format!(
                "a scaler with {} shifts and {} scales; each feature needs both",
                shift.len(),
                scale.len()
            ));
        }
        let sound = |(shift, scale): (&f64, &f64)| shift.is_finite() && *scale > 0.0 && scale.is_finite();
        if let Some(feature) = shift.iter().zip(&scale).position(|both| !sound(both)) {
            return Err(format!(
                "a scaler whose feature {feature} has shift {} and scale {}; it needs a finite shift and a finite scale above 0",
                shift[feature], scale[feature]
            ));
        }
        Ok(Scaler { shift, scale })
    }
}

impl Scaler {
    /// Mean 0 and standard deviation 1 (of the population, as scikit-learn's StandardScaler).
    ///
    /// # Errors
    /// No rows, numbers that are not finite, a feature whose range is beyond f64.
    pub fn standard(train: ArrayView2<impl Into<f64> + Copy>) -> Result<Scaler> {
        Scaler::fit(train, |column, low, range| {
            // Relative to the smallest value, in units of the range: large values of a small range lose no digits, and squares
            // can neither overflow nor vanish.
            let count = column.len() as f64;
            let share = |value: &f64| (value - low) / range;
            let mean = column.iter().map(share).sum::<f64>() / count;
            let variance = column.iter().map(|value| (share(value) - mean).powi(2)).sum::<f64>() / count;
            (low + range * mean, range * variance.sqrt())
        })
    }

    /// Smallest value 0, largest 1.
    ///
    /// # Errors
    /// As [`standard`](Scaler::standard).
    pub fn min_max(train: ArrayView2<impl Into<f64> + Copy>) -> Result<Scaler> {
        Scaler::fit(train, |_, low, range| (low, range))
    }

    /// Shift and scale of each feature from its values, its smallest value and its range, which is above 0.
    fn fit(train: ArrayView2<impl Into<f64> + Copy>, of: impl Fn(&[f64], f64, f64) -> (f64, f64)) -> Result<Scaler> {
        if train.is_empty() {
            return Err(Error::Shape(format!("a scaler was given [time, features] = {:?}", train.shape())));
        }
        memory::probe(8 * train.nrows() as u64, "a feature in f64")?;
        finite_numbers("the scaler's data", "[time, feature]", &train)?;
        let mut scaler = Scaler { shift: Vec::new(), scale: Vec::new() };
        for (feature, column) in train.axis_iter(Axis(1)).enumerate() {
            let values = column.iter().map(|&value| value.into());
            let column: Vec<f64> = memory::collect(column.len(), values, "a feature in f64")?;
            let low = column.iter().copied().fold(f64::INFINITY, f64::min);
            let range = column.iter().copied().fold(f64::NEG_INFINITY, f64::max) - low;
            if !range.is_finite() {
                return Err(Error::Config(format!(
                    "feature {feature} has values further apart than f64 can hold, from {low:e} up; scale it down first"
                )));
            }
            // A feature that never changes is only shifted.
            let (shift, scale) = if range > 0.0 { of(&column, low, range) } else { (low, 1.0) };
            scaler.shift.push(shift);
            scaler.scale.push(scale.max(f64::MIN_POSITIVE));
        }
        Ok(scaler)
    }

    /// Features it was fitted on.
    pub fn features(&self) -> usize {
        self.shift.len()
    }

    /// The value of each feature that is scaled to 0, `[features]`.
    pub fn shift(&self) -> &[f64] {
        &self.shift
    }

    /// Divisor of each feature, `[features]`; above 0.
    pub fn scale(&self) -> &[f64] {
        &self.scale
    }

    /// Scales a series [time, features], in f64, and rounds to f32.
    ///
    /// # Errors
    /// Another number of features; numbers that are not finite, or not within f32 when they are scaled; [`Error::OutOfMemory`].
    pub fn transform(&self, series: ArrayView2<impl Into<f64> + Copy>) -> Result<Array2<f32>> {
        if series.ncols() != self.features() {
            return Err(Error::Shape(format!(
                "the series has {} features, the scaler {}",
                series.ncols(),
                self.features()
            )));
        }
        // Before the look at every number
        memory::probe(4 * series.len() as u64, "the scaled series")?;
        finite_numbers("the series", "[time, feature]", &series)?;
        let scaled = series
            .indexed_iter()
            .map(|((_, feature), &value)| ((value.into() - self.shift[feature]) / self.scale[feature]) as f32);
        let scaled = memory::array_of(series.dim(), scaled, "the scaled series")?;
        finite_numbers("the scaled series", "[time, feature]", &scaled.view())?;
        Ok(scaled)
    }

    /// One scaled value of a feature, f32 or f64, in its own unit again.
    ///
    /// # Errors
    /// A feature that the scaler does not have.
    pub fn invert(&self, feature: usize, scaled: impl Into<f64>) -> Result<f64> {
        match (self.shift.get(feature), self.scale.get(feature)) {
            (Some(shift), Some(scale)) => Ok(scaled.into() * scale + shift),
            _ => Err(Error::Shape(format!("feature {feature} of a scaler with features 0 to {}", self.features() - 1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn standard_has_mean_0_and_deviation_1() {
        let train = array![[1.0f32, 5.0], [2.0, 5.0], [6.0, 5.0]];
        let scaler = Scaler::standard(train.view()).unwrap();
        let scaled = scaler.transform(train.view()).unwrap();
        let column = scaled.column(0);
        assert!(column.sum().abs() < 1e-6 && (column.mapv(|v| v * v).sum() / 3.0 - 1.0).abs() < 1e-6);
        assert_eq!(scaled.column(1).to_vec(), [0.0; 3]);
        assert!((scaler.invert(0, scaled[[2, 0]]).unwrap() - 6.0).abs() < 1e-6);
    }

    /// Mean and deviation of NumPy in f64; as f32 all three values are the same.
    #[test]
    fn large_values_of_a_small_range_stay_apart() {
        let train = array![[1e12 + 1.0], [1e12 + 2.0], [1e12 + 6.0]];
        let scaler = Scaler::standard(train.view()).unwrap();
        assert_eq!(scaler.shift(), [1e12 + 3.0]);
        assert!((scaler.scale()[0] - 2.160246899469287).abs() < 1e-14);
        let scaled = scaler.transform(train.view()).unwrap();
        for (scaled, value) in scaled.iter().zip(&train) {
            assert!((scaler.invert(0, *scaled).unwrap() - value).abs() < 1e-6, "{scaled} {value}");
        }
        let constant = Scaler::standard(array![[0.1], [0.1], [0.1]].view()).unwrap();
        assert_eq!((constant.shift()[0], constant.scale()[0]), (0.1, 1.0));
    }

    #[test]
    fn values_of_any_size_are_scaled() {
        for unit in [1e-300, 1e150, 1e300] {
            let train = array![[-unit], [unit], [unit]];
            let scaler = Scaler::standard(train.view()).unwrap();
            let expected = unit * (8.0f64 / 9.0).sqrt();
            assert!((scaler.scale()[0] / expected - 1.0).abs() < 1e-12, "{unit:e}");
            assert!((scaler.transform(train.view()).unwrap()[[0, 0]] + 2f32.sqrt()).abs() < 1e-6);
        }
        let error = Scaler::standard(array![[-1e308], [1e308]].view()).unwrap_err().to_string();
        assert!(error.contains("feature 0"), "{error}");
        let scaler = Scaler::standard(array![[1.0], [2.0]].view()).unwrap();
        let error = scaler.transform(array![[1e60]].view()).unwrap_err().to_string();
        assert!(error.contains("the scaled series holds inf at [time, feature] = [0, 0]"), "{error}");
    }

    #[test]
    fn a_forged_scaler_is_refused() {
        let read = |json: &str| serde_json::from_str::<Scaler>(json);
        assert!(read(r#"{"shift":[1.0],"scale":[2.0]}"#).is_ok());
        for json in [
            r#"{"shift":[1.0],"scale":[]}"#,
            r#"{"shift":[],"scale":[]}"#,
            r#"{"shift":[1.0],"scale":[0.0]}"#,
            r#"{"shift":[1e999],"scale":[1.0]}"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    #[test]
    fn what_cannot_be_fitted_is_refused() {
        assert!(Scaler::standard(Array2::<f64>::zeros((0, 2)).view()).is_err());
        let error = Scaler::min_max(array![[1.0], [f32::NAN]].view()).unwrap_err().to_string();
        assert!(error.contains("[time, feature] = [1, 0]"), "{error}");
        let scaler = Scaler::standard(array![[1.0]].view()).unwrap();
        assert!(scaler.transform(Array2::<f32>::zeros((2, 2)).view()).unwrap_err().to_string().contains("2 features"));
    }
}
