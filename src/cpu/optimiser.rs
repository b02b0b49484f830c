//! Gradient clipping and the optimisers' updates.

use super::Args;
use crate::kernel::{
    Call,
    params::{Adam, Clip, Sgd},
};
use crate::real::Real;

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
    let ([hyper, scale, gradient, weight, m, v], _) = args.parts(0);
    for i in 0..p.n as usize {
        let g = gradient[i] * scale[0];
        m[i] = F::of(p.beta1) * m[i] + F::of(p.take1) * g;
        v[i] = F::of(p.beta2) * v[i] + F::of(p.take2) * g * g;
        weight[i] -= hyper[0] * m[i] / (v[i].sqrt() + hyper[1]);
    }
}
