//! A reset gate that acts on the hidden state before the recurrent product.

use super::declare::{constants, kernel, params};
use super::{Call, Region, Touch};
use crate::activation::Shape;
use crate::cell::GATES;
use crate::cpu::Args;
use crate::real::Real;

params! {
    /// The reset gate where it acts before the recurrent product: `s = r ⊙ h'`.
    ResetForward {
        /// B.
        batch: u32,
        /// D.
        directions: u32,
        /// H.
        hidden: u32,
        /// Biases per gate.
        biases: u32,
        /// W·x of the step [D, B, 4H]; R·h' of the gates r and z is added to it.
        xw_offset: u32,
        /// h' as products read it, [D, B, H].
        h_offset: u32,
        /// s [D, B, H].
        s_offset: u32,
        /// α of the gates' activation.
        alpha: f32,
        /// β of the gates' activation.
        beta: f32,
        /// Bound of the activation's argument.
        clip: f32,
    }
}

constants! {
    /// Constants of [`RESET_FORWARD`] and [`RESET_BACKWARD`].
    ResetConstants {
        /// Kind of the gates' activation.
        kind: u32,
    }
}

kernel! {
    /// A reset gate that acts on the hidden state before the recurrent product.
    RESET_FORWARD = reset_forward(ResetForward, ResetConstants) {
        bindings: [read rh, read bias, read h, write xw, write s],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.directions, p.batch, p.hidden], flops: 10,
        touches: |p| p.touches(),
    }
}

impl ResetForward {
    fn touches(&self) -> Vec<Touch> {
        let (rows, h) = (self.directions * self.batch, self.hidden);
        vec![
            Touch::reads(Region::span(0, rows, 4 * h)),
            Touch::reads(Region::span(0, self.directions * self.biases, 4 * h)),
            Touch::reads(Region::span(self.h_offset, rows, h)),
            Touch::updates(Region::span(self.xw_offset, rows, 4 * h), true),
            Touch::writes(Region::span(self.s_offset, rows, h)),
        ]
    }
}

/// Twin of `shaders/reset_forward.wgsl`.
fn reset_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: ResetForward = call.params();
    let ResetConstants { kind } = call.constants();
    let gate = Shape { kind, alpha: p.alpha, beta: p.beta };
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

params! {
    /// Gradients of the reset gate and, by way of s, of h', from the gradient of s.
    ResetBackward {
        /// B.
        batch: u32,
        /// D.
        directions: u32,
        /// H.
        hidden: u32,
        /// r of the step [D, B, H].
        saved_offset: u32,
        /// h' as products read it, [D, B, H].
        h_offset: u32,
        /// Gate gradients of the step, [D, B, 4H], in two buffers.
        dg_offset: u32,
        /// 1: a clip bounds the activation's argument.
        clipped: u32,
        /// α of the gates' activation.
        alpha: f32,
        /// β of the gates' activation.
        beta: f32,
        /// The clip.
        clip: f32,
    }
}

kernel! {
    /// Gradient through the reset gate.
    RESET_BACKWARD = reset_backward(ResetBackward, ResetConstants) {
        bindings: [read ds, read saved, read h, write dg, write dr, write back, write sums],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.directions, p.batch, p.hidden], flops: 10,
        touches: |p| p.touches(),
    }
}

impl ResetBackward {
    fn touches(&self) -> Vec<Touch> {
        let (rows, h) = (self.directions * self.batch, self.hidden);
        let gates = |at: u32| Region::span(at, rows, 4 * h);
        vec![
            Touch::reads(Region::span(0, rows, h)),
            Touch::reads(Region::span(self.saved_offset, rows, h)),
            Touch::reads(Region::span(self.h_offset, rows, h)),
            Touch::updates(gates(self.dg_offset), true),
            Touch::writes(gates(self.dg_offset)),
            Touch::writes(Region::span(0, rows, h)),
            Touch::updates(gates(0), true),
        ]
    }
}

/// Twin of `shaders/reset_backward.wgsl`.
fn reset_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: ResetBackward = call.params();
    let ResetConstants { kind } = call.constants();
    let gate = Shape { kind, alpha: p.alpha, beta: p.beta };
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
