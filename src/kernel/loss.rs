//! Losses of rows and their gradients.

use super::declare::{constants, kernel, kinds, params};
use super::{Call, Region, Touch};
use crate::cpu::Args;
use crate::real::{Real, sigmoid};

kinds! {
    /// A loss; its equation for a prediction y and a target t.
    LossKind {
        /// (y − t)².
        Squared,
        /// |y − t|.
        Absolute,
        /// ½(y − t)² up to δ, and a straight line beyond.
        Huber,
        /// max(q·e, (q − 1)·e), e = t − y.
        Quantile,
        /// Cross-entropy of t and σ(y).
        Binary,
        /// Cross-entropy of the probabilities t and softmax(y).
        Softmax,
        /// Cross-entropy of the class t and softmax(y).
        SparseSoftmax,
        /// ½(log var + (t − mean)² / var), y = (mean, log var).
        Gaussian,
    }
}

params! {
    /// Loss of each row and its gradient.
    Loss {
        /// Rows.
        rows: u32,
        /// Features, or classes, of a row of the prediction.
        width: u32,
        /// Features of a row of the target.
        targets: u32,
        /// Quantiles, or 1 for Huber's δ, or 0.
        levels: u32,
        /// 1: each row has a factor of its own instead of `scale`.
        weighted: u32,
        /// First element of the prediction [rows, width].
        prediction_offset: u32,
        /// First element of the target [rows, targets].
        target_offset: u32,
        /// First element of the gradient [rows, width].
        gradient_offset: u32,
        /// First element of the row losses and of the rows' factors, `[rows]`.
        row_offset: u32,
        /// Factor that makes the sum a mean.
        scale: f32,
    }
}

constants! {
    /// Constants of [`LOSS`].
    LossConstants {
        /// The loss.
        kind: LossKind,
    }
}

kernel! {
    /// Loss of every row and its gradient.
    LOSS = loss(Loss, LossConstants) {
        bindings: [read prediction, read target_, read level, read row_weight, write gradient, write row_loss],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.rows], flops: 5 * p.width as u64,
        touches: |p| [
            Touch::reads(Region::span(p.prediction_offset, p.rows, p.width)),
            Touch::reads(Region::span(p.target_offset, p.rows, p.targets)),
            Touch::reads(Region::span(0, 1, p.levels)),
            Touch::reads(Region::span(p.row_offset, p.weighted, p.rows)),
            Touch::writes(Region::span(p.gradient_offset, p.rows, p.width)),
            Touch::writes(Region::span(p.row_offset, 1, p.rows)),
        ],
    }
}

/// Twin of `shaders/loss.wgsl`.
fn loss<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Loss = call.params();
    let LossConstants { kind } = call.constants();
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
            LossKind::Softmax => softmax(y, |k| t[k], g),
            LossKind::SparseSoftmax => softmax(y, |k| if t[0] == F::of(k as f32) { F::one() } else { F::zero() }, g),
            LossKind::Gaussian => gaussian(y, t, g),
            _ => elements(kind, y, t, level, g),
        };
        g.iter_mut().for_each(|g| *g *= scale);
        row_loss[place] = scale * sum;
    }
}

/// Sum of the terms of a mean over elements; y is [targets · levels].
fn elements<F: Real>(kind: LossKind, y: &[F], t: &[F], level: &[F], g: &mut [F]) -> F {
    let levels = level.len().max(1);
    let mut sum = F::zero();
    if levels == 1 {
        if kind == LossKind::Squared {
            return squared(y, t, g);
        }
        let l = level.first().copied().unwrap_or_default();
        for ((g, &y), &t) in g.iter_mut().zip(y).zip(t) {
            let (term, slope) = term(kind, y, t, l);
            sum += term;
            *g = slope;
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

/// [`elements`] of the most common loss: several sums, since an addition that waits for the one before takes four cycles.
fn squared<F: Real>(y: &[F], t: &[F], g: &mut [F]) -> F {
    const SUMS: usize = 8;
    let mut sums = [F::zero(); SUMS];
    for ((g, y), t) in g.chunks_mut(SUMS).zip(y.chunks(SUMS)).zip(t.chunks(SUMS)) {
        for (k, ((g, &y), &t)) in g.iter_mut().zip(y).zip(t).enumerate() {
            let error = y - t;
            sums[k] += error * error;
            *g = error + error;
        }
    }
    sums.into_iter().sum()
}

/// A term and its derivative by the prediction y; `l` is the quantile or Huber's δ.
#[inline(always)]
fn term<F: Real>(kind: LossKind, y: F, t: F, l: F) -> (F, F) {
    let (zero, one) = (F::zero(), F::one());
    let error = y - t;
    match kind {
        // num_traits' signum gives 1 for 0; the derivative at 0 is taken as 0, as PyTorch does
        LossKind::Absolute => (error.abs(), if error == zero { zero } else { error.signum() }),
        LossKind::Huber => {
            let slope = if error > l {
                l
            } else if error < -l {
                -l
            } else {
                error
            };
            (slope * (error - F::of(0.5) * slope), slope)
        }
        LossKind::Quantile if error > zero => ((one - l) * error, one - l),
        LossKind::Quantile if error < zero => (-l * error, -l),
        LossKind::Quantile => (error, zero),
        // σ(y) − t, without the difference of two numbers near 1
        LossKind::Binary => (y.max(zero) - y * t + (-y.abs()).exp().ln_1p(), (one - t) * sigmoid(y) - t * sigmoid(-y)),
        _ => (error * error, error + error),
    }
}

/// Σ t·(log Σ e^y − y) over the classes, with the largest y subtracted first.
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
