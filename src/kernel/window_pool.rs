//! Pooling of windows of time.

use super::declare::{constants, kernel, kinds, params};
use super::{Call, Region, Touch, same_padding};
use crate::cpu::Args;
use crate::real::Real;
use std::ops::Range;

/// Marks an element of `at` that has no time yet.
const NONE: u32 = u32::MAX;

kinds! {
    /// Pooling of the steps of a window.
    WindowPoolKind {
        /// The largest.
        Max,
        /// The mean of the steps of the sequence.
        Mean,
        /// The sum over the window's size: padding counts as zeros.
        MeanWithPadding,
    }
}

params! {
    /// A vector of each window, from one chunk of the input.
    WindowPoolForward {
        /// Steps of the chunk of x.
        steps: u32,
        /// B.
        batch: u32,
        /// Features of a row.
        features: u32,
        /// First element of x [steps, B, features].
        x_offset: u32,
        /// Time of x's first step.
        time: u32,
        /// Steps of the chunk of y.
        out_steps: u32,
        /// Index of y's first step.
        out_time: u32,
        /// First element of y [out_steps, B, features].
        y_offset: u32,
        /// T of the input.
        total_steps: u32,
        /// Steps of a window.
        size: u32,
        /// Steps from one window to the next.
        stride: u32,
        /// Steps of padding in front.
        left: u32,
        /// 1: continues from an earlier chunk of x; 0: overwrites y.
        accumulate: u32,
    }
}

constants! {
    /// Constants of [`WINDOW_POOL_FORWARD`] and [`WINDOW_POOL_BACKWARD`].
    WindowPoolConstants {
        /// The kind of pooling.
        kind: WindowPoolKind,
        /// True if sequences have lengths.
        ragged: bool,
        /// True if each row has the padding in front of its own length, [`same_padding`].
        same: bool,
    }
}

kernel! {
    /// A vector of each window of time: the largest of its steps or their mean.
    WINDOW_POOL_FORWARD = window_pool_forward(WindowPoolForward, WindowPoolConstants) {
        bindings: [read words, read x, write y, write at],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.out_steps, p.batch, p.features], flops: p.size.min(p.steps) as u64,
        touches: |p, c| p.touches(c),
    }
}

impl WindowPoolForward {
    fn touches(&self, c: WindowPoolConstants) -> Vec<Touch> {
        let own = |offset: u32, steps: u32| Region::span(offset, steps * self.batch, self.features);
        let at = if c.kind == WindowPoolKind::Max { self.out_steps } else { 0 };
        vec![
            Touch::reads(Region::span(2, c.ragged as u32, self.batch)),
            Touch::reads(own(self.x_offset, self.steps)),
            Touch::updates(own(self.y_offset, self.out_steps), self.accumulate == 1),
            Touch::updates(own(0, at), self.accumulate == 1),
        ]
    }
}

/// The windows of a row.
struct Windows {
    len: i32,
    size: i32,
    stride: i32,
    left: i32,
    kind: WindowPoolKind,
}

impl Windows {
    /// Those of a row; `sizes` are T, the size, the stride and the padding in front.
    fn of_row<F: Real>(
        key_and_lengths: &[F],
        row: usize,
        [steps, size, stride, left]: [u32; 4],
        WindowPoolConstants { kind, ragged, same }: WindowPoolConstants,
    ) -> Windows {
        let len = if ragged { key_and_lengths[2 + row].word().min(steps) } else { steps };
        let left = if same { same_padding(len, size, stride) } else { left };
        Windows { len: len as i32, size: size as i32, stride: stride as i32, left: left as i32, kind }
    }

    /// Times of window `s` within the sequence.
    fn times(&self, s: u32) -> Range<i32> {
        let first = s as i32 * self.stride - self.left;
        first.max(0)..(first + self.size).min(self.len)
    }

    /// Number that the mean of window `s` is divided by.
    fn count(&self, s: u32) -> f32 {
        let times = self.times(s);
        (if self.kind == WindowPoolKind::Mean { times.end - times.start } else { self.size }) as f32
    }
}

/// Twin of `shaders/window_pool_forward.wgsl`.
fn window_pool_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: WindowPoolForward = call.params();
    let constants: WindowPoolConstants = call.constants();
    let ([key_and_lengths, x], [y, at], _) = args.parts(0);
    let (slot, n) = ((p.batch * p.features) as usize, p.features as usize);
    for row in 0..p.batch as usize {
        let windows = Windows::of_row(key_and_lengths, row, [p.total_steps, p.size, p.stride, p.left], constants);
        for (s, f) in (0..p.out_steps).flat_map(|s| (0..n).map(move |f| (s, f))) {
            let i = s as usize * slot + row * n + f;
            let to = p.y_offset as usize + i;
            let mut value = if p.accumulate == 1 { y[to] } else { F::zero() };
            let mut best = match constants.kind {
                WindowPoolKind::Max if p.accumulate == 1 => at[i].word(),
                _ => NONE,
            };
            let times = windows.times(p.out_time + s);
            for time in times.start.max(p.time as i32)..times.end.min((p.time + p.steps) as i32) {
                let given = x[p.x_offset as usize + (time as usize - p.time as usize) * slot + row * n + f];
                if constants.kind != WindowPoolKind::Max {
                    value += given / F::of(windows.count(p.out_time + s));
                } else if best == NONE || given > value {
                    (value, best) = (given, time as u32);
                }
            }
            y[to] = value;
            if constants.kind == WindowPoolKind::Max {
                at[i] = F::of_word(best);
            }
        }
    }
}

params! {
    /// Gradient of a chunk of the input, from that of a chunk of the output.
    WindowPoolBackward {
        /// Steps of the chunk of dx.
        steps: u32,
        /// B.
        batch: u32,
        /// Features of a row.
        features: u32,
        /// First element of dx [steps, B, features].
        dx_offset: u32,
        /// Time of dx's first step.
        time: u32,
        /// Steps of the chunk of dy.
        out_steps: u32,
        /// Index of dy's first step.
        out_time: u32,
        /// First element of dy [out_steps, B, features].
        dy_offset: u32,
        /// T of the input.
        total_steps: u32,
        /// Steps of a window.
        size: u32,
        /// Steps from one window to the next.
        stride: u32,
        /// Steps of padding in front.
        left: u32,
        /// 1: add to dx; 0: overwrite it.
        accumulate: u32,
    }
}

kernel! {
    /// Gradient through pooling of windows.
    WINDOW_POOL_BACKWARD = window_pool_backward(WindowPoolBackward, WindowPoolConstants) {
        bindings: [read words, read dy, read at, write dx],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.steps, p.batch, p.features], flops: p.size.div_ceil(p.stride).min(p.out_steps) as u64,
        touches: |p, c| p.touches(c),
    }
}

impl WindowPoolBackward {
    fn touches(&self, c: WindowPoolConstants) -> Vec<Touch> {
        let own = |offset: u32, steps: u32| Region::span(offset, steps * self.batch, self.features);
        let at = if c.kind == WindowPoolKind::Max { self.out_steps } else { 0 };
        vec![
            Touch::reads(Region::span(2, c.ragged as u32, self.batch)),
            Touch::reads(own(self.dy_offset, self.out_steps)),
            Touch::reads(own(0, at)),
            Touch::updates(own(self.dx_offset, self.steps), self.accumulate == 1),
        ]
    }
}

/// Twin of `shaders/window_pool_backward.wgsl`.
fn window_pool_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: WindowPoolBackward = call.params();
    let constants: WindowPoolConstants = call.constants();
    let ([key_and_lengths, dy, at], [dx], _) = args.parts(0);
    let (slot, n) = ((p.batch * p.features) as usize, p.features as usize);
    for row in 0..p.batch as usize {
        let windows = Windows::of_row(key_and_lengths, row, [p.total_steps, p.size, p.stride, p.left], constants);
        for (step, f) in (0..p.steps).flat_map(|step| (0..n).map(move |f| (step, f))) {
            let time = p.time + step;
            // Windows that hold this time.
            let (end, stride) = (time + windows.left as u32 + 1, p.stride);
            let first = end.saturating_sub(p.size).div_ceil(stride).max(p.out_time);
            let last = (end - 1) / stride;
            let mut sum = F::zero();
            if (time as i32) < windows.len {
                for s in first..(last + 1).min(p.out_time + p.out_steps) {
                    let i = (s - p.out_time) as usize * slot + row * n + f;
                    let given = dy[p.dy_offset as usize + i];
                    if constants.kind != WindowPoolKind::Max {
                        sum += given / F::of(windows.count(s));
                    } else if at[i].word() == time {
                        sum += given;
                    }
                }
            }
            let dx = &mut dx[p.dx_offset as usize + step as usize * slot + row * n + f];
            *dx = if p.accumulate == 1 { *dx + sum } else { sum };
        }
    }
}
