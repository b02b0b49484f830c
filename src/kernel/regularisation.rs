//! Clipping of gradients, penalties on weights and bounds of their norms.

use super::declare::{kernel, params};
use super::{Call, NoConstants, Region, Touch, split_axis};
use crate::cpu::Args;
use crate::real::Real;

params! {
    /// `scale[0] = min(1, max_norm / (norm + 1e-6))`, `scale[1] = norm`, where norm² = Σ squares.
    Clip {
        /// Partial sums of squares.
        n: u32,
        /// Largest norm allowed.
        max_norm: f32,
    }
}

kernel! {
    /// Factor that scales the gradients' norm down to at most a maximum.
    CLIP = clip(Clip, NoConstants) {
        bindings: [read squares, write scale],
        workgroup: [1, 1, 1],
        groups: |p| [1, 1, 1],
        flops: |p| p.n as u64 + 4,
        touches: |p| [Touch::reads(Region::span(0, 1, p.n)), Touch::writes(Region::span(0, 1, 2))],
    }
}

/// Twin of `shaders/clip.wgsl`.
fn clip<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Clip = call.params();
    let ([squares], [scale], _) = args.parts(0);
    let norm = squares[..p.n as usize].iter().copied().sum::<F>().sqrt();
    scale[0] = F::one().min(F::of(p.max_norm) / (norm + F::of(1e-6)));
    scale[1] = norm;
}

params! {
    /// `g += l1·sign(w) + l2·w`.
    Penalty {
        /// Weights.
        n: u32,
        /// λ of l1.
        l1: f32,
        /// 2·λ of l2.
        l2: f32,
    }
}

kernel! {
    /// Gradient of a penalty on weights, added.
    PENALTY = penalty(Penalty, NoConstants) {
        bindings: [read weight, write gradient],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.n], flops: 4,
        touches: |p| p.touches(),
    }
}

impl Penalty {
    fn touches(&self) -> Vec<Touch> {
        let all = Region::span(0, 1, self.n);
        vec![Touch::reads(all), Touch::updates(all, true)]
    }
}

/// Twin of `shaders/penalty.wgsl`.
fn penalty<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Penalty = call.params();
    let ([weight], [gradient], _) = args.parts(0);
    for (g, &w) in gradient[..p.n as usize].iter_mut().zip(weight) {
        let sign = if w == F::zero() { F::zero() } else { w.signum() };
        *g += F::of(p.l1) * sign + F::of(p.l2) * w;
    }
}

params! {
    /// Scales vectors down to at most a norm: `w *= min(1, limit / (norm + 1e-7))`.
    MaxNorm {
        /// Vectors.
        vectors: u32,
        /// Elements of each.
        length: u32,
        /// Vectors of a matrix: vector v is (v / inner, v % inner).
        inner: u32,
        /// Stride by matrix.
        outer_stride: u32,
        /// Stride by vector.
        inner_stride: u32,
        /// Stride by element of a vector.
        stride: u32,
        /// Largest norm allowed.
        limit: f32,
    }
}

kernel! {
    /// Bounds the norms of vectors of weights.
    MAX_NORM = max_norm(MaxNorm, NoConstants) {
        bindings: [write weight],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.vectors], flops: 3 * p.length as u64,
        touches: |p| p.touches(),
    }
}

impl MaxNorm {
    fn touches(&self) -> Vec<Touch> {
        let (matrices, inner) = split_axis(self.vectors, self.inner);
        let axes = [(matrices, self.outer_stride), (inner, self.inner_stride), (self.length, self.stride)];
        vec![Touch::updates(Region::strided(0, axes.map(|(n, stride)| (n, stride as i32))), true)]
    }
}

/// Twin of `shaders/max_norm.wgsl`.
fn max_norm<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: MaxNorm = call.params();
    let ([], [weight], _) = args.parts(0);
    for vector in 0..p.vectors {
        let first = vector / p.inner * p.outer_stride + vector % p.inner * p.inner_stride;
        let places = || (0..p.length).map(|k| (first + k * p.stride) as usize);
        let norm = places().map(|at| weight[at] * weight[at]).sum::<F>().sqrt();
        let factor = F::one().min(F::of(p.limit) / (norm + F::of(1e-7)));
        places().for_each(|at| weight[at] *= factor);
    }
}
