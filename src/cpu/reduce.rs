//! Sums.

use super::Args;
use crate::kernel::{
    Call,
    params::{ColumnSum, Reduce},
};
use crate::real::Real;

/// Twin of `shaders/column_sum.wgsl`.
pub fn column_sum<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: ColumnSum = call.params();
    let (rows, columns) = (p.rows as usize, p.columns as usize);
    if !args.reserve(columns) {
        return;
    }
    let ([a, sums], total) = args.parts(columns);
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

/// Twin of `shaders/reduce.wgsl`.
pub fn reduce<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Reduce = call.params();
    let ([values, sums], _) = args.parts(0);
    let values = &values[p.offset as usize..][..p.n as usize];
    for (group, slice) in values.chunks(p.per_group as usize).enumerate() {
        sums[p.out_offset as usize + group] =
            slice.iter().map(|&value| if p.square == 1 { value * value } else { value }).sum();
    }
}
