//! Softmax of rows, and its logarithm.

use super::declare::{constants, kernel, params};
use super::{Region, Touch};
use crate::cpu::{softmax_backward, softmax_forward};

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
