//! The hidden state of an LSTM whose cell state is normalised on its way there.

use super::Args;
use super::norm::moments;
use super::recurrence::{Words, time};
use crate::activation::Shape;
use crate::kernel::{
    Call,
    params::{NormStateBackward, NormStateForward},
};
use crate::random::bits;
use crate::real::Real;

/// Twin of `shaders/norm_state_forward.wgsl`.
pub fn norm_state_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: NormStateForward = call.params();
    let (n, train, carries) = (call.constants[0] as usize, call.constants[1] == 1, call.constants[2]);
    let output = Shape { kind: call.constants[3], alpha: p.alpha, beta: p.beta };
    if !args.reserve(n) {
        return;
    }
    let ([norm, h, c, words], made) = args.parts(n);
    let (batch, words) = (p.batch as usize, Words(words));
    let slot = p.directions as usize * batch * n;
    for row in 0..p.directions as usize * batch {
        let (direction, first) = (row / batch, row * n);
        let (weight, bias) = norm[2 * direction * n..][..2 * n].split_at(n);
        let (h_prev, h_new) = h[p.h_in as usize..].split_at_mut(slot);
        let (h_prev, h_new) = (&h_prev[first..][..n], &mut h_new[first..][..n]);
        let (c_in, c_out) = (p.c_in as usize + first, p.c_out as usize + first);
        let on =
            carries % 2 == 0 || words.holds(row % batch, time(p.step as usize, p.total_steps, direction, p.backwards));
        made.copy_from_slice(&c[c_out..][..n]);
        let (mean, scale) = moments(made, p.epsilon);
        for u in 0..n {
            let c_prev = c[c_in + u];
            let mut h_made = h_new[u] * output.of(weight[u] * (made[u] - mean) * scale + bias[u]);
            let mut c_made = made[u];
            if carries >= 2 && train {
                let index = (p.step as usize * slot + first + u) as u32;
                let chance = bits(words.key(), [index, p.site]);
                h_made = if chance[0] < p.zoneout_h { h_prev[u] } else { h_made };
                c_made = if chance[1] < p.zoneout_c { c_prev } else { c_made };
            } else if carries >= 2 {
                h_made += F::of(p.keep_h) * (h_prev[u] - h_made);
                c_made += F::of(p.keep_c) * (c_prev - c_made);
            }
            h_new[u] = if on { h_made } else { h_prev[u] };
            c[c_out + u] = if on { c_made } else { c_prev };
        }
    }
}

/// Twin of `shaders/norm_state_backward.wgsl`.
pub fn norm_state_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: NormStateBackward = call.params();
    let (n, carries) = (call.constants[0] as usize, call.constants[1]);
    let kinds = call.constants[2];
    let output = Shape { kind: kinds >> 16 & 0xff, alpha: p.alpha, beta: p.beta };
    // Of these two the value alone is needed, which no parameter changes once it is saved.
    let [gate, candidate] = [kinds & 0xff, kinds >> 8 & 0xff].map(|kind| Shape { kind, ..Shape::default() });
    let coupled = kinds >> 24 & 1 == 1;
    if !args.reserve(n) {
        return;
    }
    let ([norm, c, saved, dh, words, sums, past, out], made) = args.parts(n);
    let (batch, words, count) = (p.batch as usize, Words(words), F::of(n as f32));
    let slot = p.directions as usize * batch * n;
    for row in 0..p.directions as usize * batch {
        let (direction, first) = (row / batch, row * n);
        let (weight, bias) = norm[2 * direction * n..][..2 * n].split_at(n);
        let plane = |q: usize| &saved[p.saved_offset as usize + q * slot + first..][..n];
        let [i, f, g, o] = [0, 1, 2, 3].map(plane);
        let c_prev = &c[p.c_in as usize + first..][..n];
        let on =
            carries % 2 == 0 || words.holds(row % batch, time(p.step as usize, p.total_steps, direction, p.backwards));
        let kept = |u: usize| {
            let index = (p.step as usize * slot + first + u) as u32;
            let chance = if carries >= 2 { bits(words.key(), [index, p.site]) } else { [u32::MAX; 2] };
            let zoneout = carries >= 2;
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
