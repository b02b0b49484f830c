//! The hidden state of an LSTM whose cell state is normalised on its way there.

use super::declare::{constants, kernel, params};
use super::{Carries, Region, Touch};
use crate::cpu::{norm_state_backward, norm_state_forward};

params! {
    /// The hidden state of a step from its output gate and its cell state, which is normalised on the way; what is carried past
    /// the step.
    NormStateForward {
        /// B.
        batch: u32,
        /// D.
        directions: u32,
        /// Slot of h' [D, B, H]; the output gate lies in the next one, and h goes there.
        h_in: u32,
        /// Slot of c'.
        c_in: u32,
        /// Slot of c.
        c_out: u32,
        /// The step of the scan.
        step: u32,
        /// T.
        total_steps: u32,
        /// 1: direction 0 runs from the end of time.
        backwards: u32,
        /// Where random bits of zoneout are counted.
        site: u32,
        /// In training a unit keeps h' where its random bits are below this.
        zoneout_h: u32,
        /// The same for c'.
        zoneout_c: u32,
        /// In inference h is this share of h' and the rest of what the step made.
        keep_h: f32,
        /// The same for c.
        keep_c: f32,
        /// α of the output's activation.
        alpha: f32,
        /// β of it.
        beta: f32,
        /// Added to the variance.
        epsilon: f32,
    }
}

constants! {
    /// Constants of [`NORM_STATE_FORWARD`].
    NormStateForwardConstants {
        /// H.
        h: u32,
        /// True in training, where zoneout is by chance.
        train: bool,
        /// States carried past the step.
        carries: Carries,
        /// Kind of the output's activation.
        kind: u32,
    }
}

kernel! {
    /// The hidden state of a step whose cell state is normalised on its way there.
    NORM_STATE_FORWARD = norm_state_forward(NormStateForward, NormStateForwardConstants) {
        bindings: [read norm, write h, write c, read words],
        workgroup: [64, 1, 1],
        rowwise: |p, c| [p.directions, p.batch], flops: 20 * c.h as u64,
        touches: |p, c| p.touches(c),
    }
}

impl NormStateForward {
    fn touches(&self, c: NormStateForwardConstants) -> Vec<Touch> {
        let (h, carries) = (c.h, c.carries);
        let rows = self.directions * self.batch;
        let slot = |at: u32, count: u32| Region::span(at, count * rows, h);
        // Two slots of c, in either order.
        let cells =
            Region::strided(self.c_in.min(self.c_out), [(2, self.c_in.abs_diff(self.c_out) as i32), (rows * h, 1)]);
        vec![
            Touch::reads(Region::span(0, 2 * self.directions, h)),
            Touch { read: Some(slot(self.h_in, 2)), write: Some(slot(self.h_in + rows * h, 1)) },
            Touch { read: Some(cells), write: Some(slot(self.c_out, 1)) },
            carries.key_and_lengths(self.batch, c.train && carries.zoneout()),
        ]
    }
}

params! {
    /// The gradients of a step's output gate and of the cell state that it made; what goes past the step.
    NormStateBackward {
        /// B.
        batch: u32,
        /// D.
        directions: u32,
        /// Slot of c' [D, B, H].
        c_in: u32,
        /// The step's saved values [4, D, B, H]: i, f, g, o.
        saved_offset: u32,
        /// Gradient of h [D, B, H].
        dh_offset: u32,
        /// Gradient of c [2, D, B, H]; the second part went past the later step.
        dc_offset: u32,
        /// The step of the scan.
        step: u32,
        /// T.
        total_steps: u32,
        /// 1: direction 0 runs from the end of time.
        backwards: u32,
        /// Where random bits of zoneout are counted.
        site: u32,
        /// As in the forward pass.
        zoneout_h: u32,
        /// As in the forward pass.
        zoneout_c: u32,
        /// α of the output's activation.
        alpha: f32,
        /// β of it.
        beta: f32,
        /// Bounds the cell state.
        cell_clip: f32,
        /// Added to the variance.
        epsilon: f32,
        /// 1: overwrite the sums over time instead of adding to them.
        first: u32,
    }
}

constants! {
    /// Constants of [`NORM_STATE_BACKWARD`].
    NormStateBackwardConstants {
        /// H.
        h: u32,
        /// States carried past the step.
        carries: Carries,
        /// Activations of the cell, as [`Settings::kinds`](crate::cell::Settings::kinds) packs them.
        kinds: u32,
    }
}

kernel! {
    /// Gradients of the output gate and the cell state of such a step.
    NORM_STATE_BACKWARD = norm_state_backward(NormStateBackward, NormStateBackwardConstants) {
        bindings: [read norm, read c, read saved, read dh, read words, write sums, write past, write out],
        workgroup: [64, 1, 1],
        rowwise: |p, c| [p.directions, p.batch], flops: 60 * c.h as u64,
        touches: |p, c| p.touches(c),
    }
}

impl NormStateBackward {
    fn touches(&self, c: NormStateBackwardConstants) -> Vec<Touch> {
        let (h, carries) = (c.h, c.carries);
        let rows = self.directions * self.batch;
        let slots = |at: u32, count: u32| Region::span(at, count * rows, h);
        let sums = slots(self.dc_offset, 2);
        vec![
            Touch::reads(Region::span(0, 2 * self.directions, h)),
            Touch::reads(slots(self.c_in, 1)),
            Touch::reads(slots(self.saved_offset, 4)),
            Touch::reads(slots(self.dh_offset, 1)),
            carries.key_and_lengths(self.batch, carries.zoneout()),
            Touch { read: Some(sums), write: Some(sums) },
            Touch::writes(slots(0, 1)),
            Touch { read: (self.first == 0).then(|| slots(rows * h, 2)), write: Some(slots(0, 4)) },
        ]
    }
}
