//! Pooling over time.

use super::declare::{constants, kernel, params};
use super::{Region, Touch};
use crate::cpu::{pool_backward, pool_forward};

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
        /// Time of the first step; from 0 on, y is made anew.
        time: u32,
        /// T.
        total_steps: u32,
    }
}

constants! {
    /// Constants of [`POOL_FORWARD`] and [`POOL_BACKWARD`].
    PoolConstants {
        /// How the vector is made: the last step, the mean, the largest or the sum.
        kind: u32,
        /// True if sequences have lengths.
        ragged: bool,
    }
}

kernel! {
    /// One vector of each row's steps: the last, their mean or the largest.
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

params! {
    /// The gradient of a chunk of steps from that of one vector.
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
    /// Gradient of the steps of which one vector was taken.
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
