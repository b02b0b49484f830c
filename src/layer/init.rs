//! Initial weights.

use crate::error::Result;
use crate::memory;
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, aview1, s};
use rand::RngExt;
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

/// Distribution of the initial weights, which are drawn by a seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Init {
    /// Uniform in ±1/√H, biases too (`torch.nn.LSTM`); dense layers uniform in ±1/√inputs (`torch.nn.Linear`).
    #[default]
    PyTorch,
    /// Glorot uniform input weights, orthogonal recurrent weights, biases 0 but 1 for the forget gate (Keras); dense
    /// layers Glorot uniform with biases 0.
    Keras,
}

/// Name of the initial weights in errors.
const WHAT: &str = "initial weights";

/// Draws `len` numbers, uniform in ±limit.
pub(super) fn uniform(random: &mut Pcg64, len: usize, limit: f64) -> Result<Vec<f32>> {
    memory::collect(len, (0..len).map(|_| random.random_range(-limit..=limit) as f32), WHAT)
}

/// Draws `len` numbers, Glorot uniform for a matrix of these fans.
pub(super) fn glorot(random: &mut Pcg64, len: usize, fan_in: usize, fan_out: usize) -> Result<Vec<f32>> {
    uniform(random, len, (6.0 / (fan_in + fan_out) as f64).sqrt())
}

/// Reflectors of a block: enough for fast products.
const BLOCK: usize = 64;

/// Draws a matrix [rows, columns] with orthonormal columns, rows ≥ columns, of the uniform distribution (Haar): the Q of a QR of a
/// normal matrix, with signs that make R's diagonal positive. Only the Householder reflectors of that QR are computed. A reflector
/// leaves the columns to its right normally distributed, so each column is drawn anew ([Stewart
/// 1980](https://doi.org/10.1137/0717034)). They are applied in blocks, H₀ ⋯ H₆₃ = I − V·T·Vᵀ ([Schreiber and Van Loan
/// 1989](https://doi.org/10.1137/0910005)), as products.
pub(super) fn orthogonal(random: &mut Pcg64, rows: usize, columns: usize) -> Result<Vec<f32>> {
    let mut q: Array2<f64> = memory::array((rows, columns), WHAT)?;
    q.diag_mut().fill(1.0);
    // Column k holds reflector k, zero above row k: H = I − factor·v·vᵀ.
    let mut v: Array2<f64> = memory::array((rows, columns), WHAT)?;
    let (mut factors, mut signs) = (memory::zeros(columns, WHAT)?, memory::zeros(columns, WHAT)?);
    let mut column = memory::zeros(rows, WHAT)?;
    for k in 0..columns {
        let column = &mut column[k..];
        normals(random, column);
        let length = column.iter().map(|x| x * x).sum::<f64>().sqrt();
        // H maps the column to −signum·length in its first row; the opposite sign avoids cancellation.
        let signum = column[0].signum();
        factors[k] = 1.0 / (length * (length + column[0].abs())).max(f64::MIN_POSITIVE);
        signs[k] = -signum;
        column[0] += signum * length;
        v.slice_mut(s![k.., k]).assign(&aview1(column));
    }
    // The products below have BLOCK rows or columns.
    memory::probe(3 * 8 * (BLOCK * columns) as u64, WHAT)?;
    for first in (0..columns).step_by(BLOCK).rev() {
        let last = columns.min(first + BLOCK);
        let v = v.slice(s![first.., first..last]);
        let gram = v.t().dot(&v);
        let mut t = Array2::<f64>::zeros((last - first, last - first));
        for k in 0..last - first {
            let above = t.slice(s![..k, ..k]).dot(&gram.slice(s![..k, k]));
            t.slice_mut(s![..k, k]).assign(&(above * -factors[first + k]));
            t[[k, k]] = factors[first + k];
        }
        // Left of the block, and above it, Q is still I.
        let mut q = q.slice_mut(s![first.., first..]);
        let along = t.dot(&v.t().dot(&q));
        general_mat_mul(-1.0, &v, &along, 1.0, &mut q);
    }
    q.outer_iter_mut().for_each(|mut row| row.iter_mut().zip(&signs).for_each(|(q, sign)| *q *= sign));
    memory::collect(rows * columns, q.into_iter().map(|q| q as f32), WHAT)
}

/// Draws normal numbers of deviation 1, two at a time (Box and Muller).
fn normals(random: &mut Pcg64, into: &mut [f64]) {
    for pair in into.chunks_mut(2) {
        let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * random.random::<f64>()).sin_cos();
        pair.iter_mut().zip([cos, sin]).for_each(|(x, part)| *x = radius * part);
    }
}

/// Draws a normal number of deviation 1 (Box and Muller).
pub(super) fn normal(random: &mut Pcg64) -> f64 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orthogonal_columns_are_orthonormal() {
        // One block, several, a last one that is smaller; square, tall; the smallest
        for (rows, columns) in [(28, 7), (64, 64), (65, 65), (400, 130), (256, 256), (1, 1), (3, 1)] {
            let drawn = orthogonal(&mut Pcg64::new(1, 2), rows, columns).unwrap();
            assert_eq!(drawn, orthogonal(&mut Pcg64::new(1, 2), rows, columns).unwrap());
            let q = Array2::from_shape_vec((rows, columns), drawn).unwrap().mapv(f64::from);
            for ((a, b), dot) in q.t().dot(&q).indexed_iter() {
                assert!((dot - (a == b) as u8 as f64).abs() < 1e-6, "[{rows}, {columns}]: {a} {b} {dot}");
            }
        }
    }

    /// The uniform distribution of orthogonal matrices has E[tr Q] = 0, E[(tr Q)²] = E[tr Q²] = 1, and of the upper left element the
    /// mean 0 and the square's mean 1 / rows. Without the signs, or with reflectors drawn wrongly, they differ; the bounds are five
    /// deviations of these means.
    #[test]
    fn orthogonal_matrices_are_uniform() {
        let (mut random, count) = (Pcg64::new(3, 4), 4000);
        for (rows, columns) in [(3, 3), (5, 5), (6, 2)] {
            let mut sums = [0.0; 5];
            for _ in 0..count {
                let q =
                    Array2::from_shape_vec((rows, columns), orthogonal(&mut random, rows, columns).unwrap()).unwrap();
                let q = q.mapv(f64::from);
                let (trace, corner) = (q.diag().sum(), [q[[0, 0]], q[[columns - 1, columns - 1]]]);
                let square = q.slice(s![..columns, ..]);
                let of = [trace, trace * trace, square.dot(&square).diag().sum(), corner[0], corner[1].powi(2)];
                sums.iter_mut().zip(of).for_each(|(sum, x)| *sum += x / count as f64);
            }
            let [trace, squared, of_square, corner, last] = sums;
            let (n, m) = (rows as f64, columns as f64);
            // tr Q has the variance columns / rows, tr Q² for columns < rows the mean columns / rows, too.
            assert!(trace.abs() < 5.0 / (count as f64).sqrt(), "{rows} {columns} {trace}");
            assert!((squared - m / n).abs() < 5.0 * 1.5 / (count as f64).sqrt(), "{rows} {columns} {squared}");
            assert!((of_square - m / n).abs() < 5.0 * 1.5 / (count as f64).sqrt(), "{rows} {columns} {of_square}");
            assert!(corner.abs() < 5.0 / (n * count as f64).sqrt(), "{rows} {columns} {corner}");
            assert!((last - 1.0 / n).abs() < 5.0 * 0.5 / (count as f64).sqrt(), "{rows} {columns} {last}");
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
