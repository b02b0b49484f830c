//! Bias and activation of dense layers.

use super::declare::{constants, kernel, params};
use super::{Call, Region, Touch};
use crate::activation::Shape;
use crate::cpu::Args;
use crate::real::Real;

params! {
    /// `y[r, f] = activation(y[r, f] + bias[f])`.
    DenseForward {
        /// Rows.
        rows: u32,
        /// Features of a row.
        features: u32,
        /// 1: add the bias.
        has_bias: u32,
        /// First element of y.
        y_offset: u32,
        /// α of the activation.
        alpha: f32,
        /// β of the activation.
        beta: f32,
    }
}

constants! {
    /// Constants of [`DENSE_FORWARD`] and [`DENSE_BACKWARD`].
    DenseConstants {
        /// Kind of the activation.
        activation: u32,
    }
}

kernel! {
    /// Bias and activation of a dense layer, in place.
    DENSE_FORWARD = dense_forward(DenseForward, DenseConstants) {
        bindings: [read bias, write y],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.rows, p.features], flops: 4,
        touches: |p| [
            Touch::reads(Region::span(0, p.has_bias, p.features)),
            Touch::updates(Region::span(p.y_offset, p.rows, p.features), true),
        ],
    }
}

/// Twin of `shaders/dense_forward.wgsl`.
fn dense_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: DenseForward = call.params();
    let DenseConstants { activation: kind } = call.constants();
    let activation = Shape { kind, alpha: p.alpha, beta: p.beta };
    let ([bias], [y], _) = args.parts(0);
    let (rows, features) = (p.rows as usize, p.features as usize);
    for row in y[p.y_offset as usize..][..rows * features].chunks_exact_mut(features) {
        add_and_activate(row, (p.has_bias == 1).then_some(bias), activation);
    }
}

/// activation(row + bias), in place.
pub(super) fn add_and_activate<F: Real>(row: &mut [F], bias: Option<&[F]>, activation: Shape) {
    match bias {
        Some(bias) => row.iter_mut().zip(bias).for_each(|(value, &bias)| *value = activation.of(*value + bias)),
        None => row.iter_mut().for_each(|value| *value = activation.of(*value)),
    }
}

params! {
    /// `dy[i] *= activation'(y[i])`, with the derivative written in terms of the output.
    DenseBackward {
        /// Elements.
        n: u32,
        /// First element of y.
        y_offset: u32,
        /// First element of dy.
        dy_offset: u32,
        /// α of the activation.
        alpha: f32,
        /// β of the activation.
        beta: f32,
    }
}

kernel! {
    /// Gradient through a dense layer's activation, in place.
    DENSE_BACKWARD = dense_backward(DenseBackward, DenseConstants) {
        bindings: [read y, write dy],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.n], flops: 3,
        touches: |p| [
            Touch::reads(Region::span(p.y_offset, 1, p.n)),
            Touch::updates(Region::span(p.dy_offset, 1, p.n), true),
        ],
    }
}

/// Twin of `shaders/dense_backward.wgsl`.
fn dense_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: DenseBackward = call.params();
    let DenseConstants { activation: kind } = call.constants();
    let activation = Shape { kind, alpha: p.alpha, beta: p.beta };
    let ([y], [dy], _) = args.parts(0);
    let y = &y[p.y_offset as usize..][..p.n as usize];
    for (gradient, &y) in dy[p.dy_offset as usize..].iter_mut().zip(y) {
        *gradient *= activation.slope(y);
    }
}
