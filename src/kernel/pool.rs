//! Pooling over time.

use super::declare::{constants, kernel, kinds, params};
use super::{Call, Region, Touch};
use crate::cpu::Args;
use crate::real::Real;

/// Marks an element of `at` that has no time yet.
const NONE: u32 = u32::MAX;

kinds! {
    /// Pooling of a sequence to one vector.
    PoolKind {
        /// The last step.
        Last,
        /// The mean over time.
        Mean,
        /// The largest over time.
        Max,
        /// The sum over time.
        Sum,
    }
}

params! {
    /// One vector of each row's steps.
    PoolForward {
        /// Steps of this chunk.
        steps: u32,
        /// B.
        batch: u32,
        /// Features of a row.
        features: u32,
        /// First element of x.
        x_offset: u32,
        /// Stride of x by step.
        x_step: u32,
        /// Stride of x by row.
        x_row: u32,
        /// Time of the first step; at 0, y is overwritten.
        time: u32,
        /// T.
        total_steps: u32,
    }
}

constants! {
    /// Constants of [`POOL_FORWARD`] and [`POOL_BACKWARD`].
    PoolConstants {
        /// The kind of pooling.
        kind: PoolKind,
        /// True if sequences have lengths.
        ragged: bool,
    }
}

kernel! {
    /// One vector of each row's steps: the last, their mean, the largest or their sum.
    POOL_FORWARD = pool_forward(PoolForward, PoolConstants) {
        bindings: [read words, read x, write y, write at],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.batch, p.features], flops: p.steps as u64,
        touches: |p, c| p.touches(c.ragged),
    }
}

impl PoolForward {
    fn touches(&self, ragged: bool) -> Vec<Touch> {
        let axes = [(self.steps, self.x_step as i32), (self.batch, self.x_row as i32), (self.features, 1)];
        let out = Touch::updates(Region::span(0, self.batch, self.features), self.time > 0);
        vec![
            Touch::reads(Region::span(2, ragged as u32, self.batch)),
            Touch::reads(Region::strided(self.x_offset, axes)),
            out,
            out,
        ]
    }
}

/// Twin of `shaders/pool_forward.wgsl`.
fn pool_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: PoolForward = call.params();
    let PoolConstants { kind, ragged } = call.constants();
    let ([key_and_lengths, x], [y, at], _) = args.parts(0);
    for row in 0..p.batch {
        let len = if ragged { key_and_lengths[2 + row as usize].word() } else { p.total_steps };
        for f in 0..p.features {
            let i = (row * p.features + f) as usize;
            let (mut value, mut best) = if p.time > 0 { (y[i], at[i].word()) } else { (F::zero(), NONE) };
            for s in (0..p.steps).take_while(|s| p.time + s < len) {
                let given = x[(p.x_offset + s * p.x_step + row * p.x_row + f) as usize];
                if kind == PoolKind::Mean {
                    value += given / F::of(len as f32);
                } else if kind == PoolKind::Sum {
                    value += given;
                } else if kind == PoolKind::Last || best == NONE || given > value {
                    (value, best) = (given, p.time + s);
                }
            }
            (y[i], at[i]) = (value, F::of_word(best));
        }
    }
}

params! {
    /// Gradient of a chunk of steps, from that of the pooled vector.
    PoolBackward {
        /// Steps of this chunk.
        steps: u32,
        /// B.
        batch: u32,
        /// Features of a row.
        features: u32,
        /// First element of dx [steps, B, features].
        dx_offset: u32,
        /// First element of dy [B, features].
        dy_offset: u32,
        /// Time of the first step.
        time: u32,
        /// T.
        total_steps: u32,
    }
}

kernel! {
    /// Gradient through pooling.
    POOL_BACKWARD = pool_backward(PoolBackward, PoolConstants) {
        bindings: [read words, read dy, read at, write dx],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.steps, p.batch, p.features], flops: 1,
        touches: |p, c| p.touches(c.ragged),
    }
}

impl PoolBackward {
    fn touches(&self, ragged: bool) -> Vec<Touch> {
        let own = |offset: u32, steps: u32| Region::span(offset, steps * self.batch, self.features);
        vec![
            Touch::reads(Region::span(2, ragged as u32, self.batch)),
            Touch::reads(own(self.dy_offset, 1)),
            Touch::reads(own(0, 1)),
            Touch::writes(own(self.dx_offset, self.steps)),
        ]
    }
}

/// Twin of `shaders/pool_backward.wgsl`.
fn pool_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: PoolBackward = call.params();
    let PoolConstants { kind, ragged } = call.constants();
    let ([key_and_lengths, dy, at], [dx], _) = args.parts(0);
    let slot = (p.batch * p.features) as usize;
    for (n, dx) in dx[p.dx_offset as usize..][..p.steps as usize * slot].iter_mut().enumerate() {
        let (i, time) = (n % slot, p.time + (n / slot) as u32);
        let len = if ragged { key_and_lengths[2 + i / p.features as usize].word() } else { p.total_steps };
        let factor = match kind {
            PoolKind::Mean if time < len => F::one() / F::of(len as f32),
            PoolKind::Sum if time < len => F::one(),
            PoolKind::Last | PoolKind::Max if time == at[i].word() => F::one(),
            _ => F::zero(),
        };
        *dx = factor * dy[p.dy_offset as usize + i];
    }
}
