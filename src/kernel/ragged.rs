//! Rows past the end of their sequence: outputs set to zero, states carried on.

use super::declare::{kernel, params};
use super::{Call, NoConstants, Region, Touch};
use crate::cpu::{Args, KeyAndLengths, time};
use crate::real::Real;

params! {
    /// `dst[s, b, f] = src[s, b, f]` where the time of step s is before the row's length, else 0.
    Trim {
        /// Steps.
        steps: u32,
        /// B.
        batch: u32,
        /// Features of a row.
        features: u32,
        /// First element of the source.
        src_offset: u32,
        /// Source stride of a step.
        src_step: i32,
        /// Source stride of a row.
        src_row: i32,
        /// First element of the destination.
        dst_offset: u32,
        /// Destination stride of a step.
        dst_step: i32,
        /// Destination stride of a row.
        dst_row: i32,
        /// Time of the first step.
        time: u32,
        /// Stride of the time by step: 1 or −1.
        time_step: i32,
    }
}

kernel! {
    /// Copy of a sequence with zeros past each row's end.
    TRIM = trim(Trim, NoConstants) {
        bindings: [read words, read src, write dst],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.steps, p.batch, p.features], flops: 0,
        touches: |p| p.touches(),
    }
}

impl Trim {
    fn touches(&self) -> Vec<Touch> {
        let axes = |step: i32, row: i32| [(self.steps, step), (self.batch, row), (self.features, 1)];
        vec![
            Touch::reads(Region::span(2, 1, self.batch)),
            Touch::reads(Region::strided(self.src_offset, axes(self.src_step, self.src_row))),
            Touch::writes(Region::strided(self.dst_offset, axes(self.dst_step, self.dst_row))),
        ]
    }
}

/// Twin of `shaders/trim.wgsl`.
fn trim<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Trim = call.params();
    let ([key_and_lengths, src], [dst], _) = args.parts(0);
    let at = |offset: u32, s: u32, step: i32, row: u32, row_stride: i32| {
        (offset as i64 + s as i64 * step as i64 + row as i64 * row_stride as i64) as usize
    };
    for s in 0..p.steps {
        let time = p.time as i64 + s as i64 * p.time_step as i64;
        for row in 0..p.batch {
            let from = &src[at(p.src_offset, s, p.src_step, row, p.src_row)..][..p.features as usize];
            let to = &mut dst[at(p.dst_offset, s, p.dst_step, row, p.dst_row)..][..p.features as usize];
            if time < key_and_lengths[2 + row as usize].word() as i64 {
                to.copy_from_slice(from);
            } else {
                to.fill(F::zero());
            }
        }
    }
}

params! {
    /// `dst[d, b, f] (+)= src[d, b, f]` in rows that are past the end of their sequence at a step's time.
    Carry {
        /// B.
        batch: u32,
        /// D.
        directions: u32,
        /// Features of a row.
        features: u32,
        /// First element of the source [D, B, features].
        src_offset: u32,
        /// First element of the destination.
        dst_offset: u32,
        /// The step of the scan.
        step: u32,
        /// T.
        total_steps: u32,
        /// 1: direction 0 runs from the end of time.
        backwards: u32,
        /// 1: add to the destination; 0: overwrite it.
        add: u32,
    }
}

kernel! {
    /// Copy of states, or sum of gradients, in rows that are past the end of their sequence.
    CARRY = carry(Carry, NoConstants) {
        bindings: [read words, read src, write dst],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.directions, p.batch, p.features], flops: 0,
        touches: |p| p.touches(),
    }
}

impl Carry {
    fn touches(&self) -> Vec<Touch> {
        let rows = |at: u32| Region::span(at, self.directions * self.batch, self.features);
        vec![
            Touch::reads(Region::span(2, 1, self.batch)),
            Touch::reads(rows(self.src_offset)),
            Touch::updates(rows(self.dst_offset), true),
        ]
    }
}

/// Twin of `shaders/carry.wgsl`.
fn carry<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Carry = call.params();
    let ([key_and_lengths, src], [dst], _) = args.parts(0);
    let (batch, n) = (p.batch as usize, p.features as usize);
    for row in 0..p.directions as usize * batch {
        if KeyAndLengths(key_and_lengths)
            .holds(row % batch, time(p.step as usize, p.total_steps, row / batch, p.backwards))
        {
            continue;
        }
        let from = &src[p.src_offset as usize + row * n..][..n];
        let to = &mut dst[p.dst_offset as usize + row * n..][..n];
        for (to, &from) in to.iter_mut().zip(from) {
            *to = if p.add == 1 { *to + from } else { from };
        }
    }
}
