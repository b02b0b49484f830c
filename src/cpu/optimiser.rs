//! Gradient clipping and the optimisers' updates.

use super::Args;
use super::workers::WORTH_A_THREAD;
use crate::kernel::{
    Call,
    params::{Adam, Clip, Sgd},
};
use crate::real::Real;
use crate::simd::{Work, dispatch};
use pulp::Simd;

/// Twin of `shaders/clip.wgsl`.
pub fn clip<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Clip = call.params();
    let ([squares, scale], _) = args.parts(0);
    let norm = squares[..p.n as usize].iter().copied().sum::<F>().sqrt();
    scale[0] = F::one().min(F::of(p.max_norm) / (norm + F::of(1e-6)));
    scale[1] = norm;
}

/// Twin of `shaders/sgd.wgsl`.
pub fn sgd<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Sgd = call.params();
    let ([hyper, scale, gradient, weight, velocity], _) = args.parts(0);
    for i in 0..p.n as usize {
        velocity[i] = F::of(p.momentum) * velocity[i] + gradient[i] * scale[0];
        weight[i] -= hyper[0] * velocity[i];
    }
}

/// Twin of `shaders/adam.wgsl`.
pub fn adam<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Adam = call.params();
    let n = p.n as usize;
    let team = args.team;
    let threads = team.threads_for(n as u64 / WORTH_A_THREAD);
    let ([hyper, scale, gradient, weight, m, v], _) = args.parts(0);
    let length = n.div_ceil(threads).max(1);
    let own = weight[..n].chunks_mut(length).zip(m[..n].chunks_mut(length)).zip(v[..n].chunks_mut(length));
    let parts = gradient[..n].chunks(length).zip(own).map(|(gradient, ((weight, m), v))| Part {
        p,
        rate: hyper[0],
        epsilon: hyper[1],
        scale: scale[0],
        gradient,
        weight,
        m,
        v,
    });
    team.each(parts.collect(), dispatch);
}

/// A thread's weights.
struct Part<'a, F> {
    p: Adam,
    rate: F,
    epsilon: F,
    scale: F,
    gradient: &'a [F],
    weight: &'a mut [F],
    m: &'a mut [F],
    v: &'a mut [F],
}

impl<F: Real> Work for Part<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let [beta1, take1, beta2, take2] = [self.p.beta1, self.p.take1, self.p.beta2, self.p.take2].map(F::of);
        let memory = self.m.iter_mut().zip(self.v.iter_mut());
        for ((weight, &gradient), (m, v)) in self.weight.iter_mut().zip(self.gradient).zip(memory) {
            let g = gradient * self.scale;
            *m = beta1 * *m + take1 * g;
            *v = beta2 * *v + take2 * g * g;
            *weight -= self.rate * *m / (v.sqrt() + self.epsilon);
        }
    }
}
