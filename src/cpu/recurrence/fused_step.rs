//! One time step from its input, as streams take it on devices where a dispatch costs more than its work.

use super::KeyAndLengths;
use crate::cell::{ForwardRow, GATES};
use crate::cpu::{Args, Pick};
use crate::kernel::{self, Call, FusedStepConstants};
use crate::real::Real;

/// Adds a row of values times a matrix [values, columns] to the row's sums.
pub(super) fn add_product<F: Real>(sums: &mut [F], values: &[F], weights: &[F]) {
    for (&value, weights) in values.iter().zip(weights.chunks_exact(sums.len())) {
        sums.iter_mut().zip(weights).for_each(|(sum, &weight)| *sum += value * weight);
    }
}

/// Sums the biases of a direction or layer, which lie one after the other.
pub(super) fn sum_biases<F: Real>(sums: &mut [F], parameters: &[F], biases: usize) {
    let columns = sums.len();
    for (k, sum) in sums.iter_mut().enumerate() {
        *sum = (0..biases).map(|n| parameters[n * columns + k]).sum();
    }
}

/// Takes W·x of the gates that keep it apart from R·h' out of the sums of both: there R has no third column, and W no fourth.
pub(super) fn keep_apart<F: Real>(sums: &mut [F], apart: &mut [F]) {
    apart.fill(F::zero());
    let pairs = sums.chunks_exact_mut(GATES).zip(apart.chunks_exact_mut(GATES));
    pairs.for_each(|(sums, apart)| std::mem::swap(&mut sums[2], &mut apart[2]));
}

/// Twin of `shaders/fused_step.wgsl`.
pub fn fused_step<F: Pick>(call: &Call, args: &mut Args<F>) {
    let p: kernel::ScanForward = call.params();
    let constants: FusedStepConstants = call.constants();
    let FusedStepConstants { common, input } = constants;
    let [hidden, input, terms] = [common.h, input, common.terms].map(|size| size as usize);
    let [batch, directions, biases] = [p.batch, p.directions, p.biases].map(|size| size as usize);
    let spec = call.cell.expect("the recurrence takes a cell");
    let (columns, slot, states) = (GATES * hidden, directions * batch * hidden, spec.states.len());
    let (cell, settings) = (F::cell_forward(spec), p.settings(common.kinds));
    let wide = [(0, input), (1, terms)]
        .map(|(at, terms)| call.kernel.weights.in_f32(args.values(at), [directions, terms, hidden]));
    let room = 4 * columns + states * hidden;
    if !args.reserve(room) {
        return;
    }
    let ([w, r, bias, x, before, words], [h, c], scratch) = args.parts(room);
    let [w, r] = [wide[0].as_deref().unwrap_or(w), wide[1].as_deref().unwrap_or(r)];
    let words = KeyAndLengths(words);
    let [sums, apart, own_bias, rest] = {
        let (sums, rest) = scratch.split_at_mut(columns);
        let (apart, rest) = rest.split_at_mut(columns);
        let (own_bias, rest) = rest.split_at_mut(columns);
        [sums, apart, own_bias, rest]
    };
    let (zeros, own_c) = rest.split_at_mut(columns);
    zeros.fill(F::zero());
    for d in 0..directions {
        let parameters = &bias[d * (biases + spec.extra as usize) * columns..];
        sum_biases(own_bias, parameters, biases);
        let extra = if spec.extra { &parameters[biases * columns..][..columns] } else { &[] };
        for b in 0..batch {
            let at = (d * batch + b) * hidden;
            let old = &before[p.h_in as usize + at..][..hidden];
            sums.fill(F::zero());
            add_product(
                sums,
                &x[p.xw_offset as usize + b * p.saved_offset as usize..][..input],
                &w[d * input * columns..],
            );
            add_product(sums, &old[..terms], &r[d * terms * columns..]);
            if terms > 0 {
                keep_apart(sums, apart);
            }
            let (wx, rh) = if terms > 0 { (&*apart, &*sums) } else { (&*sums, &*zeros) };
            for (plane, own) in own_c.chunks_exact_mut(hidden).enumerate() {
                own.copy_from_slice(&c[p.c_in as usize + plane * slot + at..][..hidden]);
            }
            let ended = common.carries.ragged()
                && !words.holds(b, super::time(p.first_step as usize, p.total_steps, d, p.backwards));
            let new = &mut h[at..][..hidden];
            if ended {
                new.copy_from_slice(old);
                continue;
            }
            let row =
                ForwardRow { wx, rh, bias: own_bias, extra, settings, states: &mut *own_c, h: new, saved: &mut [] };
            cell(row);
            let keep = |new: &mut F, old: F, share: f32| *new += F::of(share) * (old - *new);
            if common.carries.zoneout() {
                new.iter_mut().zip(old).for_each(|(new, &old)| keep(new, old, p.keep_h));
            }
            for (plane, own) in own_c.chunks_exact(hidden).enumerate() {
                let state = &mut c[p.c_in as usize + plane * slot + at..][..hidden];
                for (state, &new) in state.iter_mut().zip(own) {
                    let old = std::mem::replace(state, new);
                    if common.carries.zoneout() {
                        keep(state, old, p.keep_c);
                    }
                }
            }
        }
    }
}
