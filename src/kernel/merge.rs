//! Merging of the two directions of a layer.

use super::declare::{constants, kernel, params};
use super::{Region, Touch};
use crate::cpu::{merge_backward, merge_forward};

params! {
    /// The two halves of rows as one.
    MergeForward {
        /// Rows.
        rows: u32,
        /// K.
        width: u32,
        /// First element of x [rows, 2K].
        x_offset: u32,
        /// First element of y [rows, K].
        y_offset: u32,
    }
}

constants! {
    /// Constants of [`MERGE_FORWARD`] and [`MERGE_BACKWARD`].
    MergeConstants {
        /// How the two become one: sum, product or mean.
        kind: u32,
    }
}

kernel! {
    /// The two directions as one: sum, product or mean.
    MERGE_FORWARD = merge_forward(MergeForward, MergeConstants) {
        bindings: [read x, write y],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.rows, p.width], flops: 1,
        touches: |p| [
            Touch::reads(Region::span(p.x_offset, p.rows, 2 * p.width)),
            Touch::writes(Region::span(p.y_offset, p.rows, p.width)),
        ],
    }
}

params! {
    /// The gradient of both halves of rows.
    MergeBackward {
        /// Rows.
        rows: u32,
        /// K.
        width: u32,
        /// First element of x [rows, 2K].
        x_offset: u32,
        /// First element of dy [rows, K].
        dy_offset: u32,
        /// First element of dx [rows, 2K].
        dx_offset: u32,
    }
}

kernel! {
    /// Gradient of two directions that were merged.
    MERGE_BACKWARD = merge_backward(MergeBackward, MergeConstants) {
        bindings: [read x, read dy, write dx],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.rows, p.width], flops: 1,
        touches: |p| [
            Touch::reads(Region::span(p.x_offset, p.rows, 2 * p.width)),
            Touch::reads(Region::span(p.dy_offset, p.rows, p.width)),
            Touch::writes(Region::span(p.dx_offset, p.rows, 2 * p.width)),
        ],
    }
}
