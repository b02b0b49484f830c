//! What happens to sequences row by row: dropout, zeros past the end, states carried over.

use super::Args;
use super::recurrence::{Words, time};
use crate::kernel::{
    Call,
    params::{Carry, Dropout, Trim},
};
use crate::random::bits;
use crate::real::Real;

/// Twin of `shaders/dropout.wgsl`.
pub fn dropout<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Dropout = call.params();
    let ([words, src], [dst], _) = args.parts(0);
    let (key, scale) = ([words[0].word(), words[1].word()], F::of(p.scale));
    for t in 0..p.steps {
        for row in 0..p.rows {
            let from = &src[(p.src_offset + t * p.src_step + row * p.src_row) as usize..][..p.features as usize];
            let to = &mut dst[(p.dst_offset + t * p.dst_step + row * p.dst_row) as usize..][..p.features as usize];
            let mut index =
                p.index.wrapping_add(t.wrapping_mul(p.index_step)).wrapping_add(row.wrapping_mul(p.features));
            for (to, &from) in to.iter_mut().zip(from) {
                *to = if bits(key, [index, p.site])[0] < p.threshold { F::zero() } else { from * scale };
                index = index.wrapping_add(1);
            }
        }
    }
}

/// Twin of `shaders/trim.wgsl`.
pub fn trim<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Trim = call.params();
    let ([words, src], [dst], _) = args.parts(0);
    let at = |offset: u32, s: u32, step: i32, row: u32, row_stride: i32| {
        (offset as i64 + s as i64 * step as i64 + row as i64 * row_stride as i64) as usize
    };
    for s in 0..p.steps {
        let time = p.time as i64 + s as i64 * p.time_step as i64;
        for row in 0..p.batch {
            let from = &src[at(p.src_offset, s, p.src_step, row, p.src_row)..][..p.features as usize];
            let to = &mut dst[at(p.dst_offset, s, p.dst_step, row, p.dst_row)..][..p.features as usize];
            if time < words[2 + row as usize].word() as i64 {
                to.copy_from_slice(from);
            } else {
                to.fill(F::zero());
            }
        }
    }
}

/// Twin of `shaders/carry.wgsl`.
pub fn carry<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Carry = call.params();
    let ([words, src], [dst], _) = args.parts(0);
    let (batch, n) = (p.batch as usize, p.features as usize);
    for row in 0..p.directions as usize * batch {
        if Words(words).holds(row % batch, time(p.step as usize, p.total_steps, row / batch, p.backwards)) {
            continue;
        }
        let from = &src[p.src_offset as usize + row * n..][..n];
        let to = &mut dst[p.dst_offset as usize + row * n..][..n];
        for (to, &from) in to.iter_mut().zip(from) {
            *to = if p.add == 1 { *to + from } else { from };
        }
    }
}
