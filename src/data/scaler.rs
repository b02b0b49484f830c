//! Scaling features to the range that training likes.

use crate::error::{Error, Result};
use crate::memory;
use crate::transfer::finite;
use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

/// Per feature: scaled = (value − shift) / scale. Fit it on the training part only; save it with the model
/// ([`Model::set_extra`](crate::Model::set_extra)).
///
/// ```
/// use ndarray::array;
/// use wgpu_lstm::data::Scaler;
/// let train = array![[1.0, 10.0], [3.0, 30.0]]; // [time, features]
/// let scaler = Scaler::min_max(train.view())?;
/// assert_eq!(scaler.transform(train.view())?, array![[0.0, 0.0], [1.0, 1.0]]);
/// assert_eq!(scaler.invert(1, 0.5)?, 20.0);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Saved")]
pub struct Scaler {
    shift: Vec<f32>,
    scale: Vec<f32>,
}

/// A scaler as a file has it, which may be anybody's.
#[derive(Deserialize)]
struct Saved {
    shift: Vec<f32>,
    scale: Vec<f32>,
}

impl TryFrom<Saved> for Scaler {
    type Error = String;

    fn try_from(Saved { shift, scale }: Saved) -> Result<Scaler, String> {
        let sound =
            scale.iter().all(|&scale| scale > 0.0 && scale.is_finite()) && shift.iter().all(|shift| shift.is_finite());
        if shift.len() != scale.len() || shift.is_empty() || !sound {
            return Err(format!(
                "a scaler with shift {shift:?} and scale {scale:?}; each feature needs a finite shift and a scale above 0"
            ));
        }
        Ok(Scaler { shift, scale })
    }
}

impl Scaler {
    /// Mean 0 and standard deviation 1 (of the population, as scikit-learn's StandardScaler).
    ///
    /// # Errors
    /// No rows, or numbers that are not finite.
    pub fn standard(train: ArrayView2<f32>) -> Result<Scaler> {
        Scaler::fit(train, |column| {
            let mean = column.iter().sum::<f64>() / column.len() as f64;
            let variance = column.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / column.len() as f64;
            (mean, variance.sqrt())
        })
    }

    /// Smallest value 0, largest 1.
    ///
    /// # Errors
    /// No rows, or numbers that are not finite.
    pub fn min_max(train: ArrayView2<f32>) -> Result<Scaler> {
        Scaler::fit(train, |column| {
            let low = column.iter().copied().fold(f64::INFINITY, f64::min);
            let high = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            (low, high - low)
        })
    }

    fn fit(train: ArrayView2<f32>, of: impl Fn(&[f64]) -> (f64, f64)) -> Result<Scaler> {
        if train.is_empty() {
            return Err(Error::Shape(format!("a scaler was given [time, features] = {:?}", train.shape())));
        }
        finite("the scaler's data", "[time, feature]", &train)?;
        let (mut shifts, mut scales) = (Vec::new(), Vec::new());
        for column in train.axis_iter(Axis(1)) {
            let values = column.iter().map(|&value| value as f64);
            let (shift, scale) = of(&memory::collect(column.len(), values, "a feature in f64")?);
            shifts.push(shift as f32);
            // A feature that never changes is only shifted.
            scales.push(if scale as f32 > 0.0 { scale as f32 } else { 1.0 });
        }
        Ok(Scaler { shift: shifts, scale: scales })
    }

    /// Features it was fitted on.
    pub fn features(&self) -> usize {
        self.shift.len()
    }

    /// Scales a series [time, features].
    ///
    /// # Errors
    /// Another number of features; [`Error::OutOfMemory`].
    pub fn transform(&self, series: ArrayView2<f32>) -> Result<Array2<f32>> {
        if series.ncols() != self.features() {
            return Err(Error::Shape(format!(
                "the series has {} features, the scaler {}",
                series.ncols(),
                self.features()
            )));
        }
        let scaled =
            series.indexed_iter().map(|((_, feature), value)| (value - self.shift[feature]) / self.scale[feature]);
        memory::array_of(series.dim(), scaled, "the scaled series")
    }

    /// One scaled value of a feature in its own unit again.
    ///
    /// # Errors
    /// A feature that the scaler does not have.
    pub fn invert(&self, feature: usize, scaled: f32) -> Result<f32> {
        match (self.shift.get(feature), self.scale.get(feature)) {
            (Some(shift), Some(scale)) => Ok(scaled * scale + shift),
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
        let train = array![[1.0, 5.0], [2.0, 5.0], [6.0, 5.0]];
        let scaler = Scaler::standard(train.view()).unwrap();
        let scaled = scaler.transform(train.view()).unwrap();
        let column = scaled.column(0);
        assert!(column.sum().abs() < 1e-6 && (column.mapv(|v| v * v).sum() / 3.0 - 1.0).abs() < 1e-6);
        assert_eq!(scaled.column(1).to_vec(), [0.0; 3]);
        assert!((scaler.invert(0, scaled[[2, 0]]).unwrap() - 6.0).abs() < 1e-6);
    }

    #[test]
    fn a_forged_scaler_is_refused() {
        let read = |json: &str| serde_json::from_str::<Scaler>(json);
        assert!(read(r#"{"shift":[1.0],"scale":[2.0]}"#).is_ok());
        for json in [
            r#"{"shift":[1.0],"scale":[]}"#,
            r#"{"shift":[],"scale":[]}"#,
            r#"{"shift":[1.0],"scale":[0.0]}"#,
            r#"{"shift":[1e99],"scale":[1.0]}"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    #[test]
    fn what_cannot_be_fitted_is_refused() {
        assert!(Scaler::standard(Array2::zeros((0, 2)).view()).is_err());
        let error = Scaler::min_max(array![[1.0], [f32::NAN]].view()).unwrap_err().to_string();
        assert!(error.contains("[time, feature] = [1, 0]"), "{error}");
        let scaler = Scaler::standard(array![[1.0]].view()).unwrap();
        assert!(scaler.transform(Array2::zeros((2, 2)).view()).unwrap_err().to_string().contains("2 features"));
    }
}
