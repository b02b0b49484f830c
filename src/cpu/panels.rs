//! Panels: matrices packed in the order in which products read them.

use super::Team;
use super::share::share;
use super::team::WORTH_A_THREAD;
use crate::real::Real;
use crate::simd::WIDTH;
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
        Axis { split: split as usize, hi: hi.into(), lo: lo.into() }
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
        let one = n <= self.split || self.hi == self.lo * self.split as i64;
        usize::try_from(self.lo).ok().filter(|_| one)
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

/// B in panels of 16 columns: element (k, n) is at `n / 16 · panel + k · stride + n % 16`.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a, F> {
    pub data: &'a [F],
    /// Stride of a panel.
    pub panel: usize,
    /// Stride of a term.
    pub stride: usize,
    /// Number of panels.
    pub count: usize,
}

impl<'a, F> Panels<'a, F> {
    /// Panels as [`pack`] makes them.
    pub fn packed(data: &'a [F], terms: usize) -> Self {
        Panels { data, panel: terms * COLUMNS, stride: COLUMNS, count: data.len() / (terms * COLUMNS) }
    }

    /// A panel's elements from its first on, and the stride of its terms.
    #[inline(always)]
    pub fn panel(&self, index: usize) -> (&'a [F], usize) {
        (&self.data[index * self.panel..], self.stride)
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
