//! Pooling over time, and the merging of two directions.

use super::Args;
use crate::kernel::{
    Call,
    params::{MergeBackward, MergeForward, PoolBackward, PoolForward},
};
use crate::real::Real;

/// As no time.
const NONE: u32 = u32::MAX;
/// Numbers of the kinds in the shaders.
const LAST: u32 = 0;
const MEAN: u32 = 1;
const SUM: u32 = 3;

/// Twin of `shaders/pool_forward.wgsl`.
pub fn pool_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: PoolForward = call.params();
    let (kind, ragged) = (call.constants[0], call.constants[1] == 1);
    let ([words, x], [y, at], _) = args.parts(0);
    for row in 0..p.batch {
        let len = if ragged { words[2 + row as usize].word() } else { p.total_steps };
        for f in 0..p.features {
            let i = (row * p.features + f) as usize;
            let (mut value, mut best) = if p.time > 0 { (y[i], at[i].word()) } else { (F::zero(), NONE) };
            for s in (0..p.steps).take_while(|s| p.time + s < len) {
                let given = x[(p.x_offset + s * p.x_step + row * p.x_row + f) as usize];
                if kind == MEAN {
                    value += given / F::of(len as f32);
                } else if kind == SUM {
                    value += given;
                } else if kind == LAST || best == NONE || given > value {
                    (value, best) = (given, p.time + s);
                }
            }
            (y[i], at[i]) = (value, F::of_word(best));
        }
    }
}

/// Twin of `shaders/pool_backward.wgsl`.
pub fn pool_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: PoolBackward = call.params();
    let (kind, ragged) = (call.constants[0], call.constants[1] == 1);
    let ([words, dy, at], [dx], _) = args.parts(0);
    let slot = (p.batch * p.features) as usize;
    for (n, dx) in dx[p.dx_offset as usize..][..p.steps as usize * slot].iter_mut().enumerate() {
        let (i, time) = (n % slot, p.time + (n / slot) as u32);
        let len = if ragged { words[2 + i / p.features as usize].word() } else { p.total_steps };
        let factor = match kind {
            MEAN if time < len => F::one() / F::of(len as f32),
            SUM if time < len => F::one(),
            MEAN | SUM => F::zero(),
            _ if time == at[i].word() => F::one(),
            _ => F::zero(),
        };
        *dx = factor * dy[p.dy_offset as usize + i];
    }
}

/// Twin of `shaders/merge_forward.wgsl`.
pub fn merge_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: MergeForward = call.params();
    let ([x], [y], _) = args.parts(0);
    let width = p.width as usize;
    let rows = x[p.x_offset as usize..].chunks_exact(2 * width);
    for (y, x) in y[p.y_offset as usize..].chunks_exact_mut(width).zip(rows).take(p.rows as usize) {
        for (k, y) in y.iter_mut().enumerate() {
            let (one, other) = (x[k], x[k + width]);
            *y = match call.constants[0] {
                0 => one + other,
                1 => one * other,
                _ => F::of(0.5) * (one + other),
            };
        }
    }
}

/// Twin of `shaders/merge_backward.wgsl`.
pub fn merge_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: MergeBackward = call.params();
    let ([x, dy], [dx], _) = args.parts(0);
    let width = p.width as usize;
    for row in 0..p.rows as usize {
        let x = &x[p.x_offset as usize..];
        let dy = &dy[p.dy_offset as usize + row * width..][..width];
        let dx = &mut dx[p.dx_offset as usize + 2 * row * width..][..2 * width];
        for (k, &d) in dy.iter().enumerate() {
            let factors = match call.constants[0] {
                0 => [F::one(); 2],
                1 => [x[(2 * row + 1) * width + k], x[2 * row * width + k]],
                _ => [F::of(0.5); 2],
            };
            (dx[k], dx[k + width]) = (d * factors[0], d * factors[1]);
        }
    }
}
