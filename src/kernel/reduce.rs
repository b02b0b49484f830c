//! Sums.

use super::declare::{kernel, params};
use super::{NoConstants, Region, Touch};
use crate::cpu::{column_sum, reduce};

params! {
    /// `sums[n] (+)= Σ_row a[row, n]`, written `copies` times.
    ColumnSum {
        /// Rows to sum.
        rows: u32,
        /// Columns.
        columns: u32,
        /// First element of a; its rows are contiguous.
        a_offset: u32,
        /// First element of the sums.
        out_offset: u32,
        /// How many copies of the sums to write (a layer with two biases gives both the same gradient).
        copies: u32,
        /// 1: add to the sums; 0: overwrite them.
        accumulate: u32,
    }
}

kernel! {
    /// Sum over rows: the gradient of a bias.
    COLUMN_SUM = column_sum(ColumnSum, NoConstants) {
        bindings: [read a, write sums],
        workgroup: [16, 16, 1],
        groups: |p| [p.columns.div_ceil(16) as u64, 1, 1],
        flops: |p| p.rows as u64 * p.columns as u64,
        touches: |p| [
            Touch::reads(Region::span(p.a_offset, p.rows, p.columns)),
            Touch::updates(Region::span(p.out_offset, p.copies, p.columns), p.accumulate == 1),
        ],
    }
}

params! {
    /// `sums[out_offset + g]` = Σ values (or squares) of slice g.
    Reduce {
        /// Elements in all.
        n: u32,
        /// First element.
        offset: u32,
        /// Elements of a slice; each workgroup sums one.
        per_group: u32,
        /// First element of the sums.
        out_offset: u32,
        /// 1: sum squares.
        square: u32,
    }
}

kernel! {
    /// Sums, or sums of squares, of slices; run twice it sums anything in a fixed order.
    REDUCE = reduce(Reduce, NoConstants) {
        bindings: [read values, write sums],
        workgroup: [256, 1, 1],
        groups: |p| [p.slices() as u64, 1, 1],
        flops: |p| p.n as u64 * (1 + p.square as u64),
        touches: |p| [
            Touch::reads(Region::span(p.offset, 1, p.n)),
            Touch::writes(Region::span(p.out_offset, 1, p.slices() as u32)),
        ],
    }
}

impl Reduce {
    fn slices(&self) -> u64 {
        (self.n as u64).div_ceil(self.per_group as u64)
    }
}
