//! Bias and activation of dense layers.

use super::Args;
use crate::kernel::{
    Call,
    params::{DenseBackward, DenseForward},
};
use crate::layer::Activation;
use crate::real::{Real, sigmoid, tanh};

fn activate<F: Real>(activation: Activation, x: F) -> F {
    match activation {
        Activation::Linear => x,
        Activation::Relu => x.max(F::zero()),
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => tanh(x),
    }
}

/// The derivative in terms of the output y.
fn slope<F: Real>(activation: Activation, y: F) -> F {
    match activation {
        Activation::Linear => F::one(),
        Activation::Relu if y > F::zero() => F::one(),
        Activation::Relu => F::zero(),
        Activation::Sigmoid => y * (F::one() - y),
        Activation::Tanh => F::one() - y * y,
    }
}

/// Twin of `shaders/dense_forward.wgsl`.
pub fn dense_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: DenseForward = call.params();
    let activation = Activation::ALL[call.constants[0] as usize];
    let ([bias, y], _) = args.parts(0);
    let (rows, features) = (p.rows as usize, p.features as usize);
    for row in y[p.y_offset as usize..][..rows * features].chunks_exact_mut(features) {
        for (f, value) in row.iter_mut().enumerate() {
            let z = if p.has_bias == 1 { *value + bias[f] } else { *value };
            *value = activate(activation, z);
        }
    }
}

/// Twin of `shaders/dense_backward.wgsl`.
pub fn dense_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: DenseBackward = call.params();
    let activation = Activation::ALL[call.constants[0] as usize];
    let ([y, dy], _) = args.parts(0);
    let y = &y[p.y_offset as usize..][..p.n as usize];
    for (gradient, &y) in dy[p.dy_offset as usize..].iter_mut().zip(y) {
        *gradient *= slope(activation, y);
    }
}
