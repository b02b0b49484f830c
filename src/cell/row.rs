//! A cell over a row of units: what the CPU's time steps call.
//!
//! In f32, eight units at a time go through the cell, a vector register for each of its values. In memory the four gates
//! of a unit lie side by side; each gate gets a register of its own. In f64, which only tests use, units go one by one.

use super::lanes::{LANES, Lanes};
use super::{CellMath, GATES, MAX_SAVED};
use crate::simd::{Work, dispatch};
use pulp::Simd;
use std::marker::PhantomData;

/// A forward step of n units.
pub struct ForwardRow<'a, 'kept, F> {
    /// W·x, [n, 4].
    pub wx: &'a [F],
    /// R·h', [n, 4].
    pub rh: &'a [F],
    /// Bias, [n, 4].
    pub bias: &'a [F],
    /// c', becomes c: `[n]`.
    pub c: &'a mut [F],
    /// h, `[n]`.
    pub h: &'a mut [F],
    /// What backward needs, `[SAVED][n]`; empty where nothing is kept.
    pub saved: &'a mut [&'kept mut [F]],
}

/// A backward step of n units.
pub struct BackwardRow<'a, F> {
    /// What forward kept, `[SAVED][n]`.
    pub saved: [&'a [F]; MAX_SAVED],
    /// c', `[n]`.
    pub c_prev: &'a [F],
    /// c, `[n]`.
    pub c: &'a [F],
    /// Gradient of h, `[n]`.
    pub dh: &'a [F],
    /// Gradient of c, becomes that of c': `[n]`.
    pub dc: &'a mut [F],
    /// Gradient of W·x and R·h', [n, 4], written.
    pub gates: &'a mut [F],
    /// Gradient of the bias, [n, 4].
    pub dbias: &'a mut [F],
    /// Whether `dbias` is overwritten instead of added to.
    pub first: bool,
}

/// [`ForwardRow`] through the cell C.
pub fn forward_f32<C: CellMath>(row: ForwardRow<f32>) {
    dispatch(Through(PhantomData::<C>, row));
}

/// [`BackwardRow`] through the cell C.
pub fn backward_f32<C: CellMath>(row: BackwardRow<f32>) {
    dispatch(Through(PhantomData::<C>, row));
}

/// [`ForwardRow`] through the cell C.
pub fn forward_f64<C: CellMath>(row: ForwardRow<f64>) {
    for u in 0..row.h.len() {
        let gates = |of: &[f64]| std::array::from_fn(|k| of[GATES * u + k]);
        let out = C::forward(gates(row.wx), gates(row.rh), gates(row.bias), row.c[u]);
        row.h[u] = out.h;
        row.c[u] = out.c;
        row.saved.iter_mut().zip(out.saved).for_each(|(to, value)| to[u] = value);
    }
}

/// [`BackwardRow`] through the cell C.
pub fn backward_f64<C: CellMath>(row: BackwardRow<f64>) {
    for u in 0..row.dh.len() {
        let kept = std::array::from_fn(|q| if q < C::SAVED { row.saved[q][u] } else { 0.0 });
        let out = C::backward(&kept, row.c_prev[u], row.c[u], row.dh[u], row.dc[u]);
        row.dc[u] = out.c_prev;
        row.gates[GATES * u..][..GATES].copy_from_slice(&out.gates);
        for (sum, value) in row.dbias[GATES * u..][..GATES].iter_mut().zip(out.bias) {
            *sum = if row.first { value } else { *sum + value };
        }
    }
}

struct Through<C, R>(PhantomData<C>, R);

/// Up to eight numbers.
#[inline(always)]
fn load<S: Simd>(simd: S, values: &[f32]) -> Lanes<S> {
    match values.first_chunk::<LANES>() {
        Some(whole) => Lanes::of(simd, *whole),
        None => {
            let mut padded = [0.0; LANES];
            padded[..values.len()].copy_from_slice(values);
            Lanes::of(simd, padded)
        }
    }
}

/// Up to eight numbers.
#[inline(always)]
fn store<S: Simd>(values: &mut [f32], lanes: Lanes<S>) {
    let array = lanes.array();
    match values.first_chunk_mut::<LANES>() {
        Some(whole) => *whole = array,
        None => values.copy_from_slice(&array[..values.len()]),
    }
}

/// The gates of up to eight units, a register for each gate: a transpose of 8 × 4, in steps of two registers each, which
/// become single instructions.
#[inline(always)]
fn gates<S: Simd>(simd: S, row: &[f32]) -> [Lanes<S>; GATES] {
    let mut padded = [0.0; GATES * LANES];
    let row = row.first_chunk::<{ GATES * LANES }>().unwrap_or_else(|| {
        padded[..row.len()].copy_from_slice(row);
        &padded
    });
    let pairs = |k: usize| load(simd, &row[k * LANES..]).array(); // i f g o of units 2k and 2k + 1
    let (a, b) = (halves(pairs(0), pairs(1)), halves(pairs(2), pairs(3)));
    let join = |x: [f32; 8], y: [f32; 8], k: usize| {
        Lanes::of(simd, [x[k], x[k + 1], x[k + 2], x[k + 3], y[k], y[k + 1], y[k + 2], y[k + 3]])
    };
    [join(a[0], b[0], 0), join(a[0], b[0], 4), join(a[1], b[1], 0), join(a[1], b[1], 4)]
}

/// From i f g o of units 0, 1 and of units 2, 3: i and f of all four, and g and o.
#[inline(always)]
fn halves(x: [f32; 8], y: [f32; 8]) -> [[f32; 8]; 2] {
    [[x[0], x[4], y[0], y[4], x[1], x[5], y[1], y[5]], [x[2], x[6], y[2], y[6], x[3], x[7], y[3], y[7]]]
}

/// The reverse of [`gates`].
#[inline(always)]
fn together<S: Simd>(gates: [Lanes<S>; GATES]) -> [f32; GATES * LANES] {
    let [i, f, g, o] = gates.map(Lanes::array);
    // i and f, and g and o, of four units each
    let join =
        |x: [f32; 8], y: [f32; 8], k: usize| [x[k], x[k + 1], x[k + 2], x[k + 3], y[k], y[k + 1], y[k + 2], y[k + 3]];
    let unit =
        |x: [f32; 8], y: [f32; 8], u: usize| [x[u], x[u + 4], y[u], y[u + 4], x[u + 1], x[u + 5], y[u + 1], y[u + 5]];
    let (low, high) = ((join(i, f, 0), join(g, o, 0)), (join(i, f, 4), join(g, o, 4)));
    let parts = [unit(low.0, low.1, 0), unit(low.0, low.1, 2), unit(high.0, high.1, 0), unit(high.0, high.1, 2)];
    let mut row = [0.0; GATES * LANES];
    for (to, part) in row.chunks_exact_mut(LANES).zip(parts) {
        to.copy_from_slice(&part);
    }
    row
}

impl<C: CellMath> Work for Through<C, ForwardRow<'_, '_, f32>> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let row = self.1;
        let n = row.h.len();
        for first in (0..n).step_by(LANES) {
            let end = n.min(first + LANES);
            let own = GATES * first..GATES * end;
            let (wx, rh) = (gates(simd, &row.wx[own.clone()]), gates(simd, &row.rh[own.clone()]));
            let bias = gates(simd, &row.bias[own]);
            let out = C::forward(wx, rh, bias, load(simd, &row.c[first..end]));
            store(&mut row.h[first..end], out.h);
            store(&mut row.c[first..end], out.c);
            for (to, value) in row.saved.iter_mut().zip(out.saved) {
                store(&mut to[first..end], value);
            }
        }
    }
}

impl<C: CellMath> Work for Through<C, BackwardRow<'_, f32>> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let row = self.1;
        let n = row.dh.len();
        for first in (0..n).step_by(LANES) {
            let end = n.min(first + LANES);
            let mut kept = [Lanes::of(simd, [0.0; LANES]); MAX_SAVED];
            for (kept, saved) in kept.iter_mut().zip(&row.saved).take(C::SAVED) {
                *kept = load(simd, &saved[first..end]);
            }
            let (c_prev, c) = (load(simd, &row.c_prev[first..end]), load(simd, &row.c[first..end]));
            let (dh, dc) = (load(simd, &row.dh[first..end]), load(simd, &row.dc[first..end]));
            let out = C::backward(&kept, c_prev, c, dh, dc);
            store(&mut row.dc[first..end], out.c_prev);
            let own = GATES * first..GATES * end;
            row.gates[own.clone()].copy_from_slice(&together(out.gates)[..own.len()]);
            for (sum, value) in row.dbias[own].iter_mut().zip(together(out.bias)) {
                *sum = if row.first { value } else { *sum + value };
            }
        }
    }
}
