//! Copies and fills.

use super::Args;
use crate::kernel::{
    Call,
    params::{Copy, Fill},
};
use crate::real::Real;

/// Twin of `shaders/copy.wgsl`.
pub fn copy<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Copy = call.params();
    let ([src, dst], _) = args.parts(0);
    let at = |offset: u32, index: [u32; 4], strides: [i32; 4]| {
        (offset as i64 + (0..4).map(|k| index[k] as i64 * strides[k] as i64).sum::<i64>()) as usize
    };
    for i0 in 0..p.n0 {
        for i1 in 0..p.n1 {
            for i2 in 0..p.n2 {
                for i3 in 0..p.n3 {
                    let index = [i0, i1, i2, i3];
                    let from = at(p.src_offset, index, [p.src_0, p.src_1, p.src_2, p.src_3]);
                    let to = at(p.dst_offset, index, [p.dst_0, p.dst_1, p.dst_2, p.dst_3]);
                    dst[to] = if p.add == 1 { dst[to] + src[from] } else { src[from] };
                }
            }
        }
    }
}

/// Twin of `shaders/fill.wgsl`.
pub fn fill<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Fill = call.params();
    let ([dst], _) = args.parts(0);
    dst[p.offset as usize..][..p.n as usize].fill(F::of(p.value));
}
