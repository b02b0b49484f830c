//! A step of several layers of a stack at once, as devices take it where a dispatch costs more than its work.

use super::fused_step::{add_product, keep_apart, sum_biases};
use crate::cell::{ForwardRow, GATES};
use crate::cpu::{Args, Pick};
use crate::kernel::{self, Call, StackStepConstants};

/// Twin of `shaders/stack_step.wgsl`.
pub fn stack_step<F: Pick>(call: &Call, args: &mut Args<F>) {
    let p: kernel::ScanForward = call.params();
    let constants: StackStepConstants = call.constants();
    let [hidden, steps] = [constants.common.h, constants.steps].map(|size| size as usize);
    let [batch, biases, first, count, diagonal] =
        [p.batch, p.biases, p.site, p.steps, p.first_step].map(|size| size as usize);
    let spec = call.cell.expect("the recurrence takes a cell");
    let (columns, slot, states) = (GATES * hidden, batch * hidden, spec.states.len());
    let (cell, settings) = (F::cell_forward(spec), p.settings(constants.common.kinds));
    let matrix = hidden * columns;
    if !args.reserve(3 * columns + (states + 1) * hidden) {
        return;
    }
    let ([xw, w, r, bias, _words], [h, c], scratch) = args.parts(3 * columns + (states + 1) * hidden);
    let (sums, rest) = scratch.split_at_mut(columns);
    let (apart, rest) = rest.split_at_mut(columns);
    let (own_bias, rest) = rest.split_at_mut(columns);
    let (new, own_c) = rest.split_at_mut(hidden);
    for layer in first..first + count {
        let parameters = &bias[layer * (biases + spec.extra as usize) * columns..];
        sum_biases(own_bias, parameters, biases);
        let extra = if spec.extra { &parameters[biases * columns..][..columns] } else { &[] };
        let step = diagonal - layer;
        for row in 0..batch {
            let own = (layer * (1 + steps) + step) * slot + row * hidden;
            sums.fill(F::zero());
            if layer > 0 {
                let below = ((layer - 1) * (1 + steps) + step + 1) * slot + row * hidden;
                add_product(sums, &h[below..][..hidden], &w[(layer - 1) * matrix..][..matrix]);
            }
            add_product(sums, &h[own..][..hidden], &r[layer * matrix..][..matrix]);
            if layer > 0 {
                keep_apart(sums, apart);
            } else {
                apart.copy_from_slice(&xw[(step * batch + row) * columns..][..columns]);
            }
            let plane = |plane: usize| (layer * states + plane) * slot + row * hidden;
            for (n, own) in own_c.chunks_exact_mut(hidden).enumerate() {
                own.copy_from_slice(&c[plane(n)..][..hidden]);
            }
            let (wx, rh, bias) = (&*apart, &*sums, &*own_bias);
            cell(ForwardRow { wx, rh, bias, extra, settings, states: own_c, h: new, saved: &mut [] });
            h[own + slot..][..hidden].copy_from_slice(new);
            for (n, own) in own_c.chunks_exact(hidden).enumerate() {
                c[plane(n)..][..hidden].copy_from_slice(own);
            }
        }
    }
}
