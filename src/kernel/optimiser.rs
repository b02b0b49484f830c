//! Clipping, penalties, optimisers and bounds of norms: from gradients to weights.

use super::declare::{kernel, params};
use super::{NoConstants, Region, Touch, split_axis};
use crate::cpu::{adam, clip, max_norm, penalty, sgd};

/// Numbers of an update that the host sends at each step: factors of the mean of gradients (or the velocity) and of the
/// gradient, ε outside the root and inside it, and what decoupled weight decay leaves of a weight.
pub(crate) const HYPER: usize = 5;

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
    /// Factor that brings the gradients' norm to at most a maximum.
    CLIP = clip(Clip, NoConstants) {
        bindings: [read squares, write scale],
        workgroup: [1, 1, 1],
        groups: |p| [1, 1, 1],
        flops: |p| p.n as u64 + 4,
        touches: |p| [Touch::reads(Region::span(0, 1, p.n)), Touch::writes(Region::span(0, 1, 2))],
    }
}

params! {
    /// `v = momentum·v + g`, `w = hyper[4]·w − hyper[0]·v`, where g is the scaled and clipped gradient and l2·w.
    Sgd {
        /// Weights.
        n: u32,
        /// Momentum.
        momentum: f32,
        /// 1: the step is g + momentum·v.
        nesterov: u32,
        /// Elements of the gradient are cut off at ± this.
        limit: f32,
        /// Factor of the weight in the gradient.
        l2: f32,
    }
}

kernel! {
    /// Stochastic gradient descent with momentum, plain or Nesterov's.
    SGD = sgd(Sgd, NoConstants) {
        bindings: [read hyper, read scale, read gradient, write weight, write velocity],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.n], flops: 8,
        touches: |p| p.touches(),
    }
}

impl Sgd {
    fn touches(&self) -> Vec<Touch> {
        let (own, all) = (|n| Touch::reads(Region::span(0, 1, n)), Touch::updates(Region::span(0, 1, self.n), true));
        vec![own(HYPER as u32), own(1), own(self.n), all, all]
    }
}

params! {
    /// `m = β1·m + (1 − β1)·g`, `v = β2·v + (1 − β2)·g²`,
    /// `w = hyper[4]·w − (hyper[0]·m + hyper[1]·g) / (√(v + hyper[3]) + hyper[2])`, with g as in [`Sgd`].
    Adam {
        /// Weights.
        n: u32,
        /// 1: there is a mean of gradients m; 0: its buffer is not touched.
        means: u32,
        /// β1.
        beta1: f32,
        /// 1 − β1, rounded once: 1 − 0.999 taken in f32 is wrong in the fifth digit.
        take1: f32,
        /// β2.
        beta2: f32,
        /// 1 − β2.
        take2: f32,
        /// Elements of the gradient are cut off at ± this.
        limit: f32,
        /// Factor of the weight in the gradient.
        l2: f32,
    }
}

kernel! {
    /// Adam and its kin: Nadam and RMSprop.
    ADAM = adam(Adam, NoConstants) {
        bindings: [read hyper, read scale, read gradient, write weight, write m, write v],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.n], flops: 16,
        touches: |p| p.touches(),
    }
}

impl Adam {
    fn touches(&self) -> Vec<Touch> {
        let (own, all) = (|n| Touch::reads(Region::span(0, 1, n)), |n| Touch::updates(Region::span(0, 1, n), true));
        vec![own(HYPER as u32), own(1), own(self.n), all(self.n), all(self.means * self.n), all(self.n)]
    }
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

params! {
    /// Scales vectors down to at most a norm: `w *= min(1, limit / (norm + 1e-7))`.
    MaxNorm {
        /// Vectors.
        vectors: u32,
        /// Elements of each.
        length: u32,
        /// Vectors of a matrix: vector v is (v / inner, v % inner).
        inner: u32,
        /// From one matrix to the next.
        outer_stride: u32,
        /// From one vector to the next.
        inner_stride: u32,
        /// From one element of a vector to the next.
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
