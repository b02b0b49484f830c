//! Optimisers: updates of weights by their gradients.

use super::declare::{kernel, params};
use super::{Call, NoConstants, Region, Touch};
use crate::cpu::{Args, WORTH_A_THREAD};
use crate::real::Real;
use crate::simd::{Isa, Work, dispatch, is_f32};

/// Numbers of an update that the host sends at each step: factors of the mean of gradients (or the velocity) and of the
/// gradient, ε outside the root and inside it, and the factor of the weight (1 without decoupled weight decay).
pub(crate) const HYPER: usize = 5;

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

/// Twin of `shaders/sgd.wgsl`.
fn sgd<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Sgd = call.params();
    let ([hyper, scale, gradient], [weight, velocity], _) = args.parts(0);
    let [momentum, limit, l2] = [p.momentum, p.limit, p.l2].map(F::of);
    for i in 0..p.n as usize {
        let g = clipped(gradient[i] * scale[0], limit) + l2 * weight[i];
        velocity[i] = momentum * velocity[i] + g;
        let v = if p.nesterov == 1 { g + momentum * velocity[i] } else { velocity[i] };
        weight[i] = hyper[4] * weight[i] - hyper[0] * v;
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
    /// Adam, Nadam and RMSprop.
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

/// Twin of `shaders/adam.wgsl`.
fn adam<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Adam = call.params();
    let n = p.n as usize;
    let team = args.team;
    let threads = team.threads_for(n as u64 / WORTH_A_THREAD);
    let ([hyper, scale, gradient], [weight, m, v], _) = args.parts(0);
    let length = n.div_ceil(threads).max(1);
    let mut means = m[..p.means as usize * n].chunks_mut(length);
    let shares = weight[..n].chunks_mut(length).zip(v[..n].chunks_mut(length)).zip(gradient[..n].chunks(length));
    let shares = shares.map(|((weight, v), gradient)| AdamShare {
        p,
        hyper: std::array::from_fn(|k| hyper[k]),
        scale: scale[0],
        gradient,
        weight,
        m: means.next().unwrap_or_default(),
        v,
    });
    team.each(shares.collect(), dispatch);
}

/// The weights that a thread updates.
struct AdamShare<'a, F> {
    p: Adam,
    hyper: [F; HYPER],
    scale: F,
    gradient: &'a [F],
    weight: &'a mut [F],
    /// Empty if there is no mean of gradients.
    m: &'a mut [F],
    v: &'a mut [F],
}

impl<F: Real> Work for AdamShare<'_, F> {
    const WIDE: bool = is_f32::<F>();

    #[inline(always)]
    fn run<S: Isa>(self, _: S) {
        let [_, of_gradient, _, inside, left] = self.hyper;
        let adds = self.p.l2 != 0.0 || of_gradient != F::zero() || inside != F::zero() || left != F::one();
        // Plain Adam, the most common, has a loop without the terms that are 0: the same bits, faster.
        if self.p.limit == f32::MAX && !adds && !self.m.is_empty() {
            self.update::<true>()
        } else {
            self.update::<false>()
        }
    }
}

impl<F: Real> AdamShare<'_, F> {
    #[inline(always)]
    fn update<const PLAIN: bool>(self) {
        let Adam { beta1, take1, beta2, take2, limit, l2, .. } = self.p;
        let [beta1, take1, beta2, take2, limit, l2] = [beta1, take1, beta2, take2, limit, l2].map(F::of);
        let [of_mean, of_gradient, outside, inside, left] = self.hyper;
        let each = |g: F, weight: F, v: &mut F| {
            let g = g * self.scale;
            let g = if PLAIN { g } else { clipped(g, limit) + l2 * weight };
            *v = beta2 * *v + take2 * g * g;
            let root = if PLAIN { v.sqrt() } else { (*v + inside).sqrt() };
            (g, root + outside)
        };
        let memory = self.weight.iter_mut().zip(self.gradient).zip(self.v.iter_mut());
        if self.m.is_empty() {
            for ((weight, &gradient), v) in memory {
                let (g, reach) = each(gradient, *weight, v);
                *weight = left * *weight - of_gradient * g / reach;
            }
        } else {
            for (((weight, &gradient), v), m) in memory.zip(self.m) {
                let (g, reach) = each(gradient, *weight, v);
                *m = beta1 * *m + take1 * g;
                *weight = match PLAIN {
                    true => *weight - of_mean * *m / reach,
                    false => left * *weight - (of_gradient * g + of_mean * *m) / reach,
                };
            }
        }
    }
}

/// x cut off at ±limit; a NaN stays one.
fn clipped<F: Real>(x: F, limit: F) -> F {
    if x > limit {
        limit
    } else if x < -limit {
        -limit
    } else {
        x
    }
}
