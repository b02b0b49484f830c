//! Bias and activation of dense layers, of elements and of rows.

use super::Args;
use crate::activation::Shape;
use crate::kernel::{
    Call,
    params::{DenseBackward, DenseForward, SoftmaxBackward, SoftmaxForward},
};
use crate::real::Real;

/// Twin of `shaders/dense_forward.wgsl`.
pub fn dense_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: DenseForward = call.params();
    let activation = Shape { kind: call.constants[0], alpha: p.alpha, beta: p.beta };
    let ([bias], [y], _) = args.parts(0);
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
    let ([y], [dy], _) = args.parts(0);
    let y = &y[p.y_offset as usize..][..p.n as usize];
    for (gradient, &y) in dy[p.dy_offset as usize..].iter_mut().zip(y) {
        *gradient *= activation.slope(y);
    }
}

/// Twin of `shaders/softmax_forward.wgsl`.
pub fn softmax_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: SoftmaxForward = call.params();
    let logarithm = call.constants[0] == 1;
    let ([], [y], _) = args.parts(0);
    let features = p.features as usize;
    for row in y[p.y_offset as usize..][..p.rows as usize * features].chunks_exact_mut(features) {
        let most = row.iter().copied().fold(F::neg_infinity(), F::max);
        let sum: F = row.iter().map(|&z| (z - most).exp()).sum();
        for z in row {
            let moved = *z - most;
            *z = if logarithm { moved - sum.ln() } else { moved.exp() / sum };
        }
    }
}

/// Twin of `shaders/softmax_backward.wgsl`.
pub fn softmax_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: SoftmaxBackward = call.params();
    let logarithm = call.constants[0] == 1;
    let ([y], [dy], _) = args.parts(0);
    let features = p.features as usize;
    let rows = y[p.y_offset as usize..].chunks_exact(features).take(p.rows as usize);
    for (y, dy) in rows.zip(dy[p.dy_offset as usize..].chunks_exact_mut(features)) {
        let sum: F = y.iter().zip(dy.iter()).map(|(&y, &d)| if logarithm { d } else { y * d }).sum();
        for (d, &y) in dy.iter_mut().zip(y) {
            *d = if logarithm { *d - y.exp() * sum } else { y * (*d - sum) };
        }
    }
}
