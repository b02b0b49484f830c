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

/// A matrix that products read in panels of 16 columns.
pub(super) trait Operand<F: Real>: Copy {
    /// P neighbouring panels.
    type Strip<const P: usize>: Strip<F, P>;
    /// The panels from `first` on, with `terms` terms.
    fn strip<const P: usize>(self, first: usize, terms: usize) -> Self::Strip<P>;
}

/// Some neighbouring panels. A method instead of a closure, which is not always inlined.
pub(super) trait Strip<F: Real, const P: usize> {
    /// Term k of each.
    fn term<S: Isa>(&self, simd: S, k: usize) -> [F::Wide<S>; P];
}

/// Packed panels: element (k, n) is at `n / 16 · panel + k · 16 + n % 16`.
#[derive(Clone, Copy)]
pub(super) struct Packed<'a, F> {
    pub data: &'a [F],
    /// Stride of a panel.
    pub panel: usize,
}

impl<'a, F> Packed<'a, F> {
    /// Panels as [`pack`] makes them.
    pub fn new(data: &'a [F], terms: usize) -> Self {
        Packed { data, panel: terms * COLUMNS }
    }
}

impl<'a, F: Real> Operand<F> for Packed<'a, F> {
    type Strip<const P: usize> = [&'a [[F; COLUMNS]]; P];

    #[inline(always)]
    fn strip<const P: usize>(self, first: usize, terms: usize) -> Self::Strip<P> {
        let mut panels: Self::Strip<P> = [&[]; P];
        for (p, panel) in panels.iter_mut().enumerate() {
            *panel = &self.data[(first + p) * self.panel..].as_chunks().0[..terms];
        }
        panels
    }
}

impl<F: Real, const P: usize> Strip<F, P> for [&[[F; COLUMNS]]; P] {
    #[inline(always)]
    fn term<S: Isa>(&self, simd: S, k: usize) -> [F::Wide<S>; P] {
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

impl<F: Real> Operand<F> for RowMajor<'_, F> {
    type Strip<const P: usize> = Self;

    #[inline(always)]
    fn strip<const P: usize>(self, first: usize, _: usize) -> Self {
        RowMajor { data: &self.data[first * COLUMNS..], ..self }
    }
}

impl<F: Real, const P: usize> Strip<F, P> for RowMajor<'_, F> {
    #[inline(always)]
    fn term<S: Isa>(&self, simd: S, k: usize) -> [F::Wide<S>; P] {
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
            for (k, row) in panel.chunks_exact_mut(COLUMNS).enumerate() {
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
    let Matrices { first, terms, columns, k: axis, n: across, .. } = matrix;
    let mut parts = Vec::new();
    let mut rest = panels;
    for columns in share(columns, team.threads_for((terms * columns) as u64 / WORTH_A_THREAD), COLUMNS) {
        let (own, after) = rest.split_at_mut(packed_len(terms, columns.len()));
        parts.push((columns, own));
        rest = after;
    }
    let at = |k: usize, n: usize| (first + axis.at(k) + n as i64 * across) as usize;
    team.each(parts, |(columns, own)| pack(values, terms, columns, at, across == 1, own));
}
