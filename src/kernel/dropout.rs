//! Dropout.

use super::declare::{kernel, params};
use super::{NoConstants, Region, Touch};
use crate::cpu::dropout;

params! {
    /// `dst[t, b, f] = src[t, b, f]·m`, m = 0 where the random bits of the index are below a threshold, else a factor. Rows may
    /// share their bits over time.
    Dropout {
        /// Steps.
        steps: u32,
        /// Rows of a step.
        rows: u32,
        /// Features of a row.
        features: u32,
        /// First element of the source.
        src_offset: u32,
        /// Source stride of a step.
        src_step: u32,
        /// Source stride of a row.
        src_row: u32,
        /// First element of the destination.
        dst_offset: u32,
        /// Destination stride of a step.
        dst_step: u32,
        /// Destination stride of a row.
        dst_row: u32,
        /// Index of the first element among the random bits of this site; features of a row, and rows, follow each other.
        index: u32,
        /// From one step's index to the next; 0: all steps share theirs.
        index_step: u32,
        /// Where random bits are counted.
        site: u32,
        /// Bits below this drop an element.
        threshold: u32,
        /// Factor of the others.
        scale: f32,
    }
}

kernel! {
    /// Dropout: elements set to 0 by random bits, the others scaled.
    DROPOUT = dropout(Dropout, NoConstants) {
        bindings: [read words, read src, write dst],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.steps, p.rows, p.features], flops: 1,
        touches: |p| p.touches(),
    }
}

impl Dropout {
    fn touches(&self) -> Vec<Touch> {
        let axes = |step: u32, row: u32| [(self.steps, step as i32), (self.rows, row as i32), (self.features, 1)];
        vec![
            Touch::reads(Region::span(0, 1, 2)),
            Touch::reads(Region::strided(self.src_offset, axes(self.src_step, self.src_row))),
            Touch::writes(Region::strided(self.dst_offset, axes(self.dst_step, self.dst_row))),
        ]
    }
}
