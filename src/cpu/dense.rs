//! Bias and activation of dense layers.

use super::Args;
use crate::activation::Shape;
use crate::kernel::{
    Call,
    params::{DenseBackward, DenseForward},
};
use crate::real::Real;

/// Twin of `shaders/dense_forward.wgsl`.
pub fn dense_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: DenseForward = call.params();
    let activation = Shape { kind: call.constants[0], alpha: p.alpha, beta: p.beta };
    let ([bias, y], _) = args.parts(0);
    let (rows, features) = (p.rows as usize, p.features as usize);
    for row in y[p.y_offset as usize..][..rows * features].chunks_exact_mut(features) {
        for (f, value) in row.iter_mut().enumerate() {
            let z = if p.has_bias == 1 { *value + bias[f] } else { *value };
            *value = activation.of(z);
        }
    }
}

/// Twin of `shaders/dense_backward.wgsl`.
pub fn dense_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: DenseBackward = call.params();
    let activation = Shape { kind: call.constants[0], alpha: p.alpha, beta: p.beta };
    let ([y, dy], _) = args.parts(0);
    let y = &y[p.y_offset as usize..][..p.n as usize];
    for (gradient, &y) in dy[p.dy_offset as usize..].iter_mut().zip(y) {
        *gradient *= activation.slope(y);
    }
}
