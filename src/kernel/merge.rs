//! Merging of the two directions of a layer.

use super::declare::{constants, kernel, kinds, params};
use super::{Call, Region, Touch};
use crate::cpu::Args;
use crate::real::Real;

kinds! {
    /// Arithmetic that merges the outputs of two directions.
    MergeKind {
        /// Their sum.
        Sum,
        /// Their product.
        Product,
        /// Their mean.
        Mean,
    }
}

params! {
    /// Merges the two halves of every row.
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
        /// The arithmetic.
        kind: MergeKind,
    }
}

kernel! {
    /// Sum, product or mean of the two directions.
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

/// Twin of `shaders/merge_forward.wgsl`.
fn merge_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: MergeForward = call.params();
    let MergeConstants { kind } = call.constants();
    let ([x], [y], _) = args.parts(0);
    let width = p.width as usize;
    let rows = x[p.x_offset as usize..].chunks_exact(2 * width);
    for (y, x) in y[p.y_offset as usize..].chunks_exact_mut(width).zip(rows).take(p.rows as usize) {
        for (k, y) in y.iter_mut().enumerate() {
            let (one, other) = (x[k], x[k + width]);
            *y = match kind {
                MergeKind::Sum => one + other,
                MergeKind::Product => one * other,
                MergeKind::Mean => F::of(0.5) * (one + other),
            };
        }
    }
}

params! {
    /// Gradients of both halves of every row.
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

/// Twin of `shaders/merge_backward.wgsl`.
fn merge_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: MergeBackward = call.params();
    let MergeConstants { kind } = call.constants();
    let ([x, dy], [dx], _) = args.parts(0);
    let width = p.width as usize;
    for row in 0..p.rows as usize {
        let x = &x[p.x_offset as usize..];
        let dy = &dy[p.dy_offset as usize + row * width..][..width];
        let dx = &mut dx[p.dx_offset as usize + 2 * row * width..][..2 * width];
        for (k, &d) in dy.iter().enumerate() {
            let factors = match kind {
                MergeKind::Sum => [F::one(); 2],
                MergeKind::Product => [x[(2 * row + 1) * width + k], x[2 * row * width + k]],
                MergeKind::Mean => [F::of(0.5); 2],
            };
            (dx[k], dx[k + width]) = (d * factors[0], d * factors[1]);
        }
    }
}
