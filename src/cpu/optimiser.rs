//! Gradient clipping and the optimisers' updates.

use super::Args;
use super::team::WORTH_A_THREAD;
use crate::kernel::{
    Call,
    params::{Adam, Clip, MaxNorm, Penalty, Sgd},
};
use crate::real::Real;
use crate::simd::{Work, dispatch};
use crate::train::HYPER;
use pulp::Simd;

/// Twin of `shaders/clip.wgsl`.
pub fn clip<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Clip = call.params();
    let ([squares], [scale], _) = args.parts(0);
    let norm = squares[..p.n as usize].iter().copied().sum::<F>().sqrt();
    scale[0] = F::one().min(F::of(p.max_norm) / (norm + F::of(1e-6)));
    scale[1] = norm;
}

/// Twin of `shaders/sgd.wgsl`.
pub fn sgd<F: Real>(call: &Call, args: &mut Args<F>) {
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

/// Twin of `shaders/penalty.wgsl`.
pub fn penalty<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Penalty = call.params();
    let ([weight], [gradient], _) = args.parts(0);
    for (g, &w) in gradient[..p.n as usize].iter_mut().zip(weight) {
        let sign = if w == F::zero() { F::zero() } else { w.signum() };
        *g += F::of(p.l1) * sign + F::of(p.l2) * w;
    }
}

/// Twin of `shaders/max_norm.wgsl`.
pub fn max_norm<F: Real>(call: &Call, args: &mut Args<F>) {
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

/// Twin of `shaders/adam.wgsl`.
pub fn adam<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Adam = call.params();
    let n = p.n as usize;
    let team = args.team;
    let threads = team.threads_for(n as u64 / WORTH_A_THREAD);
    let ([hyper, scale, gradient], [weight, m, v], _) = args.parts(0);
    let length = n.div_ceil(threads).max(1);
    let mut means = m[..p.means as usize * n].chunks_mut(length);
    let parts = weight[..n].chunks_mut(length).zip(v[..n].chunks_mut(length)).zip(gradient[..n].chunks(length));
    let parts = parts.map(|((weight, v), gradient)| Part {
        p,
        hyper: std::array::from_fn(|k| hyper[k]),
        scale: scale[0],
        gradient,
        weight,
        m: means.next().unwrap_or_default(),
        v,
    });
    team.each(parts.collect(), dispatch);
}

/// A thread's weights.
struct Part<'a, F> {
    p: Adam,
    hyper: [F; HYPER],
    scale: F,
    gradient: &'a [F],
    weight: &'a mut [F],
    /// Empty where there is no mean of gradients.
    m: &'a mut [F],
    v: &'a mut [F],
}

impl<F: Real> Work for Part<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let [_, of_gradient, _, inside, left] = self.hyper;
        let adds = self.p.l2 != 0.0 || of_gradient != F::zero() || inside != F::zero() || left != F::one();
        // Adam without anything added, the commonest, has a loop without the terms that are 0: the same bits, sooner.
        if self.p.limit == f32::MAX && !adds && !self.m.is_empty() {
            self.update::<true>()
        } else {
            self.update::<false>()
        }
    }
}

impl<F: Real> Part<'_, F> {
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
