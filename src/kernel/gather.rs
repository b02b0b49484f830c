//! Batches of a data set that lies on the device.

use super::declare::{kernel, params};
use super::{Call, NoConstants, Region, Touch};
use crate::cpu::Args;
use crate::real::Real;

params! {
    /// `dst[t, b, f] = src[at[1 + b], at[0] + step + t, f]`: the steps from `at[0]` of the sequences that `at` lists, time-major.
    Gather {
        /// Steps.
        steps: u32,
        /// B.
        batch: u32,
        /// Features of a row.
        features: u32,
        /// Sequences of the data set.
        sequences: u32,
        /// Steps of a sequence of the data set.
        src_steps: u32,
        /// First step, after that of the list.
        step: u32,
        /// First element of dst.
        dst_offset: u32,
    }
}

kernel! {
    /// Sequences of a data set, by index, in the order of time.
    GATHER = gather(Gather, NoConstants) {
        bindings: [read at, read src, write dst],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.steps, p.batch, p.features], flops: 0,
        touches: |p| p.touches(),
    }
}

impl Gather {
    fn touches(&self) -> Vec<Touch> {
        let own = |offset: u32, rows: u32| Region::span(offset, rows, self.features);
        vec![
            Touch::reads(Region::span(0, 1, 1 + self.batch)),
            Touch::reads(own(0, self.sequences * self.src_steps)),
            Touch::writes(own(self.dst_offset, self.steps * self.batch)),
        ]
    }
}

/// Twin of `shaders/gather.wgsl`.
fn gather<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Gather = call.params();
    let ([at, src], [dst], _) = args.parts(0);
    let n = p.features as usize;
    let rows = dst[p.dst_offset as usize..].chunks_exact_mut(n).take(p.steps as usize * p.batch as usize);
    for (row, to) in (0..).zip(rows) {
        let (step, b) = (row / p.batch, row % p.batch);
        let sequence = at[1 + b as usize].word().min(p.sequences - 1);
        let time = (at[0].word().min(p.src_steps) + p.step + step).min(p.src_steps - 1);
        let from = (sequence * p.src_steps + time) as usize * n;
        to.copy_from_slice(&src[from..][..n]);
    }
}
