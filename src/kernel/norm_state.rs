//! The hidden state of an LSTM with a normalised cell state: h = o ⊙ activation(LN(c)).

use super::declare::{constants, kernel, params};
use super::{Call, Carries, Region, Touch, norm::moments};
use crate::activation::Shape;
use crate::cpu::{Args, KeyAndLengths, time};
use crate::random::bits;
use crate::real::Real;

params! {
    /// The hidden state of a step from its output gate and its normalised cell state; both states where they are carried past the
    /// step.
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
        /// Stream of random bits of zoneout.
        site: u32,
        /// Threshold of zoneout in training: a unit keeps h' where its random bits are below.
        zoneout_h: u32,
        /// The same for c'.
        zoneout_c: u32,
        /// In inference, share of h' in h; the hidden state that the step computes has the rest.
        keep_h: f32,
        /// The same for c.
        keep_c: f32,
        /// α of the output's activation.
        alpha: f32,
        /// β of the output's activation.
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
        /// True in training, where zoneout is random.
        train: bool,
        /// States carried past the step.
        carries: Carries,
        /// Kind of the output's activation.
        kind: u32,
    }
}

kernel! {
    /// The hidden state of a step from its output gate and its normalised cell state.
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

/// Twin of `shaders/norm_state_forward.wgsl`.
fn norm_state_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: NormStateForward = call.params();
    let NormStateForwardConstants { h: hidden, train, carries, kind } = call.constants();
    let n = hidden as usize;
    let output = Shape { kind, alpha: p.alpha, beta: p.beta };
    if !args.reserve(n) {
        return;
    }
    let ([norm, key_and_lengths], [h, c], made) = args.parts(n);
    let (batch, key_and_lengths) = (p.batch as usize, KeyAndLengths(key_and_lengths));
    let slot = p.directions as usize * batch * n;
    for row in 0..p.directions as usize * batch {
        let (direction, first) = (row / batch, row * n);
        let (weight, bias) = norm[2 * direction * n..][..2 * n].split_at(n);
        let (h_prev, h_new) = h[p.h_in as usize..].split_at_mut(slot);
        let (h_prev, h_new) = (&h_prev[first..][..n], &mut h_new[first..][..n]);
        let (c_in, c_out) = (p.c_in as usize + first, p.c_out as usize + first);
        let on = !carries.ragged()
            || key_and_lengths.holds(row % batch, time(p.step as usize, p.total_steps, direction, p.backwards));
        made.copy_from_slice(&c[c_out..][..n]);
        let (mean, scale) = moments(made, p.epsilon);
        for u in 0..n {
            let c_prev = c[c_in + u];
            let mut h_made = h_new[u] * output.of(weight[u] * (made[u] - mean) * scale + bias[u]);
            let mut c_made = made[u];
            if carries.zoneout() && train {
                let index = (p.step as usize * slot + first + u) as u32;
                let chance = bits(key_and_lengths.key(), [index, p.site]);
                h_made = if chance[0] < p.zoneout_h { h_prev[u] } else { h_made };
                c_made = if chance[1] < p.zoneout_c { c_prev } else { c_made };
            } else if carries.zoneout() {
                h_made += F::of(p.keep_h) * (h_prev[u] - h_made);
                c_made += F::of(p.keep_c) * (c_prev - c_made);
            }
            h_new[u] = if on { h_made } else { h_prev[u] };
            c[c_out + u] = if on { c_made } else { c_prev };
        }
    }
}

params! {
    /// Gradients of a step's output gate and of its cell state; gradients that are carried past the step.
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
        /// Gradient of c [2, D, B, H]; the second part was carried past the later step.
        dc_offset: u32,
        /// The step of the scan.
        step: u32,
        /// T.
        total_steps: u32,
        /// 1: direction 0 runs from the end of time.
        backwards: u32,
        /// Stream of random bits of zoneout.
        site: u32,
        /// Threshold of h', as in the forward pass.
        zoneout_h: u32,
        /// Threshold of c', as in the forward pass.
        zoneout_c: u32,
        /// α of the output's activation.
        alpha: f32,
        /// β of the output's activation.
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
    /// Gradients of a step's output gate and cell state through [`NORM_STATE_FORWARD`].
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

/// Twin of `shaders/norm_state_backward.wgsl`.
fn norm_state_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: NormStateBackward = call.params();
    let NormStateBackwardConstants { h, carries, kinds } = call.constants();
    let n = h as usize;
    let output = Shape { kind: kinds >> 16 & 0xff, alpha: p.alpha, beta: p.beta };
    // Only the values of these two are needed, which do not depend on α and β once they are saved.
    let [gate, candidate] = [kinds & 0xff, kinds >> 8 & 0xff].map(|kind| Shape { kind, ..Shape::default() });
    let coupled = kinds >> 24 & 1 == 1;
    if !args.reserve(n) {
        return;
    }
    let ([norm, c, saved, dh, key_and_lengths], [sums, past, out], made) = args.parts(n);
    let (batch, key_and_lengths, count) = (p.batch as usize, KeyAndLengths(key_and_lengths), F::of(n as f32));
    let slot = p.directions as usize * batch * n;
    for row in 0..p.directions as usize * batch {
        let (direction, first) = (row / batch, row * n);
        let (weight, bias) = norm[2 * direction * n..][..2 * n].split_at(n);
        let plane = |q: usize| &saved[p.saved_offset as usize + q * slot + first..][..n];
        let [i, f, g, o] = [0, 1, 2, 3].map(plane);
        let c_prev = &c[p.c_in as usize + first..][..n];
        let on = !carries.ragged()
            || key_and_lengths.holds(row % batch, time(p.step as usize, p.total_steps, direction, p.backwards));
        let kept = |u: usize| {
            let index = (p.step as usize * slot + first + u) as u32;
            let zoneout = carries.zoneout();
            let chance = if zoneout { bits(key_and_lengths.key(), [index, p.site]) } else { [u32::MAX; 2] };
            [!on || zoneout && chance[0] < p.zoneout_h, !on || zoneout && chance[1] < p.zoneout_c]
        };
        let limit = F::of(p.cell_clip);
        for (u, made) in made.iter_mut().enumerate() {
            let i = gate.restored(i[u]);
            let f = if coupled { i.complement } else { gate.restored(f[u]).value };
            *made = (f * c_prev[u] + i.value * candidate.restored(g[u]).value).min(limit).max(-limit);
        }
        let (mean, scale) = moments(made, p.epsilon);
        let normal = |u: usize| (made[u] - mean) * scale;
        let (mut straight, mut along) = (F::zero(), F::zero());
        for u in 0..n {
            let at = first + u;
            let (y, slope) = output.with_slope(weight[u] * normal(u) + bias[u]);
            let whole = dh[p.dh_offset as usize + at];
            let [h_past, c_past] = kept(u);
            let (own, by) = if h_past { (F::zero(), whole) } else { (whole, F::zero()) };
            past[at] = by;
            let dc_at = p.dc_offset as usize + at;
            let dc = sums[dc_at] + sums[dc_at + slot];
            (sums[dc_at], sums[dc_at + slot]) = if c_past { (F::zero(), dc) } else { (dc, F::zero()) };
            let seen = own * gate.restored(o[u]).value * slope;
            out[at] = own * y;
            for (sum, term) in [(slot + at, seen * normal(u)), (2 * slot + at, seen)] {
                out[sum] = if p.first == 1 { term } else { out[sum] + term };
            }
            out[3 * slot + at] = seen;
            straight += weight[u] * seen / count;
            along += weight[u] * seen * normal(u) / count;
        }
        for u in 0..n {
            let own = weight[u] * out[3 * slot + first + u];
            sums[p.dc_offset as usize + first + u] += scale * (own - straight - normal(u) * along);
        }
    }
}
