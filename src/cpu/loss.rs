//! Losses and their gradients, row by row.

use super::Args;
use crate::kernel::{Call, params};
use crate::real::Real;
use crate::train::Loss;

/// Twin of `shaders/loss.wgsl`.
pub fn loss<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: params::Loss = call.params();
    let kind = Loss::ALL[call.constants[0] as usize];
    let ([prediction, target, gradient, row_loss], _) = args.parts(0);
    let (width, scale) = (p.width as usize, F::of(p.scale));
    for row in 0..p.rows as usize {
        let y = &prediction[p.prediction_offset as usize + row * width..][..width];
        let t = &target[p.target_offset as usize + row * width..][..width];
        let g = &mut gradient[p.gradient_offset as usize + row * width..][..width];
        let mut sum = F::zero();
        match kind {
            Loss::MeanSquaredError => {
                for k in 0..width {
                    let error = y[k] - t[k];
                    sum += error * error;
                    g[k] = scale * (error + error);
                }
            }
            Loss::MeanAbsoluteError => {
                for k in 0..width {
                    let error = y[k] - t[k];
                    sum += error.abs();
                    // num_traits' signum gives 1 for 0; the derivative at 0 is taken as 0, as PyTorch does
                    g[k] = if error == F::zero() { F::zero() } else { scale * error.signum() };
                }
            }
            Loss::SoftmaxCrossEntropy => {
                let largest = y.iter().copied().fold(F::neg_infinity(), F::max);
                let total: F = y.iter().map(|&y| (y - largest).exp()).sum();
                let log_total = total.ln() + largest;
                let weight: F = t.iter().copied().sum();
                for k in 0..width {
                    sum += t[k] * (log_total - y[k]);
                    g[k] = scale * (weight * (y[k] - log_total).exp() - t[k]);
                }
            }
        }
        row_loss[p.row_offset as usize + row] = scale * sum;
    }
}
