//! Sums.

use super::declare::{kernel, params};
use super::{Call, NoConstants, Region, Touch};
use crate::cpu::Args;
use crate::real::Real;

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
        /// Copies of the sums to write (a layer with two biases gives both the same gradient).
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
        touches: |p| p.touches(),
    }
}

kernel! {
    /// The same sums, with a thread a column, for few rows.
    COLUMN_SUM_FEW = column_sum_few(ColumnSum, NoConstants) {
        bindings: [read a, write sums],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.columns],
        flops: p.rows as u64,
        touches: |p| p.touches(),
        twin: column_sum,
    }
}

impl ColumnSum {
    fn touches(&self) -> [Touch; 2] {
        [
            Touch::reads(Region::span(self.a_offset, self.rows, self.columns)),
            Touch::updates(Region::span(self.out_offset, self.copies, self.columns), self.accumulate == 1),
        ]
    }
}

/// Twin of `shaders/column_sum.wgsl` and `shaders/column_sum_few.wgsl`.
fn column_sum<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: ColumnSum = call.params();
    let (rows, columns) = (p.rows as usize, p.columns as usize);
    if !args.reserve(columns) {
        return;
    }
    let ([a], [sums], total) = args.parts(columns);
    total.fill(F::zero());
    for row in a[p.a_offset as usize..][..rows * columns].chunks_exact(columns) {
        for (sum, &value) in total.iter_mut().zip(row) {
            *sum += value;
        }
    }
    for copy in sums[p.out_offset as usize..][..p.copies as usize * columns].chunks_exact_mut(columns) {
        for (sum, &value) in copy.iter_mut().zip(&*total) {
            *sum = if p.accumulate == 1 { *sum + value } else { value };
        }
    }
}

params! {
    /// `sums[out_offset + g]` = Σ values (or squares) of slice g.
    Reduce {
        /// Number of elements.
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
        groups: |p| [p.slices(), 1, 1],
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

/// Twin of `shaders/reduce.wgsl`.
fn reduce<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Reduce = call.params();
    let ([values], [sums], _) = args.parts(0);
    let values = &values[p.offset as usize..][..p.n as usize];
    for (group, slice) in values.chunks(p.per_group as usize).enumerate() {
        sums[p.out_offset as usize + group] =
            slice.iter().map(|&value| if p.square == 1 { value * value } else { value }).sum();
    }
}
