//! One time step of the recurrence, forward and backward.

use super::product::{Layout, product};
use super::{Args, Pick};
use crate::cell::{GATES, MAX_SAVED};
use crate::kernel::{
    Call,
    params::{StepBackward, StepForward},
};
use crate::real::Real;

/// The four gates of a unit.
#[inline]
fn gates<F: Real>(values: &[F], unit: usize) -> [F; GATES] {
    std::array::from_fn(|k| values[GATES * unit + k])
}

/// Twin of `shaders/step_forward.wgsl`.
pub fn step_forward<F: Pick>(call: &Call, args: &mut Args<F>) {
    let p: StepForward = call.params();
    let (hidden, train) = (call.constants[0] as usize, call.constants[1] == 1);
    let (batch, directions, biases) = (p.batch as usize, p.directions as usize, p.biases as usize);
    let spec = call.cell.expect("the step kernels take a cell");
    let cell = F::cell_forward(spec);
    let (units, slot) = (batch * hidden, directions * batch * hidden);
    let columns = GATES * hidden;
    let ([xw, r, bias, h, c, saved], scratch) = args.parts(batch * columns + columns);
    let (rh, b) = scratch.split_at_mut(batch * columns);
    for d in 0..directions {
        // R·h' for all gates of all rows: [B, H]·[H, 4H]
        let from = Layout::rows(p.h_in as usize + d * units, batch, hidden);
        let weights = Layout::rows(d * hidden * columns, hidden, columns);
        product(h, from, r, weights, rh, Layout::rows(0, batch, columns), false);
        for (k, sum) in b.iter_mut().enumerate() {
            *sum = (0..biases).map(|n| bias[(d * biases + n) * columns + k]).sum();
        }
        let first = d * units;
        let xw = &xw[p.xw_offset as usize + GATES * first..][..batch * columns];
        for unit in 0..units {
            let (index, column) = (first + unit, unit % hidden);
            let out = cell(gates(xw, unit), gates(rh, unit), gates(b, column), c[p.c_in as usize + index]);
            h[p.h_out as usize + index] = out.h;
            c[p.c_out as usize + index] = out.c;
            if train {
                for (q, &value) in out.saved[..spec.saved].iter().enumerate() {
                    saved[p.saved_offset as usize + q * slot + index] = value;
                }
            }
        }
    }
}

/// Twin of `shaders/step_backward.wgsl`.
pub fn step_backward<F: Pick>(call: &Call, args: &mut Args<F>) {
    let p: StepBackward = call.params();
    let hidden = call.constants[0] as usize;
    let (batch, directions) = (p.batch as usize, p.directions as usize);
    let spec = call.cell.expect("the step kernels take a cell");
    let cell = F::cell_backward(spec);
    let (units, slot) = (batch * hidden, directions * batch * hidden);
    let columns = GATES * hidden;
    let ([saved, c, dy, rt, dg, dc, dbias], dh) = args.parts(units);
    for d in 0..directions {
        if p.has_next == 1 {
            // What the later step sends back: [B, 4H]·[4H, H]
            let from = Layout::rows(p.dg_next as usize + d * batch * columns, batch, columns);
            let weights = Layout::rows(d * columns * hidden, columns, hidden);
            product(dg, from, rt, weights, dh, Layout::rows(0, batch, hidden), false);
        } else {
            dh.fill(F::zero());
        }
        for (unit, &recurrent) in dh.iter().enumerate() {
            let (index, row, column) = (d * units + unit, unit / hidden, unit % hidden);
            let mut gradient = recurrent;
            if p.has_dy == 1 {
                gradient += dy[(p.dy_offset + d as u32 * p.dy_direction) as usize + row * p.dy_row as usize + column];
            }
            let mut kept = [F::zero(); MAX_SAVED];
            for (q, value) in kept[..spec.saved].iter_mut().enumerate() {
                *value = saved[p.saved_offset as usize + q * slot + index];
            }
            let out = cell(&kept, c[p.c_in as usize + index], c[p.c_out as usize + index], gradient, dc[index]);
            dg[p.dg_offset as usize + GATES * index..][..GATES].copy_from_slice(&out.gates);
            dc[index] = out.c_prev;
            for (sum, &value) in dbias[GATES * index..][..GATES].iter_mut().zip(&out.bias) {
                *sum = if p.first == 1 { value } else { *sum + value };
            }
        }
    }
}
