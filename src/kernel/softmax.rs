//! Softmax of rows, and its logarithm.

use super::declare::{constants, kernel, params};
use super::{Call, Region, Touch};
use crate::cpu::Args;
use crate::real::Real;

params! {
    /// Softmax of rows, or its logarithm, in place.
    SoftmaxForward {
        /// Rows.
        rows: u32,
        /// Features of a row.
        features: u32,
        /// First element of y [rows, features].
        y_offset: u32,
    }
}

constants! {
    /// Constants of [`SOFTMAX_FORWARD`] and [`SOFTMAX_BACKWARD`].
    SoftmaxConstants {
        /// True for the logarithm of softmax.
        log: bool,
    }
}

kernel! {
    /// Softmax of rows, or its logarithm, in place.
    SOFTMAX_FORWARD = softmax_forward(SoftmaxForward, SoftmaxConstants) {
        bindings: [write y],
        workgroup: [64, 1, 1],
        elementwise: |p| [p.rows], flops: 6 * p.features as u64,
        touches: |p| [Touch::updates(Region::span(p.y_offset, p.rows, p.features), true)],
    }
}

/// Twin of `shaders/softmax_forward.wgsl`.
fn softmax_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: SoftmaxForward = call.params();
    let SoftmaxConstants { log } = call.constants();
    let ([], [y], _) = args.parts(0);
    let features = p.features as usize;
    for row in y[p.y_offset as usize..][..p.rows as usize * features].chunks_exact_mut(features) {
        let most = row.iter().copied().fold(F::neg_infinity(), F::max);
        let sum: F = row.iter().map(|&z| (z - most).exp()).sum();
        for z in row {
            let moved = *z - most;
            *z = if log { moved - sum.ln() } else { moved.exp() / sum };
        }
    }
}

params! {
    /// Gradient through softmax of rows, or its logarithm, in place.
    SoftmaxBackward {
        /// Rows.
        rows: u32,
        /// Features of a row.
        features: u32,
        /// First element of y [rows, features].
        y_offset: u32,
        /// First element of dy [rows, features].
        dy_offset: u32,
    }
}

kernel! {
    /// Gradient through softmax, or its logarithm, in place.
    SOFTMAX_BACKWARD = softmax_backward(SoftmaxBackward, SoftmaxConstants) {
        bindings: [read y, write dy],
        workgroup: [64, 1, 1],
        elementwise: |p| [p.rows], flops: 4 * p.features as u64,
        touches: |p| [
            Touch::reads(Region::span(p.y_offset, p.rows, p.features)),
            Touch::updates(Region::span(p.dy_offset, p.rows, p.features), true),
        ],
    }
}

/// Twin of `shaders/softmax_backward.wgsl`.
fn softmax_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: SoftmaxBackward = call.params();
    let SoftmaxConstants { log } = call.constants();
    let ([y], [dy], _) = args.parts(0);
    let features = p.features as usize;
    let rows = y[p.y_offset as usize..].chunks_exact(features).take(p.rows as usize);
    for (y, dy) in rows.zip(dy[p.dy_offset as usize..].chunks_exact_mut(features)) {
        let sum: F = y.iter().zip(dy.iter()).map(|(&y, &d)| if log { d } else { y * d }).sum();
        for (d, &y) in dy.iter_mut().zip(y) {
            *d = if log { *d - y.exp() * sum } else { y * (*d - sum) };
        }
    }
}
