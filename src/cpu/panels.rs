//! Matrices in the order in which products read them.

use super::Team;
use super::share::share;
use super::team::WORTH_A_THREAD;
use crate::real::Real;
use crate::simd::WIDTH;
use std::ops::Range;

/// Columns that are made at once.
pub(super) const COLUMNS: usize = WIDTH;

/// Indices split in two, each part with its stride.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    split: usize,
    hi: i64,
    lo: i64,
}

impl Axis {
    /// One stride.
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

    /// The one stride of `n` indices, where they have one that runs forward.
    pub fn stride(self, n: usize) -> Option<usize> {
        let one = n <= self.split || self.hi == self.lo * self.split as i64;
        usize::try_from(self.lo).ok().filter(|_| one)
    }
}

/// Where the elements of some matrices lie in a buffer, one matrix after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Matrices {
    pub count: usize,
    pub first: i64,
    /// From one matrix to the next.
    pub apart: i64,
    pub terms: usize,
    pub columns: usize,
    pub k: Axis,
    pub n: i64,
}

/// B in panels of 16 columns: element (k, n) lies at `n / 16 · panel + k · stride + n % 16`.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a, F> {
    pub data: &'a [F],
    /// From one panel to the next.
    pub panel: usize,
    /// From one term to the next.
    pub stride: usize,
    /// How many panels.
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

/// Elements of a matrix packed in panels.
pub(super) fn packed_len(terms: usize, columns: usize) -> usize {
    columns.next_multiple_of(COLUMNS) * terms
}

/// Packs the columns of B in panels; `at` tells where (k, n) lies. Columns past the last are zero.
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

/// Packs one matrix by all threads.
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
