//! Losses and their gradients, row by row.

use super::Args;
use crate::kernel::{Call, params};
use crate::real::{Real, sigmoid};
use crate::train::kind;

/// Twin of `shaders/loss.wgsl`.
pub fn loss<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: params::Loss = call.params();
    let kind = call.constants[0];
    let ([prediction, target, level, row_weight], [gradient, row_loss], _) = args.parts(0);
    let (width, targets) = (p.width as usize, p.targets as usize);
    let level = &level[..p.levels as usize];
    for row in 0..p.rows as usize {
        let y = &prediction[p.prediction_offset as usize + row * width..][..width];
        let t = &target[p.target_offset as usize + row * targets..][..targets];
        let g = &mut gradient[p.gradient_offset as usize + row * width..][..width];
        let place = p.row_offset as usize + row;
        let scale = if p.weighted == 1 { row_weight[place] } else { F::of(p.scale) };
        let sum = match kind {
            kind::SOFTMAX => softmax(y, |k| t[k], g),
            kind::SPARSE_SOFTMAX => softmax(y, |k| if t[0] == F::of(k as f32) { F::one() } else { F::zero() }, g),
            kind::GAUSSIAN => gaussian(y, t, g),
            _ => elements(kind, y, t, level, g),
        };
        g.iter_mut().for_each(|g| *g *= scale);
        row_loss[place] = scale * sum;
    }
}

/// Sum of the terms of a mean over elements; y is [targets · levels].
fn elements<F: Real>(kind: u32, y: &[F], t: &[F], level: &[F], g: &mut [F]) -> F {
    let levels = level.len().max(1);
    let mut sum = F::zero();
    if levels == 1 {
        let l = level.first().copied().unwrap_or_default();
        let mut each = |kind: u32| {
            for ((g, &y), &t) in g.iter_mut().zip(y).zip(t) {
                let (term, slope) = term(kind, y, t, l);
                sum += term;
                *g = slope;
            }
        };
        // The commonest one by itself: a loop of few instructions.
        if kind == kind::SQUARED {
            each(kind::SQUARED)
        } else {
            each(kind)
        }
        return sum;
    }
    for (k, (g, &y)) in g.iter_mut().zip(y).enumerate() {
        let l = level.get(k % levels).copied().unwrap_or_default();
        let (term, slope) = term(kind, y, t[k / levels], l);
        sum += term;
        *g = slope;
    }
    sum
}

/// A term and its derivative by the prediction y; `l` is the quantile or Huber's δ.
#[inline(always)]
fn term<F: Real>(kind: u32, y: F, t: F, l: F) -> (F, F) {
    let (zero, one) = (F::zero(), F::one());
    let error = y - t;
    match kind {
        // num_traits' signum gives 1 for 0; the derivative at 0 is taken as 0, as PyTorch does
        kind::ABSOLUTE => (error.abs(), if error == zero { zero } else { error.signum() }),
        kind::HUBER => {
            let slope = if error > l {
                l
            } else if error < -l {
                -l
            } else {
                error
            };
            (slope * (error - F::of(0.5) * slope), slope)
        }
        kind::QUANTILE if error > zero => ((one - l) * error, one - l),
        kind::QUANTILE if error < zero => (-l * error, -l),
        kind::QUANTILE => (error, zero),
        // σ(y) − t, without the difference of two numbers near 1
        kind::BINARY => (y.max(zero) - y * t + (-y.abs()).exp().ln_1p(), (one - t) * sigmoid(y) - t * sigmoid(-y)),
        _ => (error * error, error + error),
    }
}

/// Σ t·(log Σ e^y − y) over the classes, the largest y taken out first.
fn softmax<F: Real>(y: &[F], t: impl Fn(usize) -> F, g: &mut [F]) -> F {
    let largest = y.iter().copied().fold(F::neg_infinity(), F::max);
    let total: F = y.iter().map(|&y| (y - largest).exp()).sum();
    let log_total = total.ln() + largest;
    let weight: F = (0..y.len()).map(&t).sum();
    let mut sum = F::zero();
    for (k, (g, &y)) in g.iter_mut().zip(y).enumerate() {
        sum += t(k) * (log_total - y);
        *g = weight * (y - log_total).exp() - t(k);
    }
    sum
}

/// ½·(log var + (t − mean)² / var); y holds the means, then the logarithms of the variances.
fn gaussian<F: Real>(y: &[F], t: &[F], g: &mut [F]) -> F {
    let (least, half) = (F::of(-13.815_511), F::of(0.5)); // log 1e-6
    let ((mean, given), (g_mean, g_given)) = (y.split_at(t.len()), g.split_at_mut(t.len()));
    let mut sum = F::zero();
    for k in 0..t.len() {
        let error = mean[k] - t[k];
        let log_variance = given[k].max(least);
        let inverse = (-log_variance).exp();
        sum += half * (log_variance + error * error * inverse);
        g_mean[k] = error * inverse;
        // below the least variance the gradient is that of the variance that was given, as PyTorch has it
        g_given[k] = half * (F::one() - error * error * inverse) * (given[k] - least).min(F::zero()).exp();
    }
    sum
}
