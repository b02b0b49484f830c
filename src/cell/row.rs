//! A cell over a row of units: what the CPU's time steps call.
//!
//! Units go through the cell sixteen at a time, in arrays that the compiler keeps in vector registers. In memory the
//! four gates of a unit lie side by side; here each gate has its own array.

use super::{CellMath, GATES, MAX_SAVED};
use crate::real::Real;
use crate::simd::{Work, dispatch};
use pulp::Simd;
use std::marker::PhantomData;

const UNITS: usize = 16;

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
    /// What backward needs, [SAVED][n]; empty where nothing is kept.
    pub saved: &'a mut [&'kept mut [F]],
}

/// A backward step of n units.
pub struct BackwardRow<'a, F> {
    /// What forward kept, [SAVED][n].
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
pub fn forward_row<C: CellMath, F: Real>(row: ForwardRow<F>) {
    dispatch(Through(PhantomData::<C>, row));
}

/// [`BackwardRow`] through the cell C.
pub fn backward_row<C: CellMath, F: Real>(row: BackwardRow<F>) {
    dispatch(Through(PhantomData::<C>, row));
}

struct Through<C, R>(PhantomData<C>, R);

type Units<F> = [F; UNITS];

/// The gates of up to sixteen units, each gate apart.
#[inline(always)]
fn apart<F: Real>(row: &[F]) -> [Units<F>; GATES] {
    let mut padded = [F::zero(); GATES * UNITS];
    match row.first_chunk::<{ GATES * UNITS }>() {
        Some(whole) => padded = *whole,
        None => padded[..row.len()].copy_from_slice(row),
    }
    let mut gates = [[F::zero(); UNITS]; GATES];
    for u in 0..UNITS {
        for (g, gate) in gates.iter_mut().enumerate() {
            gate[u] = padded[GATES * u + g];
        }
    }
    gates
}

/// The gates of one of them.
#[inline(always)]
fn unit<F: Real>(gates: &[Units<F>; GATES], u: usize) -> [F; GATES] {
    [gates[0][u], gates[1][u], gates[2][u], gates[3][u]]
}

/// The reverse of [`apart`].
#[inline(always)]
fn together<F: Real>(gates: &[Units<F>; GATES]) -> [F; GATES * UNITS] {
    let mut row = [F::zero(); GATES * UNITS];
    for u in 0..UNITS {
        for (g, gate) in gates.iter().enumerate() {
            row[GATES * u + g] = gate[u];
        }
    }
    row
}

#[inline(always)]
fn load<F: Real>(row: &[F]) -> Units<F> {
    let mut units = [F::zero(); UNITS];
    match row.first_chunk::<UNITS>() {
        Some(whole) => units = *whole,
        None => units[..row.len()].copy_from_slice(row),
    }
    units
}

#[inline(always)]
fn store<F: Real>(row: &mut [F], values: &[F]) {
    let n = row.len().min(values.len());
    if n == values.len() {
        row[..n].copy_from_slice(values);
    } else {
        row.copy_from_slice(&values[..n]);
    }
}

impl<C: CellMath, F: Real> Work for Through<C, ForwardRow<'_, '_, F>> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let row = self.1;
        let n = row.h.len();
        for first in (0..n).step_by(UNITS) {
            let end = n.min(first + UNITS);
            let gates = GATES * first..GATES * end;
            let (wx, rh) = (apart(&row.wx[gates.clone()]), apart(&row.rh[gates.clone()]));
            let b = apart(&row.bias[gates]);
            let c_prev = load(&row.c[first..end]);
            let (mut h, mut c) = ([F::zero(); UNITS], [F::zero(); UNITS]);
            let mut saved = [[F::zero(); UNITS]; MAX_SAVED];
            for u in 0..UNITS {
                let out = C::forward(unit(&wx, u), unit(&rh, u), unit(&b, u), c_prev[u]);
                h[u] = out.h;
                c[u] = out.c;
                for q in 0..C::SAVED {
                    saved[q][u] = out.saved[q];
                }
            }
            store(&mut row.h[first..end], &h);
            store(&mut row.c[first..end], &c);
            for (to, from) in row.saved.iter_mut().zip(&saved) {
                store(&mut to[first..end], from);
            }
        }
    }
}

impl<C: CellMath, F: Real> Work for Through<C, BackwardRow<'_, F>> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let row = self.1;
        let n = row.dh.len();
        for first in (0..n).step_by(UNITS) {
            let end = n.min(first + UNITS);
            let mut saved = [[F::zero(); UNITS]; MAX_SAVED];
            for q in 0..C::SAVED {
                saved[q] = load(&row.saved[q][first..end]);
            }
            let (c_prev, c) = (load(&row.c_prev[first..end]), load(&row.c[first..end]));
            let (dh, mut dc) = (load(&row.dh[first..end]), load(&row.dc[first..end]));
            let mut gates = [[F::zero(); UNITS]; GATES];
            let mut bias = [[F::zero(); UNITS]; GATES];
            for u in 0..UNITS {
                let mut kept = [F::zero(); MAX_SAVED];
                for q in 0..C::SAVED {
                    kept[q] = saved[q][u];
                }
                let out = C::backward(&kept, c_prev[u], c[u], dh[u], dc[u]);
                dc[u] = out.c_prev;
                for g in 0..GATES {
                    gates[g][u] = out.gates[g];
                    bias[g][u] = out.bias[g];
                }
            }
            store(&mut row.dc[first..end], &dc);
            store(&mut row.gates[GATES * first..GATES * end], &together(&gates));
            let bias = together(&bias);
            for (sum, &value) in row.dbias[GATES * first..GATES * end].iter_mut().zip(&bias) {
                *sum = if row.first { value } else { *sum + value };
            }
        }
    }
}
