//! A cell over a row of units: what the CPU's time steps call.
//!
//! In f32, eight units at a time go through the cell, a vector register for each of its values. In memory the four gates
//! of a unit lie side by side; each gate gets a register of its own. In f64, which only tests use, units go one by one.

use super::lanes::{LANES, Lanes};
use super::{CellMath, GATES, MAX_SAVED, More, Settings};
use crate::simd::{Work, dispatch};
use pulp::Simd;
use std::marker::PhantomData;
use std::ops::Range;

/// A forward step of n units.
pub struct ForwardRow<'a, 'kept, F> {
    /// W·x, [n, 4].
    pub wx: &'a [F],
    /// R·h', [n, 4].
    pub rh: &'a [F],
    /// Bias, [n, 4].
    pub bias: &'a [F],
    /// Further parameters, [n, 4]; empty where the cell has none.
    pub extra: &'a [F],
    /// What the cell leaves open.
    pub settings: Settings,
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
    /// Further parameters, [n, 4]; empty where the cell has none.
    pub extra: &'a [F],
    /// Their gradient.
    pub dextra: &'a mut [F],
    /// What the cell leaves open.
    pub settings: Settings,
    /// Whether `dbias` and `dextra` are overwritten instead of added to.
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
        let more = More { extra: if C::EXTRA { gates(row.extra) } else { [0.0; GATES] }, settings: row.settings };
        let out = C::forward(gates(row.wx), gates(row.rh), gates(row.bias), row.c[u], &more);
        row.h[u] = out.h;
        row.c[u] = out.c;
        row.saved.iter_mut().zip(out.saved).for_each(|(to, value)| to[u] = value);
    }
}

/// [`BackwardRow`] through the cell C.
pub fn backward_f64<C: CellMath>(row: BackwardRow<f64>) {
    for u in 0..row.dh.len() {
        let kept = std::array::from_fn(|q| if q < C::SAVED { row.saved[q][u] } else { 0.0 });
        let own = GATES * u..GATES * (u + 1);
        let extra = if C::EXTRA { std::array::from_fn(|k| row.extra[own.start + k]) } else { [0.0; GATES] };
        let more = More { extra, settings: row.settings };
        let out = C::backward(&kept, row.c_prev[u], row.c[u], row.dh[u], row.dc[u], &more);
        row.dc[u] = out.c_prev;
        row.gates[own.clone()].copy_from_slice(&out.gates);
        add(&mut row.dbias[own.clone()], &out.bias, row.first);
        if C::EXTRA {
            add(&mut row.dextra[own], &out.extra, row.first);
        }
    }
}

/// sums = values, or sums += values.
#[inline(always)]
fn add<F: Copy + std::ops::AddAssign>(sums: &mut [F], values: &[F], first: bool) {
    if first {
        sums.copy_from_slice(&values[..sums.len()]);
    } else {
        sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += value);
    }
}

struct Through<C, R>(PhantomData<C>, R);

/// Numbers, and zeros after them.
#[inline(always)]
fn padded<const N: usize>(values: &[f32]) -> [f32; N] {
    let mut all = [0.0; N];
    all[..values.len()].copy_from_slice(values);
    all
}

/// The gates of eight units, a register for each gate.
#[inline(always)]
fn gates<S: Simd>(simd: S, row: &[f32; GATES * LANES]) -> [Lanes<S>; GATES] {
    let pairs: &[[f32; LANES]; GATES] = bytemuck::cast_ref(row);
    Lanes::by_gate(simd, std::array::from_fn(|k| Lanes::of(simd, pairs[k])))
}

/// The reverse of [`gates`].
#[inline(always)]
fn together<S: Simd>(simd: S, gates: [Lanes<S>; GATES]) -> [f32; GATES * LANES] {
    bytemuck::cast(Lanes::by_unit(simd, gates).map(Lanes::array))
}

/// What up to eight units from the given one read beside their sums and states.
#[inline(always)]
fn more<C: CellMath, S: Simd>(simd: S, extra: &[f32], first: usize, settings: Settings) -> More<Lanes<S>> {
    if !C::EXTRA {
        return More { extra: [Lanes::of(simd, [0.0; LANES]); GATES], settings };
    }
    let own = &extra[GATES * first..extra.len().min(GATES * (first + LANES))];
    More { extra: gates(simd, &own.first_chunk().copied().unwrap_or_else(|| padded(own))), settings }
}

/// Eight units forward: c' becomes c.
#[inline(always)]
fn forward<C: CellMath, S: Simd>(
    simd: S,
    [wx, rh, bias]: [&[f32; GATES * LANES]; 3],
    more: &More<Lanes<S>>,
    c: &mut [f32; LANES],
    h: &mut [f32; LANES],
) -> [Lanes<S>; MAX_SAVED] {
    let out = C::forward(gates(simd, wx), gates(simd, rh), gates(simd, bias), Lanes::of(simd, *c), more);
    (*h, *c) = (out.h.array(), out.c.array());
    out.saved
}

impl<C: CellMath> Work for Through<C, ForwardRow<'_, '_, f32>> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let row = self.1;
        let n = row.h.len();
        let settings = row.settings;
        let (wx, rh, bias) = (row.wx.as_chunks().0, row.rh.as_chunks().0, row.bias.as_chunks().0);
        let (c, h) = (row.c.as_chunks_mut().0, row.h.as_chunks_mut().0);
        if row.saved.is_empty() {
            for (k, ((((wx, rh), bias), c), h)) in wx.iter().zip(rh).zip(bias).zip(c).zip(h).enumerate() {
                forward::<C, S>(simd, [wx, rh, bias], &more::<C, S>(simd, row.extra, k * LANES, settings), c, h);
            }
        } else {
            for (k, ((((wx, rh), bias), c), h)) in wx.iter().zip(rh).zip(bias).zip(c).zip(h).enumerate() {
                let more = more::<C, S>(simd, row.extra, k * LANES, settings);
                let values = forward::<C, S>(simd, [wx, rh, bias], &more, c, h);
                for (to, value) in row.saved.iter_mut().zip(values) {
                    to[k * LANES..][..LANES].copy_from_slice(&value.array());
                }
            }
        }
        let first = n / LANES * LANES;
        if first < n {
            let gates = [row.wx, row.rh, row.bias].map(|all| padded(&all[GATES * first..GATES * n]));
            let (mut c, mut h) = (padded(&row.c[first..]), [0.0; LANES]);
            let more = more::<C, S>(simd, row.extra, first, settings);
            let values = forward::<C, S>(simd, gates.each_ref(), &more, &mut c, &mut h);
            row.c[first..].copy_from_slice(&c[..n - first]);
            row.h[first..].copy_from_slice(&h[..n - first]);
            for (to, value) in row.saved.iter_mut().zip(values) {
                to[first..].copy_from_slice(&value.array()[..n - first]);
            }
        }
    }
}

/// Up to eight numbers.
#[inline(always)]
fn load<S: Simd>(simd: S, values: &[f32]) -> Lanes<S> {
    Lanes::of(simd, values.first_chunk().copied().unwrap_or_else(|| padded(values)))
}

impl<C: CellMath> Work for Through<C, BackwardRow<'_, f32>> {
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let n = self.1.dh.len();
        let whole = n / LANES * LANES;
        for first in (0..whole).step_by(LANES) {
            backward::<C, S>(simd, &mut self.1, first..first + LANES);
        }
        if whole < n {
            backward::<C, S>(simd, &mut self.1, whole..n);
        }
    }
}

/// Up to eight units backward.
#[inline(always)]
fn backward<C: CellMath, S: Simd>(simd: S, row: &mut BackwardRow<f32>, units: Range<usize>) {
    let mut kept = [Lanes::of(simd, [0.0; LANES]); MAX_SAVED];
    for (kept, saved) in kept.iter_mut().zip(&row.saved).take(C::SAVED) {
        *kept = load(simd, &saved[units.clone()]);
    }
    let [c_prev, c, dh, dc] = [row.c_prev, row.c, row.dh, row.dc].map(|values| load(simd, &values[units.clone()]));
    let more = more::<C, S>(simd, row.extra, units.start, row.settings);
    let out = C::backward(&kept, c_prev, c, dh, dc, &more);
    row.dc[units.clone()].copy_from_slice(&out.c_prev.array()[..units.len()]);
    let own = GATES * units.start..GATES * units.end;
    row.gates[own.clone()].copy_from_slice(&together(simd, out.gates)[..own.len()]);
    add(&mut row.dbias[own.clone()], &together(simd, out.bias), row.first);
    if C::EXTRA {
        add(&mut row.dextra[own], &together(simd, out.extra), row.first);
    }
}
