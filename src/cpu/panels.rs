//! Panels: matrices packed in the order in which products read them.

use super::Team;
use super::share::share;
use super::team::WORTH_A_THREAD;
use crate::real::Real;
use crate::simd::{Isa, WIDTH};
use std::ops::Range;

/// Columns of a panel, which a product computes at once.
pub(super) const COLUMNS: usize = WIDTH;

/// Addresses along an axis in two levels, each with its stride.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    split: usize,
    hi: i64,
    lo: i64,
}

impl Axis {
    /// An axis with one stride.
    pub fn plain(stride: usize) -> Axis {
        Axis { split: usize::MAX, hi: 0, lo: stride as i64 }
    }

    pub fn new(split: u32, hi: i32, lo: i32) -> Axis {
        let (split, hi, lo) = (split as usize, hi.into(), lo.into());
        // One level, without divisions, where the second goes on as the first.
        Axis { split: if hi == lo * split as i64 { usize::MAX } else { split }, hi, lo }
    }

    #[inline(always)]
    pub fn at(self, index: usize) -> i64 {
        if index < self.split {
            return index as i64 * self.lo;
        }
        (index / self.split) as i64 * self.hi + (index % self.split) as i64 * self.lo
    }

    /// The stride of `n` indices, if they have a single one that is not negative.
    pub fn stride(self, n: usize) -> Option<usize> {
        usize::try_from(self.lo).ok().filter(|_| n <= self.split)
    }
}

/// Addresses of the elements of consecutive matrices in a buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Matrices {
    pub count: usize,
    pub first: i64,
    /// Stride of a matrix.
    pub apart: i64,
    pub terms: usize,
    pub columns: usize,
    pub k: Axis,
    pub n: i64,
}

impl Matrices {
    /// Address of element (k, n) of a matrix.
    #[inline(always)]
    pub fn at(&self, matrix: usize, k: usize, n: usize) -> usize {
        (self.first + matrix as i64 * self.apart + self.k.at(k) + n as i64 * self.n) as usize
    }
}

/// A matrix that products read in panels of 16 columns, with a set of instructions.
pub(super) trait Operand<S: Isa, F: Real>: Copy {
    /// P neighbouring panels.
    type Strip<const P: usize>: Strip<S, F, P>;
    /// Some terms of the panels from `first` on.
    fn strip<const P: usize>(self, first: usize, terms: Range<usize>) -> Self::Strip<P>;
}

/// Some neighbouring panels. A method instead of a closure, which is not always inlined.
pub(super) trait Strip<S: Isa, F: Real, const P: usize> {
    /// Term k of each.
    fn term(&self, simd: S, k: usize) -> [F::Wide<S>; P];

    /// The sums of panel p, with the factor that terms leave out.
    #[inline(always)]
    fn finish(&self, _: S, _p: usize, sums: F::Wide<S>) -> F::Wide<S> {
        sums
    }
}

/// Panels in the form in which they are kept.
pub(super) trait Panels<F: Real>: Copy + Send + Sync {
    /// As a set of instructions reads them.
    fn operand<S: Isa>(self, simd: S) -> impl Operand<S, F>;
    /// The panels of some columns, the first of a panel up to the last of one or of the matrix, from a term on.
    fn part(self, columns: &Range<usize>, first_term: usize) -> Self;
}

/// Packed panels: element (k, n) is at `n / 16 · panel + k · 16 + n % 16`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed<'a, E> {
    data: &'a [E],
    /// Stride of a panel.
    panel: usize,
}

impl<'a, E> Packed<'a, E> {
    /// Panels as [`pack`] makes them.
    pub fn new(data: &'a [E], terms: usize) -> Self {
        Packed { data, panel: terms * COLUMNS }
    }

    /// [`Panels::part`].
    pub fn part(self, columns: &Range<usize>, first_term: usize) -> Self {
        let panels = columns.start / COLUMNS..columns.end.div_ceil(COLUMNS);
        Packed { data: &self.data[panels.start * self.panel + first_term * COLUMNS..panels.end * self.panel], ..self }
    }

    /// Some terms of P neighbouring panels from `first` on.
    #[inline(always)]
    pub fn panels<const P: usize>(self, first: usize, terms: Range<usize>) -> [&'a [[E; COLUMNS]]; P] {
        let mut panels: [&'a [[E; COLUMNS]]; P] = [&[]; P];
        for (p, panel) in panels.iter_mut().enumerate() {
            *panel = &self.data[(first + p) * self.panel..].as_chunks().0[terms.clone()];
        }
        panels
    }
}

impl<F: Real> Panels<F> for Packed<'_, F> {
    #[inline(always)]
    fn operand<S: Isa>(self, _: S) -> impl Operand<S, F> {
        self
    }

    fn part(self, columns: &Range<usize>, first_term: usize) -> Self {
        Packed::part(self, columns, first_term)
    }
}

impl<'a, S: Isa, F: Real> Operand<S, F> for Packed<'a, F> {
    type Strip<const P: usize> = [&'a [[F; COLUMNS]]; P];

    #[inline(always)]
    fn strip<const P: usize>(self, first: usize, terms: Range<usize>) -> Self::Strip<P> {
        self.panels(first, terms)
    }
}

impl<S: Isa, F: Real, const P: usize> Strip<S, F, P> for [&[[F; COLUMNS]]; P] {
    #[inline(always)]
    fn term(&self, simd: S, k: usize) -> [F::Wide<S>; P] {
        let mut row = [F::zeros(simd); P];
        for p in 0..P {
            row[p] = F::load(simd, &self[p][k]);
        }
        row
    }
}

/// A row-major matrix as it stands.
#[derive(Clone, Copy)]
pub(super) struct RowMajor<'a, F> {
    pub data: &'a [F],
    /// Stride of a term.
    pub stride: usize,
}

impl<S: Isa, F: Real> Operand<S, F> for RowMajor<'_, F> {
    type Strip<const P: usize> = Self;

    #[inline(always)]
    fn strip<const P: usize>(self, first: usize, terms: Range<usize>) -> Self {
        RowMajor { data: &self.data[terms.start * self.stride + first * COLUMNS..], ..self }
    }
}

impl<S: Isa, F: Real, const P: usize> Strip<S, F, P> for RowMajor<'_, F> {
    #[inline(always)]
    fn term(&self, simd: S, k: usize) -> [F::Wide<S>; P] {
        let values = &self.data[k * self.stride..][..P * COLUMNS];
        let mut row = [F::zeros(simd); P];
        for p in 0..P {
            row[p] = F::load(simd, &values[p * COLUMNS..]);
        }
        row
    }
}

/// Number of elements of a matrix packed in panels.
pub(super) fn packed_len(terms: usize, columns: usize) -> usize {
    columns.next_multiple_of(COLUMNS) * terms
}

/// Packs the columns of B in panels; `at` is the address of element (k, n). Columns past the last are zero.
pub(super) fn pack<F: Real>(
    b: &[F],
    terms: usize,
    columns: Range<usize>,
    at: impl Fn(usize, usize) -> usize,
    side_by_side: bool,
    panels: &mut [F],
) {
    for (first, panel) in columns.clone().step_by(COLUMNS).zip(panels.chunks_exact_mut(terms * COLUMNS)) {
        let width = COLUMNS.min(columns.end - first);
        if side_by_side && width == COLUMNS {
            for (k, row) in panel.as_chunks_mut::<COLUMNS>().0.iter_mut().enumerate() {
                row.copy_from_slice(&b[at(k, first)..][..COLUMNS]);
            }
            continue;
        }
        panel.fill(F::zero());
        for n in 0..width {
            for (k, row) in panel.chunks_exact_mut(COLUMNS).enumerate() {
                row[n] = b[at(k, first + n)];
            }
        }
    }
}

/// Packs one matrix on all threads.
pub(super) fn pack_all<F: Real>(team: &Team, values: &[F], matrix: Matrices, panels: &mut [F]) {
    let at = |k: usize, n: usize| matrix.at(0, k, n);
    let work = parts(team, matrix, panels, COLUMNS * matrix.terms);
    team.each(work, |(columns, own)| pack(values, matrix.terms, columns, at, matrix.n == 1, own));
}

/// Divides the columns of a matrix among threads, and a buffer with `of_panel` elements for each panel.
pub(super) fn parts<'a, E>(
    team: &Team,
    matrix: Matrices,
    mut rest: &'a mut [E],
    of_panel: usize,
) -> Vec<(Range<usize>, &'a mut [E])> {
    let threads = team.threads_for((matrix.terms * matrix.columns) as u64 / WORTH_A_THREAD);
    let mut parts = Vec::new();
    for columns in share(matrix.columns, threads, COLUMNS) {
        let (own, after) = std::mem::take(&mut rest).split_at_mut(columns.len().div_ceil(COLUMNS) * of_panel);
        parts.push((columns, own));
        rest = after;
    }
    parts
}
