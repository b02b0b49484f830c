//! Embedding: rows of a table, by index.

use super::declare::{kernel, params};
use super::{Call, NoConstants, Region, Touch};
use crate::cpu::Args;
use crate::real::Real;

params! {
    /// Rows of a table, by index.
    EmbedForward {
        /// Rows.
        rows: u32,
        /// Features of a row.
        features: u32,
        /// Entries of the table.
        entries: u32,
        /// First index, `[rows]`.
        index_offset: u32,
        /// First element of y [rows, features].
        y_offset: u32,
    }
}

kernel! {
    /// Rows of a table, by index.
    EMBED_FORWARD = embed_forward(EmbedForward, NoConstants) {
        bindings: [read weight, read index, write y],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.rows, p.features], flops: 0,
        touches: |p| p.touches(),
    }
}

impl EmbedForward {
    fn touches(&self) -> Vec<Touch> {
        let own = |offset: u32, rows: u32| Region::span(offset, rows, self.features);
        vec![
            Touch::reads(own(0, self.entries)),
            Touch::reads(Region::span(self.index_offset, 1, self.rows)),
            Touch::writes(own(self.y_offset, self.rows)),
        ]
    }
}

/// Twin of `shaders/embed_forward.wgsl`.
fn embed_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: EmbedForward = call.params();
    let ([weight, index], [y], _) = args.parts(0);
    let n = p.features as usize;
    for (y, &index) in
        y[p.y_offset as usize..].chunks_exact_mut(n).zip(&index[p.index_offset as usize..][..p.rows as usize])
    {
        y.copy_from_slice(&weight[entry(index, p.entries) * n..][..n]);
    }
}

/// The entry of an index. Indices beyond the last entry, which the host refuses, are clamped to it.
fn entry<F: Real>(index: F, entries: u32) -> usize {
    index.to_usize().unwrap_or(0).min(entries as usize - 1)
}

params! {
    /// Gradients added to rows of a table, by index.
    EmbedBackward {
        /// Rows.
        rows: u32,
        /// Features of a row.
        features: u32,
        /// Entries of the table.
        entries: u32,
        /// First index, `[rows]`.
        index_offset: u32,
        /// First element of dy [rows, features].
        dy_offset: u32,
    }
}

kernel! {
    /// Gradient of a table's rows, by index.
    EMBED_BACKWARD = embed_backward(EmbedBackward, NoConstants) {
        bindings: [read dy, read index, write dweight],
        workgroup: [64, 1, 1],
        groups: |p| [p.features.div_ceil(64) as u64, 1, 1],
        flops: |p| p.rows as u64 * p.features as u64,
        touches: |p| p.touches(),
    }
}

impl EmbedBackward {
    fn touches(&self) -> Vec<Touch> {
        let own = |offset: u32, rows: u32| Region::span(offset, rows, self.features);
        vec![
            Touch::reads(own(self.dy_offset, self.rows)),
            Touch::reads(Region::span(self.index_offset, 1, self.rows)),
            Touch::updates(own(0, self.entries), true),
        ]
    }
}

/// Twin of `shaders/embed_backward.wgsl`.
fn embed_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: EmbedBackward = call.params();
    let ([dy, index], [dweight], _) = args.parts(0);
    let n = p.features as usize;
    let rows = dy[p.dy_offset as usize..].chunks_exact(n);
    for (dy, &index) in rows.zip(&index[p.index_offset as usize..][..p.rows as usize]) {
        let own = &mut dweight[entry(index, p.entries) * n..][..n];
        own.iter_mut().zip(dy).for_each(|(sum, &d)| *sum += d);
    }
}
