//! A reset gate that acts on the hidden state before the recurrent product.

use super::declare::{constants, kernel, params};
use super::{Region, Touch};
use crate::cpu::{reset_backward, reset_forward};

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
        /// W·x of the step [D, B, 4H]; R·h' of the gates r and z is added.
        xw_offset: u32,
        /// h' as products read it, [D, B, H].
        h_offset: u32,
        /// s [D, B, H].
        s_offset: u32,
        /// α of the gates' activation.
        alpha: f32,
        /// β of it.
        beta: f32,
        /// Bounds what goes into the activation.
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

params! {
    /// The reset gate backward, from the gradient of s.
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
        /// 1: a clip bounds what goes into the activation.
        clipped: u32,
        /// α of the gates' activation.
        alpha: f32,
        /// β of it.
        beta: f32,
        /// The clip.
        clip: f32,
    }
}

kernel! {
    /// Gradient through such a gate.
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
