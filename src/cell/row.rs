//! A cell over a row of units, for time steps on the CPU.
//!
//! In f32, the cell computes as many units at a time as a vector register has numbers, with a register for each of its values. In
//! memory the four gates of a unit are side by side; each gate gets a register of its own. In f64, which only tests use, it computes
//! one unit at a time.

use super::lanes::{Lanes, lanes};
use super::{CellMath, GATES, MAX_SAVED, MAX_STATES, More, Settings, Terms, Update};
use crate::simd::{Isa, Work, dispatch};
use bytemuck::{Pod, Zeroable};
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

/// The four gates of the units of a register, as they are in memory.
type Quarters<S> = [<S as Isa>::Floats; GATES];

/// Numbers as arrays of those of T; a rest that does not fill one is left out.
#[inline(always)]
fn chunks<T: Pod>(values: &[f32]) -> &[T] {
    let whole = size_of::<T>() / size_of::<f32>();
    bytemuck::cast_slice(&values[..values.len() / whole * whole])
}

/// [`chunks`] to be written.
#[inline(always)]
fn chunks_mut<T: Pod>(values: &mut [f32]) -> &mut [T] {
    let whole = size_of::<T>() / size_of::<f32>();
    let len = values.len() / whole * whole;
    bytemuck::cast_slice_mut(&mut values[..len])
}

/// The first numbers as an array, padded with zeros if there are fewer.
#[inline(always)]
fn padded<T: Pod>(values: &[f32]) -> T {
    let mut all = T::zeroed();
    let to = bytemuck::cast_slice_mut(std::slice::from_mut(&mut all));
    let len = values.len().min(to.len());
    to[..len].copy_from_slice(&values[..len]);
    all
}

/// The gates of a register's units, a register for each gate.
#[inline(always)]
fn gates<S: Isa>(simd: S, row: &Quarters<S>) -> [Lanes<S>; GATES] {
    Lanes::by_gate(simd, std::array::from_fn(|k| Lanes::of(simd, row[k])))
}

/// The reverse of [`gates`].
#[inline(always)]
fn together<S: Isa>(simd: S, gates: [Lanes<S>; GATES]) -> Quarters<S> {
    Lanes::by_unit(simd, gates).map(Lanes::array)
}

/// Inputs of up to a register's units, from `first` on, beside their sums and states.
#[inline(always)]
fn more<C: CellMath, S: Isa>(simd: S, extra: &[f32], first: usize, settings: Settings) -> More<Lanes<S>> {
    if !C::EXTRA {
        return More { extra: [Lanes::of(simd, S::Floats::zeroed()); GATES], settings };
    }
    More { extra: gates(simd, &array(&extra[GATES * first..])), settings }
}

/// The first numbers as an array, padded with zeros if there are fewer; without a loop if there are not.
#[inline(always)]
fn array<T: Pod>(values: &[f32]) -> T {
    chunks(values).first().copied().unwrap_or_else(|| padded(values))
}

/// W·x, R·h' and bias of a register's units, as they are in memory.
#[derive(Clone, Copy)]
struct InMemory<'a, S: Isa> {
    simd: S,
    terms: [&'a Quarters<S>; 3],
}

impl<S: Isa> Terms<Lanes<S>> for InMemory<'_, S> {
    #[inline(always)]
    fn apart(self) -> [[Lanes<S>; GATES]; 3] {
        let [wx, rh, bias] = self.terms;
        [gates(self.simd, wx), gates(self.simd, rh), gates(self.simd, bias)]
    }

    /// Added first: one transpose instead of three.
    #[inline(always)]
    fn sum(self) -> [Lanes<S>; GATES] {
        let ([wx, rh, bias], simd) = (self.terms, self.simd);
        let mut sums = [Lanes::of(simd, wx[0]); GATES];
        for (k, sum) in sums.iter_mut().enumerate() {
            *sum = Lanes::of(simd, wx[k]) + Lanes::of(simd, rh[k]) + Lanes::of(simd, bias[k]);
        }
        Lanes::by_gate(simd, sums)
    }
}

impl<C: CellMath> Work for RowStep<C, ForwardRow<'_, '_, f32>> {
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let mut row = self.1;
        let n = row.h.len();
        if row.saved.is_empty() {
            forward_whole::<C, S, false>(simd, &mut row);
        } else {
            forward_whole::<C, S, true>(simd, &mut row);
        }
        let first = n / lanes::<S>() * lanes::<S>();
        if first < n {
            let rest = [row.wx, row.rh, row.bias].map(|all| padded(&all[GATES * first..GATES * n]));
            let mut old = [Lanes::of(simd, S::Floats::zeroed()); MAX_STATES];
            for (state, plane) in old.iter_mut().zip(row.states.chunks_exact(n)).take(C::STATES.len()) {
                *state = Lanes::of(simd, padded(&plane[first..]));
            }
            let more = more::<C, S>(simd, row.extra, first, row.settings);
            let Update { output, states, saved } = C::update(InMemory { simd, terms: rest.each_ref() }, &old, &more);
            let store = |to: &mut [f32], value: Lanes<S>| to.copy_from_slice(&value.array().as_ref()[..n - first]);
            for (&state, plane) in states.iter().zip(row.states.chunks_exact_mut(n)).take(C::STATES.len()) {
                store(&mut plane[first..], state);
            }
            store(&mut row.h[first..], C::hidden(output, &states, &more));
            for (to, value) in row.saved.iter_mut().zip(saved) {
                store(&mut to[first..], value);
            }
        }
    }
}

/// Runs all units of a row that fill registers forward. KEEPS: values for backward are saved.
#[inline(always)]
fn forward_whole<C: CellMath, S: Isa, const KEEPS: bool>(simd: S, row: &mut ForwardRow<f32>) {
    let [wx, rh, bias] = [row.wx, row.rh, row.bias].map(chunks::<Quarters<S>>);
    let n = row.h.len();
    let mut planes: [&mut [S::Floats]; MAX_STATES] = Default::default();
    for (to, plane) in planes.iter_mut().zip(row.states.chunks_exact_mut(n)).take(C::STATES.len()) {
        *to = chunks_mut(plane);
    }
    let mut states = [Lanes::of(simd, S::Floats::zeroed()); MAX_STATES];
    let h = chunks_mut::<S::Floats>(row.h);
    for (k, (((wx, rh), bias), h)) in wx.iter().zip(rh).zip(bias).zip(&mut *h).enumerate() {
        for (state, plane) in states.iter_mut().zip(&planes).take(C::STATES.len()) {
            *state = Lanes::of(simd, plane[k]);
        }
        let more = more::<C, S>(simd, row.extra, k * lanes::<S>(), row.settings);
        let update = C::update(InMemory { simd, terms: [wx, rh, bias] }, &states, &more);
        for (state, plane) in update.states.iter().zip(&mut planes).take(C::STATES.len()) {
            plane[k] = state.array();
        }
        *h = update.output.array();
        if KEEPS {
            for (to, value) in row.saved.iter_mut().zip(update.saved) {
                chunks_mut(to)[k] = value.array();
            }
        }
    }
    for (k, h) in h.iter_mut().enumerate() {
        for (state, plane) in states.iter_mut().zip(&planes).take(C::STATES.len()) {
            *state = Lanes::of(simd, plane[k]);
        }
        let more = more::<C, S>(simd, row.extra, k * lanes::<S>(), row.settings);
        *h = C::hidden(Lanes::of(simd, *h), &states, &more).array();
    }
}

/// Loads up to a register's numbers, padded with zeros.
#[inline(always)]
fn load<S: Isa>(simd: S, values: &[f32]) -> Lanes<S> {
    Lanes::of(simd, array(values))
}

impl<C: CellMath> Work for RowStep<C, BackwardRow<'_, '_, f32>> {
    #[inline(always)]
    fn run<S: Isa>(mut self, simd: S) {
        let n = self.1.dh.len();
        let whole = n / lanes::<S>() * lanes::<S>();
        for first in (0..whole).step_by(lanes::<S>()) {
            backward::<C, S>(simd, &mut self.1, first..first + lanes::<S>());
        }
        if whole < n {
            backward::<C, S>(simd, &mut self.1, whole..n);
        }
    }
}

/// Runs up to a register's units backward.
#[inline(always)]
fn backward<C: CellMath, S: Isa>(simd: S, row: &mut BackwardRow<f32>, units: Range<usize>) {
    let nothing = Lanes::of(simd, S::Floats::zeroed());
    let mut kept = [nothing; MAX_SAVED];
    for (kept, saved) in kept.iter_mut().zip(&row.saved).take(C::SAVED) {
        *kept = load(simd, &saved[units.clone()]);
    }
    let dh = load(simd, &row.dh[units.clone()]);
    let mut states = [[nothing; MAX_STATES]; 3];
    let [old, new, d_new] = &mut states;
    for s in 0..C::STATES.len() {
        (old[s], new[s]) = (load(simd, &row.old[s][units.clone()]), load(simd, &row.new[s][units.clone()]));
        d_new[s] = load(simd, &row.d_states[s][units.clone()]);
    }
    let more = more::<C, S>(simd, row.extra, units.start, row.settings);
    let out = C::backward(&kept, old, new, dh, d_new, &more);
    for (plane, value) in row.d_states.iter_mut().zip(out.states).take(C::STATES.len()) {
        plane[units.clone()].copy_from_slice(&value.array().as_ref()[..units.len()]);
    }
    let own = GATES * units.start..GATES * units.end;
    let own_gates = together(simd, out.gates);
    row.gates[own.clone()].copy_from_slice(&bytemuck::cast_slice(&own_gates)[..own.len()]);
    add(&mut row.dbias[own.clone()], bytemuck::cast_slice(&together(simd, out.bias)), row.first);
    if C::EXTRA {
        add(&mut row.dextra[own], bytemuck::cast_slice(&together(simd, out.extra)), row.first);
    }
}

#[cfg(test)]
mod tests {
    use super::super::CELLS;
    use super::*;
    use crate::simd::Instructions;
    use crate::simd::tests::with_each;

    /// Results of a step of `n` units forward and backward.
    fn step(spec: &super::super::CellSpec, n: usize, first: bool) -> Vec<f32> {
        let mut state = 5u64;
        let mut draw = |count: usize| -> Vec<f32> {
            let mut next = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 40) as f32 / (1u64 << 24) as f32 * 4.0 - 1.9
            };
            (0..count).map(|_| next()).collect()
        };
        let (wx, rh, bias, extra) = (draw(GATES * n), draw(GATES * n), draw(GATES * n), draw(GATES * n));
        let extra = if spec.extra { &extra[..] } else { &[] };
        let settings = Settings { clip: 1.5, cell_clip: 0.8, ..Settings::default() };
        let old: Vec<f32> = draw(spec.states.len() * n).iter().map(|value| value.abs() + 0.1).collect();
        let forward = |saved: &mut [&mut [f32]]| {
            let (mut states, mut h) = (old.clone(), vec![0.0; n]);
            let (wx, rh, bias) = (&wx, &rh, &bias);
            (spec.forward_row.0)(ForwardRow { wx, rh, bias, extra, settings, states: &mut states, h: &mut h, saved });
            (states, h)
        };
        let mut kept = vec![vec![0.0; n]; spec.saved];
        let (states, h) = forward(&mut kept.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
        assert_eq!(forward(&mut []), (states.clone(), h.clone()), "{}: inference", spec.name);
        let plane = |of: &'_ [f32], s: usize| -> Vec<f32> { of.get(s * n..(s + 1) * n).unwrap_or(&[]).to_vec() };
        let (old, new): (Vec<_>, Vec<_>) = (0..MAX_STATES).map(|s| (plane(&old, s), plane(&states, s))).unzip();
        let mut d_states = vec![draw(n); spec.states.len()];
        let (dh, mut gates, mut dbias) = (draw(n), vec![0.0; GATES * n], draw(GATES * n));
        let mut dextra = draw(if spec.extra { GATES * n } else { 0 });
        let mut planes: Vec<&mut [f32]> = d_states.iter_mut().map(Vec::as_mut_slice).collect();
        (spec.backward_row.0)(BackwardRow {
            saved: std::array::from_fn(|q| kept.get(q).map_or(&[][..], Vec::as_slice)),
            old: std::array::from_fn(|s| &old[s][..]),
            new: std::array::from_fn(|s| &new[s][..]),
            dh: &dh,
            d_states: &mut planes,
            gates: &mut gates,
            dbias: &mut dbias,
            extra,
            dextra: &mut dextra,
            settings,
            first,
        });
        [vec![states, h, gates, dbias, dextra], kept, d_states].concat().concat()
    }

    /// A step has the same bits with every set that fuses products with sums, and about the same numbers without.
    #[test]
    fn cells_agree_with_every_set_of_instructions() {
        for spec in CELLS {
            for n in [1, 7, 8, 15, 16, 17, 31, 32, 40] {
                let all = with_each(|| [step(spec, n, true), step(spec, n, false)]);
                // Of aarch64's all do.
                let fuses = |set: Instructions| set > Instructions::Base || cfg!(target_arch = "aarch64");
                let fused = all.iter().find(|(set, _)| fuses(*set));
                for (set, values) in &all {
                    if let (Some((_, right)), true) = (fused, fuses(*set)) {
                        assert_eq!(values, right, "{} of {n} units with {set}", spec.name);
                    }
                    for (&value, &right) in values.iter().flatten().zip(all[0].1.iter().flatten()) {
                        // A few roundings of a number, some of them of products that cancel out.
                        let near = (value - right).abs() <= 4e-6 * right.abs().max(1.0);
                        assert!(near, "{} of {n} units with {set}: {value} and {right}", spec.name);
                    }
                }
            }
        }
    }
}
