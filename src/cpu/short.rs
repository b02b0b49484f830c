//! Weights in fewer bytes than f32, packed in panels. Products make f32 of them as they read them, and sums are in f32.

use super::Team;
use super::panels::{COLUMNS, Matrices, Operand, Packed, Panels, Strip, parts};
use crate::error::Result;
use crate::memory;
use crate::real::Real;
use crate::simd::{Isa, Vectors};
use half::{bf16, f16};
use std::ops::Range;

/// A number of fewer bytes than f32.
pub(super) trait Short: Copy + Default + Send + Sync + 'static {
    /// Sixteen in f32.
    fn widen<S: Isa>(simd: S, halves: S::Halves, values: &[Self; COLUMNS]) -> S::WideF32;

    /// Factor of numbers up to `largest`.
    fn factor(_largest: f32) -> f32 {
        1.0
    }

    /// The nearest.
    fn nearest(value: f32) -> Self;
}

impl Short for f16 {
    #[inline(always)]
    fn widen<S: Isa>(simd: S, halves: S::Halves, values: &[f16; COLUMNS]) -> S::WideF32 {
        simd.widen_f16(halves, values)
    }

    fn nearest(value: f32) -> f16 {
        f16::from_f32(value)
    }
}

impl Short for bf16 {
    #[inline(always)]
    fn widen<S: Isa>(simd: S, _: S::Halves, values: &[bf16; COLUMNS]) -> S::WideF32 {
        simd.widen_bf16(values)
    }

    fn nearest(value: f32) -> bf16 {
        bf16::from_f32(value)
    }
}

/// Largest whole number of a weight in int8.
const MOST: f32 = i8::MAX as f32;

impl Short for i8 {
    #[inline(always)]
    fn widen<S: Isa>(simd: S, _: S::Halves, values: &[i8; COLUMNS]) -> S::WideF32 {
        simd.widen_i8(values)
    }

    fn factor(largest: f32) -> f32 {
        largest / MOST
    }

    fn nearest(value: f32) -> i8 {
        value.round_ties_even().clamp(-MOST, MOST) as i8
    }
}

/// Packed panels of short numbers that are kept, of one or several matrices, one after the other.
#[derive(Debug)]
pub(super) struct ShortPanels<E> {
    /// [matrices, panels, terms, 16].
    numbers: Vec<E>,
    /// A factor for each column, [matrices, panels, 16].
    factors: Vec<f32>,
    count: usize,
    terms: usize,
}

impl<E: Short> ShortPanels<E> {
    /// Rounds and packs matrices on all threads.
    pub fn new<F: Real>(team: &Team, values: &[F], matrices: Matrices) -> Result<Self> {
        let Matrices { count, terms, columns, .. } = matrices;
        let wide = columns.next_multiple_of(COLUMNS);
        let mut numbers = memory::filled(count * wide * terms, E::default(), "packed weights")?;
        let mut factors = memory::filled(count * wide, 0.0, "packed weights")?;
        let all = numbers.chunks_exact_mut((wide * terms).max(1)).zip(factors.chunks_exact_mut(wide.max(1)));
        for (matrix, (numbers, factors)) in all.enumerate() {
            let value = |k: usize, n: usize| values[matrices.at(matrix, k, n)].to_f32().unwrap_or(f32::NAN);
            let numbers = parts(team, matrices, numbers, COLUMNS * terms);
            let factors = parts(team, matrices, factors, COLUMNS);
            let work =
                numbers.into_iter().zip(factors).map(|((columns, numbers), (_, factors))| (columns, numbers, factors));
            team.each(work.collect(), |(columns, numbers, factors)| shorten(value, terms, columns, numbers, factors));
        }
        Ok(ShortPanels { numbers, factors, count, terms })
    }

    /// One of the matrices.
    pub fn matrix(&self, index: usize) -> Shortened<'_, E> {
        let (numbers, factors) = (self.numbers.len() / self.count, self.factors.len() / self.count);
        Shortened {
            packed: Packed::new(&self.numbers[index * numbers..][..numbers], self.terms),
            factors: &self.factors[index * factors..][..factors],
        }
    }
}

/// Rounds and packs the columns of a matrix. Columns past the last stay zero.
fn shorten<E: Short>(
    value: impl Fn(usize, usize) -> f32,
    terms: usize,
    columns: Range<usize>,
    numbers: &mut [E],
    factors: &mut [f32],
) {
    let panels = numbers.chunks_exact_mut((terms * COLUMNS).max(1)).zip(factors.chunks_exact_mut(COLUMNS));
    for (first, (panel, factors)) in columns.clone().step_by(COLUMNS).zip(panels) {
        for (n, factor) in factors.iter_mut().enumerate().take(columns.end - first) {
            // A NaN makes the factor, and so the column's products, NaN.
            let larger = |most: f32, size: f32| if most.is_nan() || size <= most { most } else { size };
            *factor = E::factor((0..terms).map(|k| value(k, first + n).abs()).fold(0.0, larger));
            let inverse = if *factor == 0.0 { 0.0 } else { 1.0 / *factor };
            for (k, row) in panel.chunks_exact_mut(COLUMNS).enumerate() {
                row[n] = E::nearest(value(k, first + n) * inverse);
            }
        }
    }
}

/// A matrix of [`ShortPanels`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Shortened<'a, E> {
    packed: Packed<'a, E>,
    factors: &'a [f32],
}

impl<F: Real, E: Short> Panels<F> for Shortened<'_, E> {
    #[inline(always)]
    fn operand<S: Isa>(self, simd: S) -> impl Operand<S, F> {
        Widened { panels: self.packed, factors: self.factors, halves: simd.halves() }
    }

    fn part(self, columns: &Range<usize>, first_term: usize) -> Self {
        let factors = &self.factors[columns.start..columns.end.next_multiple_of(COLUMNS)];
        Shortened { packed: self.packed.part(columns, first_term), factors }
    }
}

/// [`Shortened`] panels, all or some neighbouring ones, that a set of instructions widens.
#[derive(Clone, Copy)]
pub(super) struct Widened<'a, S: Isa, P> {
    panels: P,
    factors: &'a [f32],
    halves: S::Halves,
}

impl<'a, S: Isa, F: Real, E: Short> Operand<S, F> for Widened<'a, S, Packed<'a, E>> {
    type Strip<const P: usize> = Widened<'a, S, [&'a [[E; COLUMNS]]; P]>;

    #[inline(always)]
    fn strip<const P: usize>(self, first: usize, terms: Range<usize>) -> Self::Strip<P> {
        let factors = &self.factors[first * COLUMNS..][..P * COLUMNS];
        Widened { panels: self.panels.panels(first, terms), factors, halves: self.halves }
    }
}

impl<S: Isa, F: Real, E: Short, const P: usize> Strip<S, F, P> for Widened<'_, S, [&[[E; COLUMNS]]; P]> {
    #[inline(always)]
    fn term(&self, simd: S, k: usize) -> [F::Wide<S>; P] {
        let mut row = [F::zeros(simd); P];
        for (row, panel) in row.iter_mut().zip(&self.panels) {
            *row = F::from_f32(simd, E::widen(simd, self.halves, &panel[k]));
        }
        row
    }

    #[inline(always)]
    fn finish(&self, simd: S, p: usize, sums: F::Wide<S>) -> F::Wide<S> {
        let factors = F::from_f32(simd, f32::load(simd, &self.factors[p * COLUMNS..]));
        F::times(simd, sums, factors)
    }
}
