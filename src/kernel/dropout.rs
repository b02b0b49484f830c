//! Dropout.

use super::declare::{kernel, params};
use super::{Call, NoConstants, Region, Touch};
use crate::cpu::Args;
use crate::random::bits;
use crate::real::Real;

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
        /// Index of the first element in the stream of random bits. It counts the features of a row, then the rows of a step.
        index: u32,
        /// Stride of the index by step; 0: all steps have the same bits.
        index_step: u32,
        /// Stream of random bits.
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

/// Twin of `shaders/dropout.wgsl`.
fn dropout<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Dropout = call.params();
    let ([key_and_lengths, src], [dst], _) = args.parts(0);
    let (key, scale) = ([key_and_lengths[0].word(), key_and_lengths[1].word()], F::of(p.scale));
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
