//! Scores of additive attention (Bahdanau et al. 2015).

use super::declare::{constants, kernel, params};
use super::{Call, NoConstants, Region, Touch};
use crate::cpu::{Args, WORTH_A_THREAD};
use crate::real::saturating::tanh_and_slope;
use crate::real::{Real, tanh};
use crate::simd::{Isa, Work, dispatch, is_f32};

/// Multiplications that take as long as a hyperbolic tangent.
const COST: u64 = 16;

/// Sums that run side by side, so that a compiler may keep them in vector registers.
const SUMS: usize = 16;

params! {
    /// `s[t, b, j] = Σ_f scale[f]·tanh(q[t, b, f] + k[j, b, f])`.
    AdditiveScores {
        /// Queries.
        steps: u32,
        /// B.
        batch: u32,
        /// Keys.
        keys: u32,
        /// Features of queries and keys.
        features: u32,
        /// First element of q.
        q_offset: u32,
        /// Stride of q by step.
        q_step: u32,
        /// Stride of q by row.
        q_row: u32,
        /// First element of k.
        k_offset: u32,
        /// Stride of k by step.
        k_step: u32,
        /// Stride of k by row.
        k_row: u32,
        /// First element of s.
        s_offset: u32,
        /// Stride of s by query.
        s_step: u32,
        /// Stride of s by row; keys are contiguous.
        s_row: u32,
    }
}

kernel! {
    /// Scores of additive attention.
    ADDITIVE_SCORES = additive_scores(AdditiveScores, NoConstants) {
        bindings: [read q, read k, read scale, write s],
        workgroup: [16, 16, 1],
        groups: |p| [p.keys.div_ceil(16) as u64, p.steps.div_ceil(16) as u64, p.batch as u64],
        flops: |p| COST * p.steps as u64 * p.batch as u64 * p.keys as u64 * p.features as u64,
        touches: |p| p.touches(),
    }
}

impl AdditiveScores {
    fn touches(&self) -> Vec<Touch> {
        let axes = |steps: u32, step: u32, row: u32, n: u32| [(steps, step as i32), (self.batch, row as i32), (n, 1)];
        vec![
            Touch::reads(Region::strided(self.q_offset, axes(self.steps, self.q_step, self.q_row, self.features))),
            Touch::reads(Region::strided(self.k_offset, axes(self.keys, self.k_step, self.k_row, self.features))),
            Touch::reads(Region::span(0, 1, self.features)),
            Touch::writes(Region::strided(self.s_offset, axes(self.steps, self.s_step, self.s_row, self.keys))),
        ]
    }
}

/// A row of a sequence's step.
fn row<F>(values: &[F], first: u32, strides: [u32; 2], index: [usize; 2], features: u32) -> &[F] {
    let at = first as usize + index[0] * strides[0] as usize + index[1] * strides[1] as usize;
    &values[at..][..features as usize]
}

/// The scores of one query and row that a thread computes.
struct ScoresOfRow<'a, F> {
    p: &'a AdditiveScores,
    q: &'a [F],
    k: &'a [F],
    scale: &'a [F],
    row: usize,
    s: &'a mut [F],
}

impl<F: Real> Work for ScoresOfRow<'_, F> {
    const WIDE: bool = is_f32::<F>();

    #[inline(always)]
    fn run<S: Isa>(self, _: S) {
        let ScoresOfRow { p, q, k, scale, s, .. } = self;
        for (j, s) in s.iter_mut().enumerate() {
            let k = row(k, p.k_offset, [p.k_step, p.k_row], [j, self.row], p.features);
            let (mut sums, mut sum) = ([F::zero(); SUMS], F::zero());
            let ([q_wide, k_wide, scale_wide], [q_rest, k_rest, scale_rest]) = sides([q, k, scale]);
            for ((q, k), scale) in q_wide.iter().zip(k_wide).zip(scale_wide) {
                for f in 0..SUMS {
                    sums[f] += scale[f] * tanh(q[f] + k[f]);
                }
            }
            for ((&q, &k), &scale) in q_rest.iter().zip(k_rest).zip(scale_rest) {
                sum += scale * tanh(q + k);
            }
            *s = sums.into_iter().fold(sum, |all, sum| all + sum);
        }
    }
}

/// Rows cut into groups of [`SUMS`] features, and the rest of each.
#[inline(always)]
fn sides<F, const N: usize>(rows: [&[F]; N]) -> ([&[[F; SUMS]]; N], [&[F]; N]) {
    (rows.map(|row| row.as_chunks().0), rows.map(|row| row.as_chunks::<SUMS>().1))
}

/// Twin of `shaders/additive_scores.wgsl`.
fn additive_scores<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: AdditiveScores = call.params();
    let team = args.team;
    let ([q, k, scale], [s], _) = args.parts(0);
    let rows: Vec<[usize; 2]> =
        (0..p.steps as usize).flat_map(|step| (0..p.batch as usize).map(move |row| [step, row])).collect();
    let threads = team.threads_for((call.flops()) / WORTH_A_THREAD);
    let mut scores = strided_rows(s, p.s_offset, [p.s_step, p.s_row], &rows, p.keys).into_iter();
    let shares = rows.chunks(rows.len().div_ceil(threads).max(1));
    let shares = shares.map(|rows| rows.iter().copied().zip(scores.by_ref().take(rows.len())).collect::<Vec<_>>());
    team.each(shares.collect(), |share| {
        for ([step, own], s) in share {
            let q = row(q, p.q_offset, [p.q_step, p.q_row], [step, own], p.features);
            dispatch(ScoresOfRow { p: &p, q, k, scale: &scale[..p.features as usize], row: own, s });
        }
    });
}

/// Disjoint rows of `n` elements, in ascending order of their addresses.
fn strided_rows<'a, F>(
    mut values: &'a mut [F],
    first: u32,
    strides: [u32; 2],
    rows: &[[usize; 2]],
    n: u32,
) -> Vec<&'a mut [F]> {
    let mut end = 0;
    let mut next = |[step, row]: [usize; 2]| {
        let at = first as usize + step * strides[0] as usize + row * strides[1] as usize;
        let (own, rest) = std::mem::take(&mut values)[at - end..].split_at_mut(n as usize);
        (values, end) = (rest, at + n as usize);
        own
    };
    rows.iter().map(|&row| next(row)).collect()
}

params! {
    /// `dx[i, b, f] (+)= scale[f]·Σ_j ds[i, b, j]·(1 − tanh²(x[i, b, f] + y[j, b, f]))`.
    AdditiveScoresBackward {
        /// Steps of x.
        steps: u32,
        /// B.
        batch: u32,
        /// Steps of y.
        others: u32,
        /// Features of both.
        features: u32,
        /// 1: add to dx and to the parts; 0: overwrite them.
        accumulate: u32,
        /// First element of x.
        x_offset: u32,
        /// Stride of x by step.
        x_step: u32,
        /// Stride of x by row.
        x_row: u32,
        /// First element of y.
        y_offset: u32,
        /// Stride of y by step.
        y_step: u32,
        /// Stride of y by row.
        y_row: u32,
        /// First element of the scores' gradient.
        ds_offset: u32,
        /// Its stride by step of x.
        ds_step: u32,
        /// Its stride by row.
        ds_row: u32,
        /// Its stride by step of y.
        ds_other: u32,
        /// First element of dx [steps, B, features].
        dx_offset: u32,
        /// First element of the parts [steps, B, features].
        parts_offset: u32,
    }
}

constants! {
    /// Constants of [`ADDITIVE_SCORES_BACKWARD`].
    AdditiveScoresBackwardConstants {
        /// True if the parts of the gradient of `scale` are written, too: `Σ_j ds[i, b, j]·tanh(x[i, b, f] + y[j, b, f])`.
        parts: bool,
    }
}

kernel! {
    /// Gradient of additive attention's queries x with its keys y, or of its keys x with its queries y.
    ADDITIVE_SCORES_BACKWARD = additive_scores_backward(AdditiveScoresBackward, AdditiveScoresBackwardConstants) {
        bindings: [read x, read y, read ds, read scale, write dx, write parts],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.steps, p.batch, p.features], flops: COST * p.others as u64,
        touches: |p, c| p.touches(c.parts),
    }
}

impl AdditiveScoresBackward {
    fn touches(&self, parts: bool) -> Vec<Touch> {
        let axes =
            |steps: u32, step: u32, row: u32| [(steps, step as i32), (self.batch, row as i32), (self.features, 1)];
        let ds =
            [(self.steps, self.ds_step as i32), (self.batch, self.ds_row as i32), (self.others, self.ds_other as i32)];
        let own = |offset: u32, parts: bool| {
            Region::strided(
                offset,
                [
                    (self.steps, (self.batch * self.features) as i32),
                    (self.batch * parts as u32, self.features as i32),
                    (self.features, 1),
                ],
            )
        };
        let add = self.accumulate == 1;
        vec![
            Touch::reads(Region::strided(self.x_offset, axes(self.steps, self.x_step, self.x_row))),
            Touch::reads(Region::strided(self.y_offset, axes(self.others, self.y_step, self.y_row))),
            Touch::reads(Region::strided(self.ds_offset, ds)),
            Touch::reads(Region::span(0, 1, self.features)),
            Touch::updates(own(self.dx_offset, true), add),
            Touch::updates(own(self.parts_offset, parts), add),
        ]
    }
}

/// The gradient of one step and row of x that a thread computes.
struct GradientOfRow<'a, F> {
    p: &'a AdditiveScoresBackward,
    x: &'a [F],
    y: &'a [F],
    /// From the first score of x's step and row on.
    ds: &'a [F],
    scale: &'a [F],
    row: usize,
    dx: &'a mut [F],
    parts: Option<&'a mut [F]>,
    /// Sums over y, two for a feature.
    sums: [&'a mut [F]; 2],
}

impl<F: Real> Work for GradientOfRow<'_, F> {
    const WIDE: bool = is_f32::<F>();

    #[inline(always)]
    fn run<S: Isa>(self, _: S) {
        let GradientOfRow { p, x, y, ds, scale, dx, parts, sums: [values, slopes], .. } = self;
        values.fill(F::zero());
        slopes.fill(F::zero());
        for j in 0..p.others as usize {
            let y = row(y, p.y_offset, [p.y_step, p.y_row], [j, self.row], p.features);
            let d = ds[j * p.ds_other as usize];
            for (((value, slope), &x), &y) in values.iter_mut().zip(slopes.iter_mut()).zip(x).zip(y) {
                let (own_value, own_slope) = tanh_and_slope(x + y);
                *value += d * own_value;
                *slope += d * own_slope;
            }
        }
        let add = p.accumulate == 1;
        for ((dx, &slope), &scale) in dx.iter_mut().zip(&*slopes).zip(scale) {
            *dx = scale * slope + if add { *dx } else { F::zero() };
        }
        for (part, &value) in parts.into_iter().flatten().zip(&*values) {
            *part = value + if add { *part } else { F::zero() };
        }
    }
}

/// Twin of `shaders/additive_scores_backward.wgsl`.
fn additive_scores_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: AdditiveScoresBackward = call.params();
    let AdditiveScoresBackwardConstants { parts: has_parts } = call.constants();
    let team = args.team;
    let threads = team.threads_for(call.flops() / WORTH_A_THREAD);
    let features = p.features as usize;
    if !args.reserve(2 * features * threads) {
        return;
    }
    let ([x, y, ds, scale], [dx, parts], scratch) = args.parts(2 * features * threads);
    let rows = p.steps as usize * p.batch as usize;
    let length = rows.div_ceil(threads).max(1);
    let dx = dx[p.dx_offset as usize..][..rows * features].chunks_mut(length * features);
    let held = if has_parts { rows * features } else { 0 };
    let mut parts = parts[if has_parts { p.parts_offset as usize } else { 0 }..][..held].chunks_mut(length * features);
    let shares = dx.zip(scratch.chunks_exact_mut(2 * features)).map(|(dx, sums)| (dx, parts.next(), sums)).enumerate();
    team.each(shares.collect(), |(index, (dx, parts, sums))| {
        let (values, slopes) = sums.split_at_mut(features);
        let mut parts = parts.map(|parts| parts.chunks_exact_mut(features));
        for (n, dx) in dx.chunks_exact_mut(features).enumerate() {
            let (step, own) = ((index * length + n) / p.batch as usize, (index * length + n) % p.batch as usize);
            let at = p.ds_offset as usize + step * p.ds_step as usize + own * p.ds_row as usize;
            dispatch(GradientOfRow {
                p: &p,
                x: row(x, p.x_offset, [p.x_step, p.x_row], [step, own], p.features),
                y,
                ds: &ds[at..],
                scale: &scale[..features],
                row: own,
                dx,
                parts: parts.as_mut().and_then(Iterator::next),
                sums: [&mut *values, &mut *slopes],
            });
        }
    });
}
