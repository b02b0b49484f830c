//! How weights start.

use crate::error::Result;
use crate::memory;
use rand::RngExt;
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

/// Initial weights, drawn by a seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// Uniform in ±1/√H, biases too (`torch.nn.LSTM`); dense layers uniform in ±1/√inputs (`torch.nn.Linear`).
    #[default]
    PyTorch,
    /// Glorot uniform input weights, orthogonal recurrent weights, biases 0 but 1 for the forget gate (Keras); dense
    /// layers Glorot uniform with biases 0.
    Keras,
}

/// Names initial values in errors; the tensor's shape is in the number of bytes.
const WHAT: &str = "initial weights";

/// Uniform in ±limit.
pub(super) fn uniform(random: &mut Pcg64, len: usize, limit: f64) -> Result<Vec<f32>> {
    memory::collect(len, (0..len).map(|_| random.random_range(-limit..=limit) as f32), WHAT)
}

/// Glorot uniform for a matrix of these fans.
pub(super) fn glorot(random: &mut Pcg64, len: usize, fan_in: usize, fan_out: usize) -> Result<Vec<f32>> {
    uniform(random, len, (6.0 / (fan_in + fan_out) as f64).sqrt())
}

/// A matrix [rows, columns] with orthonormal columns, rows ≥ columns: normal columns, made orthogonal one after
/// another (twice, which is enough in f64).
pub(super) fn orthogonal(random: &mut Pcg64, rows: usize, columns: usize) -> Result<Vec<f32>> {
    let mut values = memory::room(rows * columns, WHAT)?;
    let mut basis: Vec<Vec<f64>> = memory::room(columns, WHAT)?;
    while basis.len() < columns {
        let mut column: Vec<f64> = memory::collect(rows, (0..rows).map(|_| normal(random)), WHAT)?;
        for _ in 0..2 {
            for other in &basis {
                let along: f64 = column.iter().zip(other).map(|(a, b)| a * b).sum();
                column.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
            }
        }
        let length = column.iter().map(|a| a * a).sum::<f64>().sqrt();
        // A column that lies in the span of the others is drawn again.
        if length > 1e-6 {
            column.iter_mut().for_each(|a| *a /= length);
            basis.push(column);
        }
    }
    values.extend((0..rows).flat_map(|row| basis.iter().map(move |column| column[row] as f32)));
    Ok(values)
}

/// A normal number of deviation 1 (Box and Muller).
pub(super) fn normal(random: &mut Pcg64) -> f64 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orthogonal_columns_are_orthonormal() {
        let (rows, columns) = (28, 7);
        let matrix = orthogonal(&mut Pcg64::new(1, 2), rows, columns).unwrap();
        for a in 0..columns {
            for b in 0..columns {
                let dot: f32 = (0..rows).map(|row| matrix[row * columns + a] * matrix[row * columns + b]).sum();
                assert!((dot - (a == b) as u8 as f32).abs() < 1e-6, "{a} {b} {dot}");
            }
        }
    }

    #[test]
    fn draws_keep_their_limits_and_repeat_by_seed() {
        let draw = || uniform(&mut Pcg64::new(5, 0), 1000, 0.25).unwrap();
        let values = draw();
        assert_eq!(values, draw());
        assert!(values.iter().all(|value| value.abs() <= 0.25));
        let mean = values.iter().sum::<f32>() / 1000.0;
        assert!(mean.abs() < 0.02 && values.iter().any(|&value| value > 0.24), "{mean}");
        let normals: Vec<f64> = (0..4000).map(|_| normal(&mut Pcg64::new(9, 0))).collect();
        assert_eq!(normals[0], normals[1]);
        let mut random = Pcg64::new(9, 0);
        let variance = (0..4000).map(|_| normal(&mut random).powi(2)).sum::<f64>() / 4000.0;
        assert!((variance - 1.0).abs() < 0.1, "{variance}");
    }
}
