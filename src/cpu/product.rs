//! Matrix products on the CPU.
//!
//! One generic kernel serves all of them: f32 and f64, any strides, rows and terms in two levels. Libraries were measured
//! before it was written (one AVX2 core, 256 terms, 1,024 columns): rten-gemm with packed weights comes within a tenth of
//! it from 16 rows on and is half as fast at one row; gemm and matrixmultiply, which pack at every call, are as fast or a
//! tenth slower at thousands of rows and half as fast or less at 32 and below, which a time step has.

use super::Args;
use super::panels::{Axis, COLUMNS, Matrices, Panels, pack, packed_len};
use super::share::{BufferSlice, deal, share};
use super::team::WORTH_A_THREAD;
use crate::kernel::{BatchMatmul, Call, Matmul};
use crate::real::Real;
use crate::simd::{Work, dispatch};
use pulp::Simd;
use std::ops::Range;

/// Rows that are computed at once: 6 × 16 sums of f32 take twelve of AVX2's sixteen vector registers.
const ROWS: usize = 6;
/// Terms that are summed before a block of sums is stored. Fewer terms would keep a panel of B in the first-level cache, but C
/// would be loaded and stored more often, which takes longer.
const TERMS: usize = 1024;
/// Rows that are multiplied by all panels of B before the next rows: their terms stay in the second-level cache.
const ROWS_A_PASS: usize = 16 * ROWS;

/// Cuts rows into groups: the number of groups of six, then the sizes of the last two. Groups of fewer than four rows leave the
/// processor half idle, since each sum waits for its last term; such a rest is split evenly with the six before it.
#[inline(always)]
fn cut(rows: usize) -> (usize, [usize; 2]) {
    let (sixes, rest) = (rows / ROWS, rows % ROWS);
    if sixes > 0 && (1..4).contains(&rest) {
        let two = ROWS + rest;
        return (sixes - 1, [two.div_ceil(2), two / 2]);
    }
    (sixes, [rest, 0])
}

/// The groups of [`cut`], as ranges.
fn groups(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let (sixes, last) = cut(rows);
    let mut end = 0;
    std::iter::repeat_n(ROWS, sixes).chain(last).filter(|&size| size > 0).map(move |size| {
        end += size;
        end - size..end
    })
}

/// Packs rows in [`groups`]: term k of row m of a group of M rows is at k·M + m. The product then reads one stream, whatever the
/// stride of the rows; rows with a stride of a power of two would fall into one cache set.
pub(super) fn group<'a, F: Real>(rows: usize, terms: usize, row: impl Fn(usize) -> &'a [F], groups: &mut [F]) {
    for own in self::groups(rows) {
        let (group, count) = (&mut groups[own.start * terms..own.end * terms], own.len());
        for m in 0..count {
            let row = &row(own.start + m)[..terms];
            for (to, &value) in group[m..].iter_mut().step_by(count).zip(row) {
                *to = value;
            }
        }
    }
}

/// Multiplies M rows by one panel, to `out`.
#[inline(always)]
fn block<const M: usize, S: Simd, F: Real>(
    simd: S,
    a: &[F],
    (b, stride): (&[F], usize),
    out: &mut [F],
    out_stride: usize,
) {
    let mut sums = [F::zeros(simd); M];
    for (factors, row) in a.chunks_exact(M).zip(b.chunks(stride)) {
        let row = F::load(simd, row);
        for m in 0..M {
            sums[m] = F::multiply_add(simd, factors[m], row, sums[m]);
        }
    }
    for m in 0..M {
        F::store(simd, sums[m], &mut out[m * out_stride..]);
    }
}

/// Multiplies one row by a row-major matrix, eight of its rows at a time: each is read once, in order, and the sums stay in the
/// first-level cache.
#[inline(always)]
pub(super) fn single<S: Simd, F: Real>(simd: S, a: &[F], (b, stride): (&[F], usize), add: bool, out: &mut [F]) {
    if !add {
        out.fill(F::zero());
    }
    let whole = a.len() / 8 * 8;
    for k in (0..whole).step_by(8) {
        some_rows::<8, S, F>(simd, &a[k..], &b[k * stride..], stride, out);
    }
    for k in whole..a.len() {
        some_rows::<1, S, F>(simd, &a[k..], &b[k * stride..], stride, out);
    }
}

/// Adds K rows of a matrix, each with its factor, to sums.
#[inline(always)]
fn some_rows<const K: usize, S: Simd, F: Real>(simd: S, a: &[F], b: &[F], stride: usize, sums: &mut [F]) {
    let (wide, rest) = sums.as_chunks_mut::<COLUMNS>();
    let mut rows: [&[[F; COLUMNS]]; K] = [&[]; K];
    for (k, row) in rows.iter_mut().enumerate() {
        *row = &b[k * stride..].as_chunks().0[..wide.len()];
    }
    for n in 0..wide.len() {
        let mut sum = F::load(simd, &wide[n]);
        for k in 0..K {
            sum = F::multiply_add(simd, a[k], F::load(simd, &rows[k][n]), sum);
        }
        F::store(simd, sum, &mut wide[n]);
    }
    let first = wide.len() * COLUMNS;
    for (n, sum) in rest.iter_mut().enumerate() {
        for k in 0..K {
            *sum += a[k] * b[k * stride + first + n];
        }
    }
}

/// Multiplies one row by packed panels, four at a time, for eight independent sums.
#[inline(always)]
pub(super) fn single_packed<S: Simd, F: Real>(simd: S, a: &[F], panels: &[F], out: &mut [F]) {
    const PANELS: usize = 4;
    let len = a.len() * COLUMNS;
    let whole = panels.len() / len / PANELS * PANELS;
    for (four, out) in panels.chunks_exact(PANELS * len).zip(out.chunks_exact_mut(PANELS * COLUMNS)) {
        let mut sums = [F::zeros(simd); PANELS];
        let mut terms: [_; PANELS] = std::array::from_fn(|k| four[k * len..][..len].chunks_exact(COLUMNS));
        for &factor in a {
            for (sum, terms) in sums.iter_mut().zip(&mut terms) {
                let Some(row) = terms.next() else { return };
                *sum = F::multiply_add(simd, factor, F::load(simd, row), *sum);
            }
        }
        for (out, sum) in out.chunks_exact_mut(COLUMNS).zip(sums) {
            F::store(simd, sum, out);
        }
    }
    for (panel, out) in panels.chunks_exact(len).zip(out.chunks_mut(COLUMNS)).skip(whole) {
        let mut sums = [F::zero(); COLUMNS];
        block::<1, S, F>(simd, a, (panel, COLUMNS), &mut sums, COLUMNS);
        out.copy_from_slice(&sums[..out.len()]);
    }
}

/// Multiplies rows of A, `terms` long and packed by [`group`], by one panel of B, to `out` [rows, 16] with a stride of rows.
#[inline(always)]
pub(super) fn multiply<S: Simd, F: Real>(
    simd: S,
    a: &[F],
    terms: usize,
    b: (&[F], usize),
    out: &mut [F],
    out_stride: usize,
) {
    let (sixes, last) = cut(a.len() / terms);
    let (whole, mut a) = a.split_at(sixes * ROWS * terms);
    let mut row = 0;
    for six in whole.chunks_exact(ROWS * terms) {
        block::<6, S, F>(simd, six, b, &mut out[row * out_stride..], out_stride);
        row += ROWS;
    }
    for count in last.into_iter().filter(|&count| count > 0) {
        let (own, rest) = a.split_at(count * terms);
        let out = &mut out[row * out_stride..];
        match count {
            1 => block::<1, S, F>(simd, own, b, out, out_stride),
            2 => block::<2, S, F>(simd, own, b, out, out_stride),
            3 => block::<3, S, F>(simd, own, b, out, out_stride),
            4 => block::<4, S, F>(simd, own, b, out, out_stride),
            _ => block::<5, S, F>(simd, own, b, out, out_stride),
        }
        (a, row) = (rest, row + count);
    }
}

/// A thread's share of a product: all terms of some rows and columns of C.
struct ProductShare<'a, F> {
    p: &'a Matmul,
    a: &'a [F],
    b: &'a [F],
    rows: Range<usize>,
    columns: Range<usize>,
    /// All of B in panels, if its packed form is kept.
    packed: Option<&'a [F]>,
    /// The share's rows of C.
    c: Vec<&'a mut [F]>,
    scratch: &'a mut [F],
}

impl<F: Real> ProductShare<'_, F> {
    /// Elements of scratch space: the terms that are summed at once, for the rows of a pass and for all columns.
    fn scratch(p: &Matmul, rows: usize, columns: usize, packed: bool) -> usize {
        let terms = TERMS.min(p.k as usize);
        ROWS_A_PASS.min(rows) * terms + if packed { 0 } else { packed_len(terms, columns) }
    }

    /// Packs `terms` terms from `first` on of some rows of A in groups.
    fn group_rows(&self, rows: Range<usize>, first: usize, terms: usize, groups: &mut [F]) {
        let p = self.p;
        let (a_m, a_k) = (Axis::new(p.m_split, p.a_m_hi, p.a_m_lo), Axis::new(p.k_split, p.a_k_hi, p.a_k_lo));
        let at = |m: usize, k: usize| (p.a_offset as i64 + a_m.at(rows.start + m) + a_k.at(first + k)) as usize;
        if a_k.stride(p.k as usize) == Some(1) {
            return group(rows.len(), terms, |m| &self.a[at(m, 0)..], groups);
        }
        for own in self::groups(rows.len()) {
            let (begin, count) = (own.start, own.len());
            for (k, to) in groups[begin * terms..own.end * terms].chunks_exact_mut(count).enumerate() {
                if a_m.stride(p.m as usize) == Some(1) {
                    to.copy_from_slice(&self.a[at(begin, k)..][..count]);
                } else {
                    to.iter_mut().enumerate().for_each(|(m, to)| *to = self.a[at(begin + m, k)]);
                }
            }
        }
    }
}

impl<F: Real> Work for ProductShare<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let p = self.p;
        let b_k = Axis::new(p.k_split, p.b_k_hi, p.b_k_lo);
        let (k, n) = (p.k as usize, self.columns.len());
        let a_k = Axis::new(p.k_split, p.a_k_hi, p.a_k_lo);
        let own = packed_len(k, self.columns.start)..packed_len(k, self.columns.end);
        let packed = self.packed.map(|all| &all[own]);
        if let (1, 0, Some(1), Some(panels)) = (p.m, p.accumulate, a_k.stride(k), packed) {
            return single_packed(simd, &self.a[p.a_offset as usize..][..k], panels, self.c[0]);
        }
        if let (1, 1, Some(1), Some(stride)) = (p.m, p.b_n, a_k.stride(k), b_k.stride(k)) {
            let (a, b) = (&self.a[p.a_offset as usize..][..k], &self.b[p.b_offset as usize + self.columns.start..]);
            return single(simd, a, (b, stride), p.accumulate == 1, self.c[0]);
        }
        // packing the other matrix does not pay for few rows
        let plain = b_k.stride(k).filter(|_| p.m as usize <= ROWS && p.b_n == 1 && n % COLUMNS == 0);
        let plain = plain.map(|stride| stride.max(COLUMNS)); // a single term has an arbitrary stride
        let (a_room, b_room) =
            std::mem::take(&mut self.scratch).split_at_mut(ROWS_A_PASS.min(self.rows.len()) * TERMS.min(k));
        for first in (0..k).step_by(TERMS) {
            let terms = TERMS.min(k - first);
            let panels = if let Some(all) = packed {
                Panels {
                    data: &all[first * COLUMNS..],
                    panel: k * COLUMNS,
                    stride: COLUMNS,
                    count: n.div_ceil(COLUMNS),
                }
            } else if let Some(stride) = plain {
                let at = (p.b_offset as i64 + b_k.at(first)) as usize + self.columns.start;
                let data = &self.b[at..][..(terms - 1) * stride + n];
                Panels { data, panel: COLUMNS, stride, count: n / COLUMNS }
            } else {
                let room = &mut b_room[..packed_len(terms, n)];
                let at =
                    |k: usize, n: usize| (p.b_offset as i64 + b_k.at(first + k) + n as i64 * p.b_n as i64) as usize;
                pack(self.b, terms, self.columns.clone(), at, p.b_n == 1, room);
                Panels::packed(room, terms)
            };
            let add = p.accumulate == 1 || first > 0;
            let mut tile = [F::zero(); ROWS_A_PASS * COLUMNS];
            for pass in self.rows.clone().step_by(ROWS_A_PASS) {
                let rows = pass..self.rows.end.min(pass + ROWS_A_PASS);
                let a = &mut a_room[..rows.len() * terms];
                self.group_rows(rows.clone(), first, terms, a);
                let own = rows.start - self.rows.start..rows.end - self.rows.start;
                for panel in 0..panels.count {
                    multiply(simd, a, terms, panels.panel(panel), &mut tile, COLUMNS);
                    for (c, sums) in self.c[own.clone()].iter_mut().zip(tile.chunks_exact(COLUMNS)) {
                        let to = &mut c[panel * COLUMNS..];
                        if let Some(to) = to.first_chunk_mut::<COLUMNS>() {
                            let sums = F::load(simd, sums);
                            let sums = if add { F::plus(simd, F::load(simd, to), sums) } else { sums };
                            F::store(simd, sums, to);
                            continue;
                        }
                        for (c, &sum) in to.iter_mut().zip(sums) {
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
    let (a_k, b_k) = (Axis::new(p.k_split, p.a_k_hi, p.a_k_lo), Axis::new(p.k_split, p.b_k_hi, p.b_k_lo));
    for index in 0..p.parts() {
        let first = index * p.part;
        let terms = if p.part == 0 { p.k } else { p.part.min(p.k - first) };
        let moved = |offset: u32, axis: Axis| (offset as i64 + axis.at(first as usize)) as u32;
        let (a_offset, b_offset) = (moved(p.a_offset, a_k), moved(p.b_offset, b_k));
        whole(Matmul { k: terms, a_offset, b_offset, c_offset: p.c_offset + index * p.c_part, ..p }, args);
    }
}

/// Computes all terms of a product.
fn whole<F: Real>(p: Matmul, args: &mut Args<F>) {
    let [m, n] = [p.m, p.n].map(|size| size as usize);
    let k = Axis::new(p.k_split, p.b_k_hi, p.b_k_lo);
    let b_matrix =
        Matrices { count: 1, first: p.b_offset.into(), apart: 0, terms: p.k as usize, columns: n, k, n: p.b_n.into() };
    let kept = args.panels(1, b_matrix, m);
    let packed = kept.as_ref().map(|panels| panels.as_slice());
    let threads = args.team.threads_for(p.m as u64 * p.n as u64 * p.k as u64 / WORTH_A_THREAD);
    // The longer side of C is divided among the threads.
    let parts: Vec<(Range<usize>, Range<usize>)> = if m >= n {
        share(m, threads, ROWS).map(|rows| (rows, 0..n)).collect()
    } else {
        share(n, threads, COLUMNS).map(|columns| (0..m, columns)).collect()
    };
    let scratch = |(rows, columns): &(Range<usize>, Range<usize>)| {
        ProductShare::<F>::scratch(&p, rows.len(), columns.len(), packed.is_some())
    };
    let rooms: Vec<usize> = parts.iter().map(scratch).collect();
    let team = args.team;
    let all = rooms.iter().sum();
    if !args.reserve(all) {
        return;
    }
    let ([a, b], [c], mut scratch) = args.parts(all);
    let c_m = Axis::new(p.m_split, p.c_m_hi, p.c_m_lo);
    let mut slices = Vec::with_capacity(m * if m >= n { 1 } else { parts.len() });
    for (to, (rows, columns)) in parts.iter().enumerate() {
        for (index, row) in rows.clone().enumerate() {
            let at = (p.c_offset as i64 + c_m.at(row)) as usize + columns.start;
            slices.push(BufferSlice { at, len: columns.len(), to, index });
        }
    }
    let c = deal(c, slices, parts.len());
    let mut work = Vec::with_capacity(parts.len());
    for (((rows, columns), c), room) in parts.into_iter().zip(c).zip(rooms) {
        let (own, rest) = scratch.split_at_mut(room);
        scratch = rest;
        work.push(ProductShare { p: &p, a, b, packed, rows, columns, c, scratch: own });
    }
    team.each(work, dispatch);
}

/// Twin of `shaders/batch_matmul.wgsl`. The rows of all matrices are divided among the threads.
pub fn batch_matmul<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: BatchMatmul = call.params();
    let [batch, m, n, k] = [p.batch, p.m, p.n, p.k].map(|size| size as usize);
    let team = args.team;
    let threads = team.threads_for(batch as u64 * m as u64 * n as u64 * k as u64 / WORTH_A_THREAD);
    let shares: Vec<Range<usize>> = share(batch * m, threads, if batch < threads { ROWS } else { m }).collect();
    let room = ProductShare::<F>::scratch(&p.product(0), m, n, false);
    if !args.reserve(room * shares.len()) {
        return;
    }
    let ([a, b], [c], scratch) = args.parts(room * shares.len());
    let length = shares.first().map_or(1, Range::len);
    let slice = |row: usize, of_m: usize| BufferSlice {
        at: (p.c_offset as i64 + row as i64 * p.c_b as i64 + of_m as i64 * p.c_m as i64) as usize,
        len: n,
        to: (row * m + of_m) / length,
        index: (row * m + of_m) % length,
    };
    // In the order of addresses, so that they need not be sorted.
    let slices = if p.c_b < p.c_m {
        (0..m).flat_map(|of_m| (0..batch).map(move |row| (row, of_m))).map(|(row, of_m)| slice(row, of_m)).collect()
    } else {
        (0..batch).flat_map(|row| (0..m).map(move |of_m| (row, of_m))).map(|(row, of_m)| slice(row, of_m)).collect()
    };
    let c = deal(c, slices, shares.len());
    let work = shares.into_iter().zip(c).zip(scratch.chunks_exact_mut(room)).collect();
    team.each(work, |((share, c), scratch)| {
        let mut c = c.into_iter();
        let mut at = share.start;
        while at < share.end {
            let (row, first) = (at / m, at % m);
            let rows = first..m.min(first + share.end - at);
            at += rows.len();
            let own = c.by_ref().take(rows.len()).collect();
            let p = &p.product(row as u32);
            dispatch(ProductShare { p, a, b, rows, columns: 0..n, packed: None, c: own, scratch });
        }
    });
}
