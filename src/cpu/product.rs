//! Matrix products on the CPU.
//!
//! One generic kernel of plain loops serves all of them. Measured against libraries in GFLOP/s on one AVX2 core with
//! a peak of 87 (rows × 256 terms × 1,024 columns, f32):
//!
//! | rows | 1 | 16 | 2,048 |
//! |---|---|---|---|
//! | here | PENDING | 87 | PENDING |
//! | rten-gemm 0.27, packed weights | 22 | 82 | 84 |
//! | gemm 0.19 | 24 | 40 | 85 |
//! | matrixmultiply 0.3 (ndarray's `dot`) | 3 | 26 | 75 |

use super::Args;
use super::workers::{Piece, deal, share};
use crate::kernel::{Call, params::Matmul};
use crate::real::Real;
use crate::simd::{WIDTH, Work, dispatch};
use pulp::Simd;
use std::ops::Range;

/// Rows that are made at once: 6 × 16 sums of f32 take twelve of AVX2's sixteen vector registers.
const ROWS: usize = 6;
/// Columns that are made at once.
pub(super) const COLUMNS: usize = WIDTH;
/// Terms that are summed before a block of sums goes back to memory: a panel of B then stays in the first cache.
const TERMS: usize = 256;
/// Rows that are made with all panels of B before the next ones: their terms stay in the second cache.
const ROWS_A_PASS: usize = 16 * ROWS;
/// Below this many multiplications a thread is not worth waking.
pub(super) const WORTH_A_THREAD: u64 = 1 << 17;

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

    /// A matrix in rows as it stands; its columns must be a multiple of 16.
    pub fn rows(data: &'a [F], columns: usize) -> Self {
        Panels { data, panel: COLUMNS, stride: columns, count: columns / COLUMNS }
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

/// M rows times one panel, to `out`.
#[inline(always)]
fn block<const M: usize, S: Simd, F: Real>(
    simd: S,
    a: [&[F]; M],
    (b, stride): (&[F], usize),
    terms: usize,
    out: &mut [F],
    out_stride: usize,
) {
    let mut sums = [F::zeros(simd); M];
    for k in 0..terms {
        let row = F::load(simd, &b[k * stride..]);
        for m in 0..M {
            sums[m] = F::multiply_add(simd, a[m][k], row, sums[m]);
        }
    }
    for m in 0..M {
        F::store(simd, sums[m], &mut out[m * out_stride..]);
    }
}

/// One row times one panel, in four chains of sums: a single one would wait for itself at every term.
#[inline(always)]
fn single<S: Simd, F: Real>(simd: S, a: &[F], (b, stride): (&[F], usize), out: &mut [F]) {
    let mut sums = [F::zeros(simd); 4];
    let whole = a.len() / 4 * 4;
    for k in (0..whole).step_by(4) {
        for chain in 0..4 {
            let row = F::load(simd, &b[(k + chain) * stride..]);
            sums[chain] = F::multiply_add(simd, a[k + chain], row, sums[chain]);
        }
    }
    for k in whole..a.len() {
        sums[0] = F::multiply_add(simd, a[k], F::load(simd, &b[k * stride..]), sums[0]);
    }
    let (low, high) = (F::plus(simd, sums[0], sums[1]), F::plus(simd, sums[2], sums[3]));
    F::store(simd, F::plus(simd, low, high), out);
}

/// Rows of A, the terms of each one after another.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, F> {
    data: &'a [F],
    offset: i64,
    axis: Axis,
    /// Row of A that is row 0 here.
    first: usize,
    terms: usize,
}

impl<'a, F> Rows<'a, F> {
    /// Rows one after another.
    pub fn whole(data: &'a [F], terms: usize) -> Self {
        Rows { data, offset: 0, axis: Axis { split: usize::MAX, hi: 0, lo: terms as i64 }, first: 0, terms }
    }

    #[inline(always)]
    fn row(self, m: usize) -> &'a [F] {
        &self.data[(self.offset + self.axis.at(self.first + m)) as usize..][..self.terms]
    }
}

/// Rows of A times one panel of B, to `out` [rows, 16] with a stride of rows. `alone` says that the whole product has one
/// row: then the sum runs in four chains. (It must not depend on how rows are shared out among threads, or the bits
/// would.)
#[inline(always)]
pub(super) fn multiply<S: Simd, F: Real>(
    simd: S,
    rows: Range<usize>,
    a: Rows<F>,
    b: (&[F], usize),
    alone: bool,
    out: &mut [F],
    out_stride: usize,
) {
    macro_rules! group {
        ($m:literal, $first:expr, $out:expr) => {{
            let mut rows: [&[F]; $m] = [&[]; $m];
            for m in 0..$m {
                rows[m] = a.row($first + m);
            }
            block(simd, rows, b, a.terms, $out, out_stride);
        }};
    }
    for first in rows.clone().step_by(ROWS) {
        let out = &mut out[(first - rows.start) * out_stride..];
        match rows.end - first {
            1 if alone => single(simd, a.row(first), b, out),
            1 => group!(1, first, out),
            2 => group!(2, first, out),
            3 => group!(3, first, out),
            4 => group!(4, first, out),
            5 => group!(5, first, out),
            _ => group!(6, first, out),
        }
    }
}

/// Indices split in two, each part with its stride.
#[derive(Clone, Copy)]
struct Axis {
    split: usize,
    hi: i64,
    lo: i64,
}

impl Axis {
    fn new(split: u32, hi: i32, lo: i32) -> Axis {
        Axis { split: split as usize, hi: hi.into(), lo: lo.into() }
    }

    #[inline(always)]
    fn at(self, index: usize) -> i64 {
        if index < self.split {
            return index as i64 * self.lo;
        }
        (index / self.split) as i64 * self.hi + (index % self.split) as i64 * self.lo
    }

    /// The one stride of `n` indices, where they have one that runs forward.
    fn stride(self, n: usize) -> Option<usize> {
        let one = n <= self.split || self.hi == self.lo * self.split as i64;
        usize::try_from(self.lo).ok().filter(|_| one)
    }
}

/// A thread's part of a product: all terms of some rows and columns of C.
struct Part<'a, F> {
    p: &'a Matmul,
    a: &'a [F],
    b: &'a [F],
    rows: Range<usize>,
    columns: Range<usize>,
    /// The part's rows of C.
    c: Vec<&'a mut [F]>,
    scratch: &'a mut [F],
}

impl<F: Real> Part<'_, F> {
    /// Elements of scratch for the terms that are summed at once.
    fn scratch(p: &Matmul, rows: usize, columns: usize) -> usize {
        let terms = TERMS.min(p.k as usize);
        rows * terms + packed_len(terms, columns)
    }
}

impl<F: Real> Work for Part<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let p = self.p;
        let (a_m, a_k) = (Axis::new(p.m_split, p.a_m_hi, p.a_m_lo), Axis::new(p.k_split, p.a_k_hi, p.a_k_lo));
        let b_k = Axis::new(p.k_split, p.b_k_hi, p.b_k_lo);
        let (m, k, n) = (self.rows.len(), p.k as usize, self.columns.len());
        let in_place = a_k.stride(k) == Some(1);
        // few rows are not worth packing the other matrix
        let plain = b_k.stride(k).filter(|_| p.m as usize <= ROWS && p.b_n == 1 && n % COLUMNS == 0);
        let (a_room, b_room) = self.scratch.split_at_mut(m * TERMS.min(k));
        for first in (0..k).step_by(TERMS) {
            let terms = TERMS.min(k - first);
            let panels = if let Some(stride) = plain {
                let at = (p.b_offset as i64 + b_k.at(first)) as usize + self.columns.start;
                Panels { data: &self.b[at..], panel: COLUMNS, stride, count: n / COLUMNS }
            } else {
                let room = &mut b_room[..packed_len(terms, n)];
                let at =
                    |k: usize, n: usize| (p.b_offset as i64 + b_k.at(first + k) + n as i64 * p.b_n as i64) as usize;
                pack(self.b, terms, self.columns.clone(), at, p.b_n == 1, room);
                Panels::packed(room, terms)
            };
            if !in_place {
                let at =
                    |m: usize, k: usize| (p.a_offset as i64 + a_m.at(self.rows.start + m) + a_k.at(first + k)) as usize;
                // sixteen terms of a row after the other: whole cache lines are written
                for some in (0..terms).step_by(16) {
                    let end = terms.min(some + 16);
                    for (m, row) in a_room.chunks_exact_mut(terms).take(m).enumerate() {
                        for (k, value) in (some..end).zip(&mut row[some..end]) {
                            *value = self.a[at(m, k)];
                        }
                    }
                }
            }
            let a = if in_place {
                Rows {
                    data: self.a,
                    offset: p.a_offset as i64 + first as i64,
                    axis: a_m,
                    first: self.rows.start,
                    terms,
                }
            } else {
                Rows::whole(a_room, terms)
            };
            let add = p.accumulate == 1 || first > 0;
            let mut tile = [F::zero(); ROWS_A_PASS * COLUMNS];
            for pass in (0..m).step_by(ROWS_A_PASS) {
                let rows = pass..m.min(pass + ROWS_A_PASS);
                for panel in 0..panels.count {
                    multiply(simd, rows.clone(), a, panels.panel(panel), p.m == 1, &mut tile, COLUMNS);
                    for (c, sums) in self.c[rows.clone()].iter_mut().zip(tile.chunks_exact(COLUMNS)) {
                        let to = &mut c[panel * COLUMNS..];
                        let width = to.len().min(COLUMNS);
                        for (c, &sum) in to[..width].iter_mut().zip(sums) {
                            *c = if add { *c + sum } else { sum };
                        }
                    }
                }
            }
        }
    }
}

/// Twin of `shaders/matmul.wgsl`.
pub fn matmul<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Matmul = call.params();
    let [m, n] = [p.m, p.n].map(|size| size as usize);
    let threads = args.team.threads_for(p.m as u64 * p.n as u64 * p.k as u64 / WORTH_A_THREAD);
    // The longer side of C is shared out among the threads.
    let parts: Vec<(Range<usize>, Range<usize>)> = if m >= n {
        share(m, threads, ROWS).map(|rows| (rows, 0..n)).collect()
    } else {
        share(n, threads, COLUMNS).map(|columns| (0..m, columns)).collect()
    };
    let rooms: Vec<usize> =
        parts.iter().map(|(rows, columns)| Part::<F>::scratch(&p, rows.len(), columns.len())).collect();
    let team = args.team;
    let ([a, b, c], mut scratch) = args.parts(rooms.iter().sum());
    let c_m = Axis::new(p.m_split, p.c_m_hi, p.c_m_lo);
    let mut pieces = Vec::with_capacity(m * if m >= n { 1 } else { parts.len() });
    for (to, (rows, columns)) in parts.iter().enumerate() {
        for (index, row) in rows.clone().enumerate() {
            let at = (p.c_offset as i64 + c_m.at(row)) as usize + columns.start;
            pieces.push(Piece { at, len: columns.len(), to, index });
        }
    }
    let c = deal(c, pieces, parts.len());
    let mut work = Vec::with_capacity(parts.len());
    for (((rows, columns), c), room) in parts.into_iter().zip(c).zip(rooms) {
        let (own, rest) = scratch.split_at_mut(room);
        scratch = rest;
        work.push(Part { p: &p, a, b, rows, columns, c, scratch: own });
    }
    team.each(work, dispatch);
}
