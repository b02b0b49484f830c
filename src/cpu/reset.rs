//! A reset gate that acts on the hidden state before the recurrent product.

use super::Args;
use crate::activation::Shape;
use crate::cell::GATES;
use crate::kernel::{
    Call,
    params::{ResetBackward, ResetForward},
};
use crate::real::Real;

/// Twin of `shaders/reset_forward.wgsl`.
pub fn reset_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: ResetForward = call.params();
    let gate = Shape { kind: call.constants[0], alpha: p.alpha, beta: p.beta };
    let ([rh, bias, h], [xw, s], _) = args.parts(0);
    let (hidden, biases, clip) = (p.hidden as usize, p.biases as usize, F::of(p.clip));
    for row in 0..(p.directions * p.batch) as usize {
        let direction = row / p.batch as usize;
        for unit in 0..hidden {
            let i = row * hidden + unit;
            let b: F = (0..biases).map(|n| bias[((direction * biases + n) * hidden + unit) * GATES]).sum();
            let at = p.xw_offset as usize + GATES * i;
            for gate in 0..2 {
                xw[at + gate] += rh[GATES * i + gate];
            }
            let r = gate.of((xw[at] + b).min(clip).max(-clip));
            s[p.s_offset as usize + i] = r * h[p.h_offset as usize + i];
        }
    }
}

/// Twin of `shaders/reset_backward.wgsl`.
pub fn reset_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: ResetBackward = call.params();
    let gate = Shape { kind: call.constants[0], alpha: p.alpha, beta: p.beta };
    let clip = if p.clipped == 1 { p.clip } else { f32::MAX };
    let ([ds, saved, h], [dg, dr, back, sums], _) = args.parts(0);
    for i in 0..(p.directions * p.batch * p.hidden) as usize {
        let r = gate.restored_within(clip, saved[p.saved_offset as usize + i]);
        let d = ds[i] * h[p.h_offset as usize + i] * r.slope;
        let at = p.dg_offset as usize + GATES * i;
        dg[at] = d;
        dr[at..at + GATES].copy_from_slice(&[d, dg[at + 1], F::zero(), F::zero()]);
        back[i] = ds[i] * r.value;
        sums[GATES * i] += d;
    }
}
