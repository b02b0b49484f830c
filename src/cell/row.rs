//! A cell over a row of units, for time steps on the CPU.
//!
//! In f32, the cell computes eight units at a time, with a vector register for each of its values. In memory the four gates of a
//! unit are side by side; each gate gets a register of its own. In f64, which only tests use, it computes one unit at a time.

use super::lanes::{LANES, Lanes};
use super::{CellMath, GATES, MAX_SAVED, MAX_STATES, More, Settings};
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
    /// Activations and clips.
    pub settings: Settings,
    /// The old states, overwritten by the new ones, [STATES, n].
    pub states: &'a mut [F],
    /// h, `[n]`.
    pub h: &'a mut [F],
    /// Values for backward, `[SAVED][n]`; empty in inference.
    pub saved: &'a mut [&'kept mut [F]],
}

/// A backward step of n units.
pub struct BackwardRow<'a, 'kept, F> {
    /// Values that forward saved, `[SAVED][n]`.
    pub saved: [&'a [F]; MAX_SAVED],
    /// The states before the step, `[STATES][n]`.
    pub old: [&'a [F]; MAX_STATES],
    /// The states after it, `[STATES][n]`.
    pub new: [&'a [F]; MAX_STATES],
    /// Gradient of h, `[n]`.
    pub dh: &'a [F],
    /// Gradients of the new states, overwritten by those of the old ones, `[STATES][n]`.
    pub d_states: &'a mut [&'kept mut [F]],
    /// Gradient of W·x and R·h', [n, 4], written.
    pub gates: &'a mut [F],
    /// Gradient of the bias, [n, 4].
    pub dbias: &'a mut [F],
    /// Further parameters, [n, 4]; empty where the cell has none.
    pub extra: &'a [F],
    /// Their gradient.
    pub dextra: &'a mut [F],
    /// Activations and clips.
    pub settings: Settings,
    /// True if `dbias` and `dextra` are overwritten instead of added to.
    pub first: bool,
}

/// Runs a [`ForwardRow`] through the cell C.
pub fn forward_f32<C: CellMath>(row: ForwardRow<f32>) {
    dispatch(RowStep(PhantomData::<C>, row));
}

/// Runs a [`BackwardRow`] through the cell C.
pub fn backward_f32<C: CellMath>(row: BackwardRow<f32>) {
    dispatch(RowStep(PhantomData::<C>, row));
}

/// Runs a [`ForwardRow`] through the cell C.
pub fn forward_f64<C: CellMath>(row: ForwardRow<f64>) {
    for u in 0..row.h.len() {
        let gates = |of: &[f64]| std::array::from_fn(|k| of[GATES * u + k]);
        let more = More { extra: if C::EXTRA { gates(row.extra) } else { [0.0; GATES] }, settings: row.settings };
        let old = std::array::from_fn(|s| if s < C::STATES.len() { row.states[s * row.h.len() + u] } else { 0.0 });
        let out = C::forward(gates(row.wx), gates(row.rh), gates(row.bias), &old, &more);
        row.h[u] = out.h;
        row.states.iter_mut().skip(u).step_by(row.h.len()).zip(out.states).for_each(|(to, value)| *to = value);
        row.saved.iter_mut().zip(out.saved).for_each(|(to, value)| to[u] = value);
    }
}

/// Runs a [`BackwardRow`] through the cell C.
pub fn backward_f64<C: CellMath>(row: BackwardRow<f64>) {
    for u in 0..row.dh.len() {
        let kept = std::array::from_fn(|q| if q < C::SAVED { row.saved[q][u] } else { 0.0 });
        let own = GATES * u..GATES * (u + 1);
        let extra = if C::EXTRA { std::array::from_fn(|k| row.extra[own.start + k]) } else { [0.0; GATES] };
        let more = More { extra, settings: row.settings };
        let state =
            |of: &[&[f64]; MAX_STATES]| std::array::from_fn(|s| if s < C::STATES.len() { of[s][u] } else { 0.0 });
        let d_new = std::array::from_fn(|s| row.d_states.get(s).map_or(0.0, |plane| plane[u]));
        let out = C::backward(&kept, &state(&row.old), &state(&row.new), row.dh[u], &d_new, &more);
        row.d_states.iter_mut().zip(out.states).for_each(|(plane, value)| plane[u] = value);
        row.gates[own.clone()].copy_from_slice(&out.gates);
        add(&mut row.dbias[own.clone()], &out.bias, row.first);
        if C::EXTRA {
            add(&mut row.dextra[own], &out.extra, row.first);
        }
    }
}

/// Overwrites sums with values, or adds them.
#[inline(always)]
fn add<F: Copy + std::ops::AddAssign>(sums: &mut [F], values: &[F], first: bool) {
    if first {
        sums.copy_from_slice(&values[..sums.len()]);
    } else {
        sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += value);
    }
}

struct RowStep<C, R>(PhantomData<C>, R);

/// Numbers, padded with zeros.
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

/// Inputs of up to eight units, from `first` on, beside their sums and states.
#[inline(always)]
fn more<C: CellMath, S: Simd>(simd: S, extra: &[f32], first: usize, settings: Settings) -> More<Lanes<S>> {
    if !C::EXTRA {
        return More { extra: [Lanes::of(simd, [0.0; LANES]); GATES], settings };
    }
    let own = &extra[GATES * first..extra.len().min(GATES * (first + LANES))];
    More { extra: gates(simd, &own.first_chunk().copied().unwrap_or_else(|| padded(own))), settings }
}

/// Runs eight units forward; new states overwrite the old ones.
#[inline(always)]
fn forward<C: CellMath, S: Simd>(
    simd: S,
    [wx, rh, bias]: [&[f32; GATES * LANES]; 3],
    more: &More<Lanes<S>>,
    states: &mut [[f32; LANES]; MAX_STATES],
    h: &mut [f32; LANES],
) -> [Lanes<S>; MAX_SAVED] {
    let out = C::forward(gates(simd, wx), gates(simd, rh), gates(simd, bias), &loaded(simd, states), more);
    *h = out.h.array();
    *states = out.states.map(Lanes::array);
    out.saved
}

/// Loads each state to a register.
#[inline(always)]
fn loaded<S: Simd>(simd: S, states: &[[f32; LANES]; MAX_STATES]) -> [Lanes<S>; MAX_STATES] {
    states.map(|state| Lanes::of(simd, state))
}

impl<C: CellMath> Work for RowStep<C, ForwardRow<'_, '_, f32>> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut row = self.1;
        let n = row.h.len();
        if row.saved.is_empty() {
            forward_eights::<C, S, false>(simd, &mut row);
        } else {
            forward_eights::<C, S, true>(simd, &mut row);
        }
        let first = n / LANES * LANES;
        if first < n {
            let gates = [row.wx, row.rh, row.bias].map(|all| padded(&all[GATES * first..GATES * n]));
            let (mut states, mut h) = ([[0.0; LANES]; MAX_STATES], [0.0; LANES]);
            for (state, plane) in states.iter_mut().zip(row.states.chunks_exact(n)).take(C::STATES.len()) {
                *state = padded(&plane[first..]);
            }
            let more = more::<C, S>(simd, row.extra, first, row.settings);
            let values = forward::<C, S>(simd, gates.each_ref(), &more, &mut states, &mut h);
            for (state, plane) in states.iter().zip(row.states.chunks_exact_mut(n)).take(C::STATES.len()) {
                plane[first..].copy_from_slice(&state[..n - first]);
            }
            row.h[first..].copy_from_slice(&h[..n - first]);
            for (to, value) in row.saved.iter_mut().zip(values) {
                to[first..].copy_from_slice(&value.array()[..n - first]);
            }
        }
    }
}

/// Runs all whole eights of a row forward. KEEPS: values for backward are saved.
#[inline(always)]
fn forward_eights<C: CellMath, S: Simd, const KEEPS: bool>(simd: S, row: &mut ForwardRow<f32>) {
    let (wx, rh, bias) = (row.wx.as_chunks().0, row.rh.as_chunks().0, row.bias.as_chunks().0);
    let n = row.h.len();
    let mut planes: [&mut [[f32; LANES]]; MAX_STATES] = Default::default();
    for (to, plane) in planes.iter_mut().zip(row.states.chunks_exact_mut(n)).take(C::STATES.len()) {
        *to = plane.as_chunks_mut().0;
    }
    let mut states = [[0.0; LANES]; MAX_STATES];
    for (k, (((wx, rh), bias), h)) in wx.iter().zip(rh).zip(bias).zip(row.h.as_chunks_mut().0).enumerate() {
        for (state, plane) in states.iter_mut().zip(&planes).take(C::STATES.len()) {
            *state = plane[k];
        }
        let more = more::<C, S>(simd, row.extra, k * LANES, row.settings);
        let values = forward::<C, S>(simd, [wx, rh, bias], &more, &mut states, h);
        for (state, plane) in states.iter().zip(&mut planes).take(C::STATES.len()) {
            plane[k] = *state;
        }
        if KEEPS {
            for (to, value) in row.saved.iter_mut().zip(values) {
                to[k * LANES..][..LANES].copy_from_slice(&value.array());
            }
        }
    }
}

/// Loads up to eight numbers, padded with zeros.
#[inline(always)]
fn load<S: Simd>(simd: S, values: &[f32]) -> Lanes<S> {
    Lanes::of(simd, values.first_chunk().copied().unwrap_or_else(|| padded(values)))
}

impl<C: CellMath> Work for RowStep<C, BackwardRow<'_, '_, f32>> {
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

/// Runs up to eight units backward.
#[inline(always)]
fn backward<C: CellMath, S: Simd>(simd: S, row: &mut BackwardRow<f32>, units: Range<usize>) {
    let mut kept = [Lanes::of(simd, [0.0; LANES]); MAX_SAVED];
    for (kept, saved) in kept.iter_mut().zip(&row.saved).take(C::SAVED) {
        *kept = load(simd, &saved[units.clone()]);
    }
    let dh = load(simd, &row.dh[units.clone()]);
    let mut states = [[Lanes::of(simd, [0.0; LANES]); MAX_STATES]; 3];
    let [old, new, d_new] = &mut states;
    for s in 0..C::STATES.len() {
        (old[s], new[s]) = (load(simd, &row.old[s][units.clone()]), load(simd, &row.new[s][units.clone()]));
        d_new[s] = load(simd, &row.d_states[s][units.clone()]);
    }
    let more = more::<C, S>(simd, row.extra, units.start, row.settings);
    let out = C::backward(&kept, old, new, dh, d_new, &more);
    for (plane, value) in row.d_states.iter_mut().zip(out.states).take(C::STATES.len()) {
        plane[units.clone()].copy_from_slice(&value.array()[..units.len()]);
    }
    let own = GATES * units.start..GATES * units.end;
    row.gates[own.clone()].copy_from_slice(&together(simd, out.gates)[..own.len()]);
    add(&mut row.dbias[own.clone()], &together(simd, out.bias), row.first);
    if C::EXTRA {
        add(&mut row.dextra[own], &together(simd, out.extra), row.first);
    }
}
