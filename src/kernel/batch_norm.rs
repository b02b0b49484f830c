//! Batch normalisation: each feature over all steps of all sequences.

use super::declare::{constants, kernel, params};
use super::{Call, NoConstants, Region, Touch};
use crate::cpu::Args;
use crate::real::Real;

params! {
    /// Mean of each feature over the steps of a batch, or, with the means known, its variance.
    BatchMoments {
        /// Steps of this chunk.
        steps: u32,
        /// B.
        batch: u32,
        /// Features of a row.
        features: u32,
        /// First element of x [steps, B, features].
        x_offset: u32,
        /// Time of the first step.
        time: u32,
        /// T.
        total_steps: u32,
        /// 1: add to the moment; 0: overwrite it.
        accumulate: u32,
    }
}

constants! {
    /// Constants of [`BATCH_MOMENTS`].
    BatchMomentsConstants {
        /// True for the variance, false for the mean.
        variance: bool,
        /// True if sequences have lengths.
        ragged: bool,
    }
}

kernel! {
    /// Mean or variance of each feature over the steps of a batch.
    BATCH_MOMENTS = batch_moments(BatchMoments, BatchMomentsConstants) {
        bindings: [read words, read x, write moments],
        workgroup: [16, 16, 1],
        groups: |p| [p.features.div_ceil(16) as u64, 1, 1],
        flops: |p| 3 * p.steps as u64 * p.batch as u64 * p.features as u64,
        touches: |p, c| p.touches(c),
    }
}

impl BatchMoments {
    /// The moments are the number of steps, then the means, then the variances.
    fn touches(&self, c: BatchMomentsConstants) -> Vec<Touch> {
        let n = self.features;
        let moments = match c.variance {
            false => Touch::updates(Region::span(0, 1, 1 + n), self.accumulate == 1),
            true => Touch {
                read: Some(Region::span(0, 1, 1 + n + self.accumulate * n)),
                write: Some(Region::span(1 + n, 1, n)),
            },
        };
        vec![
            Touch::reads(Region::span(2, c.ragged as u32, self.batch)),
            Touch::reads(Region::span(self.x_offset, self.steps * self.batch, n)),
            moments,
        ]
    }
}

/// True if a row is before its end at a time, or if sequences have no lengths.
fn holds<F: Real>(ragged: bool, key_and_lengths: &[F], row: usize, time: u32) -> bool {
    !ragged || time < key_and_lengths[2 + row].word()
}

/// Twin of `shaders/batch_moments.wgsl`.
fn batch_moments<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: BatchMoments = call.params();
    let BatchMomentsConstants { variance, ragged } = call.constants();
    let (batch, n) = (p.batch as usize, p.features as usize);
    if !args.reserve(2 * n) {
        return;
    }
    let ([key_and_lengths, x], [moments], scratch) = args.parts(2 * n);
    let (total, of_step) = scratch.split_at_mut(n);
    total.fill(F::zero());
    let (known, variances) = moments.split_at_mut(1 + n);
    if !variance {
        let lengths = key_and_lengths.iter().skip(2).take(batch).map(|len| len.word().min(p.total_steps) as u64);
        let count = if ragged { lengths.sum() } else { batch as u64 * p.total_steps as u64 };
        known[0] = F::of(count.max(1) as f32);
    }
    let count = known[0];
    for (step, rows) in x[p.x_offset as usize..].chunks_exact(batch * n).take(p.steps as usize).enumerate() {
        of_step.fill(F::zero());
        for (row, x) in rows.chunks_exact(n).enumerate() {
            if !holds(ragged, key_and_lengths, row, p.time + step as u32) {
                continue;
            }
            for ((sum, &x), &mean) in of_step.iter_mut().zip(x).zip(&known[1..]) {
                *sum += if variance { (x - mean) * (x - mean) } else { x };
            }
        }
        total.iter_mut().zip(&*of_step).for_each(|(total, &sum)| *total += sum);
    }
    let moment = if variance { variances } else { &mut known[1..] };
    for (moment, &total) in moment.iter_mut().zip(&*total) {
        *moment = if p.accumulate == 1 { *moment + total / count } else { total / count };
    }
}

params! {
    /// `y[r, f] = weight[f]·(x[r, f] − mean[f]) / sqrt(variance[f] + ε) + bias[f]`.
    BatchNormForward {
        /// Rows.
        rows: u32,
        /// Features of a row.
        features: u32,
        /// First element of x [rows, features].
        x_offset: u32,
        /// First element of y [rows, features].
        y_offset: u32,
        /// Added to the variance.
        epsilon: f32,
    }
}

kernel! {
    /// Normalises each feature by given moments, then scales and shifts it.
    BATCH_NORM_FORWARD = batch_norm_forward(BatchNormForward, NoConstants) {
        bindings: [read weight, read bias, read moments, read x, write y],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.rows, p.features], flops: 5,
        touches: |p| [
            Touch::reads(Region::span(0, 1, p.features)),
            Touch::reads(Region::span(0, 1, p.features)),
            Touch::reads(Region::span(1, 2, p.features)),
            Touch::reads(Region::span(p.x_offset, p.rows, p.features)),
            Touch::writes(Region::span(p.y_offset, p.rows, p.features)),
        ],
    }
}

/// The means, and 1 / sqrt(variance + ε) of each feature in `scales`.
fn moments_of<'a, F: Real>(moments: &'a [F], epsilon: f32, scales: &mut [F]) -> &'a [F] {
    let (means, variances) = moments[1..].split_at(scales.len());
    for (scale, &variance) in scales.iter_mut().zip(variances) {
        *scale = (variance + F::of(epsilon)).sqrt().recip();
    }
    means
}

/// Twin of `shaders/batch_norm_forward.wgsl`.
fn batch_norm_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: BatchNormForward = call.params();
    let n = p.features as usize;
    if !args.reserve(n) {
        return;
    }
    let ([weight, bias, moments, x], [y], scales) = args.parts(n);
    let means = moments_of(moments, p.epsilon, scales);
    let rows = x[p.x_offset as usize..].chunks_exact(n).take(p.rows as usize);
    for (x, y) in rows.zip(y[p.y_offset as usize..].chunks_exact_mut(n)) {
        for f in 0..n {
            y[f] = weight[f] * (x[f] - means[f]) * scales[f] + bias[f];
        }
    }
}

params! {
    /// Sums over the rows of a chunk, [2, features]: dy · normalised x, the gradient of the weight, and dy, that of the bias.
    BatchNormSums {
        /// Rows.
        rows: u32,
        /// Features of a row.
        features: u32,
        /// First element of x [rows, features].
        x_offset: u32,
        /// First element of dy [rows, features].
        dy_offset: u32,
        /// Added to the variance.
        epsilon: f32,
        /// 1: add to the sums; 0: overwrite them.
        accumulate: u32,
    }
}

kernel! {
    /// Gradients of weight and bias of batch normalisation.
    BATCH_NORM_SUMS = batch_norm_sums(BatchNormSums, NoConstants) {
        bindings: [read moments, read x, read dy, write sums],
        workgroup: [16, 16, 1],
        groups: |p| [p.features.div_ceil(16) as u64, 1, 1],
        flops: |p| 5 * p.rows as u64 * p.features as u64,
        touches: |p| [
            Touch::reads(Region::span(1, 2, p.features)),
            Touch::reads(Region::span(p.x_offset, p.rows, p.features)),
            Touch::reads(Region::span(p.dy_offset, p.rows, p.features)),
            Touch::updates(Region::span(0, 2, p.features), p.accumulate == 1),
        ],
    }
}

/// Rows whose sums are added up before they are added to those of other rows, so that long sums keep their digits.
const BLOCK: usize = 64;

/// Twin of `shaders/batch_norm_sums.wgsl`.
fn batch_norm_sums<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: BatchNormSums = call.params();
    let n = p.features as usize;
    if !args.reserve(3 * n) {
        return;
    }
    let ([moments, x, dy], [sums], scratch) = args.parts(3 * n);
    let (scales, of_block) = scratch.split_at_mut(n);
    let means = moments_of(moments, p.epsilon, scales);
    if p.accumulate == 0 {
        sums[..2 * n].fill(F::zero());
    }
    let len = p.rows as usize * n;
    let (x, dy) = (&x[p.x_offset as usize..][..len], &dy[p.dy_offset as usize..][..len]);
    for (x, dy) in x.chunks(BLOCK * n).zip(dy.chunks(BLOCK * n)) {
        of_block.fill(F::zero());
        let (along, straight) = of_block.split_at_mut(n);
        for (x, dy) in x.chunks_exact(n).zip(dy.chunks_exact(n)) {
            for f in 0..n {
                along[f] += dy[f] * (x[f] - means[f]) * scales[f];
                straight[f] += dy[f];
            }
        }
        sums.iter_mut().zip(&*of_block).for_each(|(total, &sum)| *total += sum);
    }
}

params! {
    /// Gradient of x, through the moments of its batch where it counts in them.
    BatchNormBackward {
        /// Steps of this chunk.
        steps: u32,
        /// B.
        batch: u32,
        /// Features of a row.
        features: u32,
        /// First element of x [steps, B, features].
        x_offset: u32,
        /// First element of dy [steps, B, features].
        dy_offset: u32,
        /// First element of dx [steps, B, features].
        dx_offset: u32,
        /// Time of the first step.
        time: u32,
        /// Added to the variance.
        epsilon: f32,
    }
}

constants! {
    /// Constants of [`BATCH_NORM_BACKWARD`].
    BatchNormConstants {
        /// True if sequences have lengths.
        ragged: bool,
    }
}

kernel! {
    /// Gradient through batch normalisation.
    BATCH_NORM_BACKWARD = batch_norm_backward(BatchNormBackward, BatchNormConstants) {
        bindings: [read words, read weight, read moments, read sums, read x, read dy, write dx],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.steps, p.batch, p.features], flops: 9,
        touches: |p, c| p.touches(c),
    }
}

impl BatchNormBackward {
    fn touches(&self, c: BatchNormConstants) -> Vec<Touch> {
        let n = self.features;
        let own = |offset: u32| Region::span(offset, self.steps * self.batch, n);
        vec![
            Touch::reads(Region::span(2, c.ragged as u32, self.batch)),
            Touch::reads(Region::span(0, 1, n)),
            Touch::reads(Region::span(0, 1, 1 + 2 * n)),
            Touch::reads(Region::span(0, 2, n)),
            Touch::reads(own(self.x_offset)),
            Touch::reads(own(self.dy_offset)),
            Touch::writes(own(self.dx_offset)),
        ]
    }
}

/// Twin of `shaders/batch_norm_backward.wgsl`.
fn batch_norm_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: BatchNormBackward = call.params();
    let BatchNormConstants { ragged } = call.constants();
    let (batch, n) = (p.batch as usize, p.features as usize);
    if !args.reserve(n) {
        return;
    }
    let ([key_and_lengths, weight, moments, sums, x, dy], [dx], scales) = args.parts(n);
    let (means, count) = (moments_of(moments, p.epsilon, scales), moments[0]);
    for (step, row) in (0..p.steps as usize).flat_map(|step| (0..batch).map(move |row| (step, row))) {
        let at = (step * batch + row) * n;
        let dx = &mut dx[p.dx_offset as usize + at..][..n];
        let counts = holds(ragged, key_and_lengths, row, p.time + step as u32);
        for (f, dx) in dx.iter_mut().enumerate() {
            let normal = (x[p.x_offset as usize + at + f] - means[f]) * scales[f];
            let through = if counts { sums[n + f] / count + normal * (sums[f] / count) } else { F::zero() };
            *dx = weight[f] * scales[f] * (dy[p.dy_offset as usize + at + f] - through);
        }
    }
}

params! {
    /// `running += momentum·(moment − running)`, of means and variances.
    BatchNormUpdate {
        /// Features.
        features: u32,
        /// Share of the new moments.
        momentum: f32,
        /// 1: variances are multiplied by N / (N − 1).
        unbiased: u32,
    }
}

kernel! {
    /// Moves running statistics towards the moments of a batch.
    BATCH_NORM_UPDATE = batch_norm_update(BatchNormUpdate, NoConstants) {
        bindings: [read moments, write mean, write variance],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.features], flops: 8,
        touches: |p| [
            Touch::reads(Region::span(0, 1, 1 + 2 * p.features)),
            Touch::updates(Region::span(0, 1, p.features), true),
            Touch::updates(Region::span(0, 1, p.features), true),
        ],
    }
}

/// Twin of `shaders/batch_norm_update.wgsl`.
fn batch_norm_update<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: BatchNormUpdate = call.params();
    let ([moments], [mean, variance], _) = args.parts(0);
    let (n, count, momentum) = (p.features as usize, moments[0], F::of(p.momentum));
    // The variance of a single step is 0 either way.
    let factor = if p.unbiased == 1 && count > F::one() { count / (count - F::one()) } else { F::one() };
    for f in 0..n {
        let (old_mean, old_variance) = (mean[f], variance[f]);
        mean[f] += momentum * (moments[1 + f] - old_mean);
        variance[f] += momentum * (moments[1 + n + f] * factor - old_variance);
    }
}
