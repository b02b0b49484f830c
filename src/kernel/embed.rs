//! Embedding: rows of a table, by index.

use super::declare::{kernel, params};
use super::{NoConstants, Region, Touch};
use crate::cpu::{embed_backward, embed_forward};

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
