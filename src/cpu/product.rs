//! Matrix products on the CPU.
//!
//! One generic kernel serves all of them: f32 and f64, any strides, rows and terms in two levels. Libraries were measured
//! before it was written (one AVX2 core, 256 terms, 1,024 columns): rten-gemm with packed weights comes within a tenth of
//! it from 16 rows on and is half as fast at one row; gemm and matrixmultiply, which pack at every call, are as fast or a
//! tenth slower at thousands of rows and half as fast or less at 32 and below, which a time step has.

use super::Args;
use super::kept::{Form, with_panels};
use super::panels::{Axis, COLUMNS, Matrices, Operand, Packed, Panels, RowMajor, Strip, pack, packed_len};
use super::partition::Partition;
use super::share::{BufferSlice, deal, share};
use super::team::WORTH_A_THREAD;
use crate::kernel::{BatchMatmul, Call, Matmul};
use crate::real::Real;
use crate::simd::{Isa, Work, dispatch, is_f32};
use pulp::NullaryFnOnce;
use std::marker::PhantomData;
use std::ops::Range;

/// Terms that are packed at once, and whose sum is added to C.
const TERMS: usize = 1024;
/// Terms by which all rows are multiplied before the next terms: their panel, 16 kB for each 16 columns, stays in the first-level
/// cache (measured with AVX2, 96 rows: a product of 256 terms reaches 0.8 of the multiplications that the processor can do, one of 1,024
/// terms in one go 0.6). Sums go on in their order, so that they have the same bits.
const TERMS_AT_ONCE: usize = 256;
/// Rows that are multiplied by all panels of B before the next rows: their terms stay in the second-level cache.
const ROWS_A_PASS: usize = 96;
/// Sums of a tile of C: those of a pass and of two panels, or of few rows and more panels.
const TILE: usize = ROWS_A_PASS * 2 * COLUMNS;
/// Rows up to which packing the other matrix does not pay, and in multiples of which threads share the rows of several products.
const FEW_ROWS: usize = 6;

/// Most rows of a block.
const MOST_ROWS: usize = 12;

/// Registers of a panel's row.
const fn registers<S: Isa, F>() -> usize {
    COLUMNS * size_of::<F>() / size_of::<S::Floats>()
}

/// Most rows that are computed at once: those whose sums leave registers for a panel's row and one factor. In f32 6 × 16 sums with
/// AVX2 and NEON, 12 × 32 with AVX-512.
const fn most_rows<S: Isa, F>() -> usize {
    match (S::REGISTERS - 1) / registers::<S, F>() {
        ..3 => 1,
        room if room > MOST_ROWS => MOST_ROWS,
        room => room - 1,
    }
}

/// Panels that are multiplied side by side for groups of `rows` rows, as registers allow: each sum waits for its last term, so
/// that fewer than eight registers of sums leave the processor half idle. A single row takes each value of a panel once, from memory:
/// with AVX2, two panels come faster than four (measured, 4 MB of weights on a core: 73 and 53 GB/s).
const fn panels_at_once<S: Isa, F>(rows: usize) -> usize {
    let (own, most) = match (rows, registers::<S, F>()) {
        (1, 2) => (1, 2),
        (1, _) => (1, 8),
        _ => (rows + 1, 4),
    };
    let room = (S::REGISTERS - 1) / (own * registers::<S, F>());
    if room >= most {
        most
    } else if room == 0 {
        1
    } else {
        1 << room.ilog2()
    }
}

/// Most panels of a strip.
const fn most_panels<S: Isa, F>() -> usize {
    let (one, two) = (panels_at_once::<S, F>(1), panels_at_once::<S, F>(2));
    if one > two { one } else { two }
}

/// Cuts rows into groups of about the same size, at most [`most_rows`].
#[inline(always)]
fn groups<S: Isa, F>(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let count = rows.div_ceil(most_rows::<S, F>()).max(1);
    let (size, larger) = (rows / count, rows % count);
    (0..count).map(move |group| {
        let first = group * size + group.min(larger);
        first..first + size + (group < larger) as usize
    })
}

/// Runs code for a group of rows, whose number is a constant there. Only what the set of instructions uses is compiled.
macro_rules! group_of {
    ($group:expr, $S:ty, $F:ty, |$M:ident| $code:expr) => {
        group_of!(@ $group, $S, $F, $M, $code, 1 2 3 4 5 6 7 8 9 10 11 12)
    };
    (@ $group:expr, $S:ty, $F:ty, $M:ident, $code:expr, $($rows:literal)*) => {
        match $group.len() {
            $($rows if const { $rows <= most_rows::<$S, $F>() } => {
                const $M: usize = $rows;
                $code
            })*
            rows => unreachable!("a group of {rows} rows"),
        }
    };
}

/// Rows of the matrix A: element (m, k) is at `first + rows.at(m) + terms.at(k)`.
#[derive(Clone, Copy)]
pub(super) struct Left<'a, F> {
    pub data: &'a [F],
    pub first: i64,
    pub rows: Axis,
    pub terms: Axis,
}

/// Packs some rows and terms of A in [`groups`]: term k of row m of a group of M rows is at k·M + m. The product then reads one
/// stream, whatever the stride of the rows; rows with a stride of a power of two would fall into one cache set. A function of its
/// own, compiled once for all who call it.
pub(super) fn group<S: Isa, F: Real>(simd: S, a: Left<F>, rows: Range<usize>, terms: Range<usize>, to: &mut [F]) {
    simd.compiled(Group { set: PhantomData::<S>, a, rows, terms, to });
}

/// The arguments of [`group`].
struct Group<'a, S, F> {
    set: PhantomData<S>,
    a: Left<'a, F>,
    rows: Range<usize>,
    terms: Range<usize>,
    to: &'a mut [F],
}

impl<S: Isa, F: Real> NullaryFnOnce for Group<'_, S, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Group { a, rows, terms, to, .. } = self;
        let at = |m: usize, k: usize| (a.first + a.rows.at(rows.start + m) + a.terms.at(terms.start + k)) as usize;
        let (one_row, one_term) = (a.terms.stride(terms.end) == Some(1), a.rows.stride(rows.end) == Some(1));
        for own in groups::<S, F>(rows.len()) {
            let to = &mut to[own.start * terms.len()..own.end * terms.len()];
            group_of!(own, S, F, |M| {
                if one_row {
                    let mut rows: [&[F]; M] = [&[]; M];
                    for (m, row) in rows.iter_mut().enumerate() {
                        *row = &a.data[at(own.start + m, 0)..][..terms.len()];
                    }
                    side_by_side(rows, to);
                    continue;
                }
                for (k, to) in to.as_chunks_mut::<M>().0.iter_mut().enumerate() {
                    if one_term {
                        to.copy_from_slice(&a.data[at(own.start, k)..][..M]);
                        continue;
                    }
                    for (m, to) in to.iter_mut().enumerate() {
                        *to = a.data[at(own.start + m, k)];
                    }
                }
            });
        }
    }
}

/// Writes the first terms of M rows, then the second ones, and so on.
#[inline(always)]
fn side_by_side<const M: usize, F: Real>(rows: [&[F]; M], to: &mut [F]) {
    for (k, to) in to.as_chunks_mut::<M>().0.iter_mut().enumerate() {
        for m in 0..M {
            to[m] = rows[m][k];
        }
    }
}

/// Ranges of `panels` panels that are multiplied at once by `rows` rows.
#[inline(always)]
pub(super) fn strips<S: Isa, F>(rows: usize, panels: usize) -> impl Iterator<Item = Range<usize>> {
    let most = panels_at_once::<S, F>(rows.div_ceil(rows.div_ceil(most_rows::<S, F>()).max(1)));
    let mut at = 0;
    std::iter::from_fn(move || {
        let width = most.min(1 << (panels - at).checked_ilog2()?);
        at += width;
        Some(at - width..at)
    })
}

/// Which part of its sums a [`block`] computes.
#[derive(Clone, Copy)]
struct Part {
    /// Goes on from the sums in `out`.
    goes_on: bool,
    ends: bool,
}

impl Part {
    const ALL: Part = Part { goes_on: false, ends: true };
}

/// Multiplies M rows by P panels, to `out`.
#[inline(always)]
fn block<const M: usize, const P: usize, S: Isa, F: Real>(
    simd: S,
    a: &[F],
    terms: usize,
    b: impl Strip<S, F, P>,
    part: Part,
    out: &mut [F],
    out_stride: usize,
) {
    let mut sums = [[F::zeros(simd); P]; M];
    if part.goes_on {
        for m in 0..M {
            for p in 0..P {
                sums[m][p] = F::load(simd, &out[m * out_stride + p * COLUMNS..]);
            }
        }
    }
    for (k, factors) in a.as_chunks::<M>().0[..terms].iter().enumerate() {
        let row = b.term(simd, k);
        for m in 0..M {
            for p in 0..P {
                sums[m][p] = F::multiply_add(simd, factors[m], row[p], sums[m][p]);
            }
        }
    }
    for m in 0..M {
        let out = &mut out[m * out_stride..][..P * COLUMNS];
        for p in 0..P {
            let sum = if part.ends { b.finish(simd, p, sums[m][p]) } else { sums[m][p] };
            F::store(simd, sum, &mut out[p * COLUMNS..]);
        }
    }
}

/// Multiplies rows of A, `terms` long and packed by [`group`], by the panels `strip` of B, one of [`strips`], to `out` with a stride
/// of rows. A function of its own, compiled once for all who call it: there are many blocks.
pub(super) fn multiply<S: Isa, F: Real>(
    simd: S,
    a: &[F],
    terms: usize,
    b: impl Operand<S, F>,
    strip: Range<usize>,
    out: &mut [F],
    out_stride: usize,
) {
    simd.compiled(Multiply { simd, a, terms, b, strip, out, out_stride });
}

/// The arguments of [`multiply`].
struct Multiply<'a, S, F, B> {
    simd: S,
    a: &'a [F],
    terms: usize,
    b: B,
    strip: Range<usize>,
    out: &'a mut [F],
    out_stride: usize,
}

impl<S: Isa, F: Real, B: Operand<S, F>> NullaryFnOnce for Multiply<'_, S, F, B> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Multiply { simd, a, terms, b, strip, out, out_stride } = self;
        let first = strip.start;
        match strip.len() {
            8 if const { most_panels::<S, F>() >= 8 } => {
                multiply_strip::<8, S, F>(simd, a, terms, b, first, out, out_stride);
            }
            4 if const { most_panels::<S, F>() >= 4 } => {
                multiply_strip::<4, S, F>(simd, a, terms, b, first, out, out_stride);
            }
            2 => multiply_strip::<2, S, F>(simd, a, terms, b, first, out, out_stride),
            1 => multiply_strip::<1, S, F>(simd, a, terms, b, first, out, out_stride),
            count => unreachable!("a strip of {count} panels"),
        }
    }
}

/// [`multiply`] for P panels from `first` on.
#[inline(always)]
fn multiply_strip<const P: usize, S: Isa, F: Real>(
    simd: S,
    a: &[F],
    terms: usize,
    b: impl Operand<S, F>,
    first: usize,
    out: &mut [F],
    out_stride: usize,
) {
    for from in (0..terms).step_by(TERMS_AT_ONCE) {
        let some = from..terms.min(from + TERMS_AT_ONCE);
        let part = Part { goes_on: from > 0, ends: some.end == terms };
        for own in groups::<S, F>(a.len() / terms) {
            let (start, end) = (own.start * terms + from * own.len(), own.start * terms + some.end * own.len());
            let (a, out) = (&a[start..end], &mut out[own.start * out_stride..]);
            group_of!(own, S, F, |M| {
                if const { P <= panels_at_once::<S, F>(M) } {
                    block::<M, P, S, F>(simd, a, some.len(), b.strip(first, some.clone()), part, out, out_stride);
                } else {
                    unreachable!("{M} rows of {P} panels");
                }
            });
        }
    }
}

/// Multiplies one row by a row-major matrix, eight of its rows at a time: each is read once, in order, and the sums stay in the
/// first-level cache.
#[inline(always)]
pub(super) fn single<S: Isa, F: Real>(simd: S, a: &[F], (b, stride): (&[F], usize), add: bool, out: &mut [F]) {
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
fn some_rows<const K: usize, S: Isa, F: Real>(simd: S, a: &[F], b: &[F], stride: usize, sums: &mut [F]) {
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

/// Multiplies one row by packed panels, several at a time.
#[inline(always)]
pub(super) fn single_packed<S: Isa, F: Real>(simd: S, a: &[F], panels: impl Operand<S, F>, out: &mut [F]) {
    let (whole, terms) = (out.len() / COLUMNS, a.len());
    for strip in strips::<S, F>(1, whole) {
        let (first, out) = (strip.start, &mut out[strip.start * COLUMNS..]);
        match strip.len() {
            8 if const { most_panels::<S, F>() >= 8 } => {
                block::<1, 8, S, F>(simd, a, terms, panels.strip(first, 0..terms), Part::ALL, out, 0);
            }
            4 if const { most_panels::<S, F>() >= 4 } => {
                block::<1, 4, S, F>(simd, a, terms, panels.strip(first, 0..terms), Part::ALL, out, 0);
            }
            2 => block::<1, 2, S, F>(simd, a, terms, panels.strip(first, 0..terms), Part::ALL, out, 0),
            1 => block::<1, 1, S, F>(simd, a, terms, panels.strip(first, 0..terms), Part::ALL, out, 0),
            count => unreachable!("a strip of {count} panels"),
        }
    }
    let rest = &mut out[whole * COLUMNS..];
    if !rest.is_empty() {
        let mut sums = [F::zero(); COLUMNS];
        block::<1, 1, S, F>(simd, a, terms, panels.strip(whole, 0..terms), Part::ALL, &mut sums, 0);
        rest.copy_from_slice(&sums[..rest.len()]);
    }
}

/// A thread's share of a product: all terms of some rows and columns of C.
struct ProductShare<'a, F, P> {
    p: &'a Matmul,
    a: &'a [F],
    b: &'a [F],
    rows: Range<usize>,
    columns: Range<usize>,
    /// All of B in panels, if its packed form is kept.
    packed: Option<P>,
    c: Rows<'a, F>,
    scratch: &'a mut [F],
}

/// A share's rows of C.
enum Rows<'a, F> {
    /// Each somewhere.
    Apart(Vec<&'a mut [F]>),
    /// One after the other.
    Together(&'a mut [F]),
}

impl<F> Rows<'_, F> {
    /// Rows `own`, which are `width` long, from column `at` on.
    #[inline(always)]
    fn columns_from(&mut self, own: Range<usize>, width: usize, at: usize) -> impl Iterator<Item = &mut [F]> {
        let (apart, together) = match self {
            Rows::Apart(rows) => (&mut rows[own], &mut [][..]),
            Rows::Together(rows) => (&mut [][..], &mut rows[own.start * width..own.end * width]),
        };
        apart
            .iter_mut()
            .map(|row| &mut **row)
            .chain(together.chunks_exact_mut(width.max(1)))
            .map(move |row| &mut row[at..])
    }

    /// All of the first row.
    #[inline(always)]
    fn first(&mut self) -> &mut [F] {
        match self {
            Rows::Apart(rows) => rows[0],
            Rows::Together(rows) => rows,
        }
    }
}

impl<F: Real, P: Panels<F>> ProductShare<'_, F, P> {
    /// Elements of scratch space: a tile, and the terms that are summed at once, for the rows of a pass and for all columns.
    fn scratch(p: &Matmul, rows: usize, columns: usize, packed: bool) -> usize {
        let terms = TERMS.min(p.k as usize);
        TILE + ROWS_A_PASS.min(rows) * terms + if packed { 0 } else { packed_len(terms, columns) }
    }

    /// The rows of A.
    fn left(&self) -> Left<'_, F> {
        let p = self.p;
        let (rows, terms) = (Axis::new(p.m_split, p.a_m_hi, p.a_m_lo), Axis::new(p.k_split, p.a_k_hi, p.a_k_lo));
        Left { data: self.a, first: p.a_offset.into(), rows, terms }
    }
}

/// Some terms of a product, and whether their sums are added to C.
#[derive(Clone, Copy)]
struct Terms {
    first: usize,
    count: usize,
    add: bool,
}

impl<F: Real, P: Panels<F>> ProductShare<'_, F, P> {
    /// Multiplies the share's rows by `panels` panels. `room` has a tile, then the terms of the rows of a pass.
    #[inline(always)]
    fn multiply<S: Isa>(&mut self, simd: S, terms: Terms, b: impl Operand<S, F>, panels: usize, room: &mut [F]) {
        let Terms { first, count, add } = terms;
        let (tile, room) = room.split_at_mut(TILE);
        let all = self.columns.len();
        for pass in self.rows.clone().step_by(ROWS_A_PASS) {
            let rows = pass..self.rows.end.min(pass + ROWS_A_PASS);
            let a = &mut room[..rows.len() * count];
            group(simd, self.left(), rows.clone(), first..first + count, a);
            let own = rows.start - self.rows.start..rows.end - self.rows.start;
            for strip in strips::<S, F>(rows.len(), panels) {
                let (at, width) = (strip.start * COLUMNS, strip.len() * COLUMNS);
                if let (Rows::Together(c), false, true) = (&mut self.c, add, at + width <= all) {
                    multiply(simd, a, count, b, strip, &mut c[own.start * all + at..], all);
                    continue;
                }
                multiply(simd, a, count, b, strip, tile, width);
                for (c, sums) in self.c.columns_from(own.clone(), all, at).zip(tile.chunks_exact(width)) {
                    for (to, sums) in c.chunks_mut(COLUMNS).zip(sums.chunks_exact(COLUMNS)) {
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

impl<F: Real, P: Panels<F>> Work for ProductShare<'_, F, P> {
    const WIDE: bool = is_f32::<F>();

    #[inline(always)]
    fn run<S: Isa>(mut self, simd: S) {
        let p = self.p;
        let b_k = Axis::new(p.k_split, p.b_k_hi, p.b_k_lo);
        let (k, n) = (p.k as usize, self.columns.len());
        let a_k = Axis::new(p.k_split, p.a_k_hi, p.a_k_lo);
        if let (1, 0, Some(1), Some(panels)) = (p.m, p.accumulate, a_k.stride(k), self.packed) {
            let a = &self.a[p.a_offset as usize..][..k];
            return single_packed(simd, a, panels.part(&self.columns, 0).operand(simd), self.c.first());
        }
        if let (1, 1, Some(1), Some(stride)) = (p.m, p.b_n, a_k.stride(k), b_k.stride(k)) {
            let (a, b) = (&self.a[p.a_offset as usize..][..k], &self.b[p.b_offset as usize + self.columns.start..]);
            return single(simd, a, (b, stride), p.accumulate == 1, self.c.first());
        }
        // packing the other matrix does not pay for few rows
        let plain = b_k.stride(k).filter(|_| p.m as usize <= FEW_ROWS && p.b_n == 1 && n % COLUMNS == 0);
        let (a_room, b_room) =
            std::mem::take(&mut self.scratch).split_at_mut(TILE + ROWS_A_PASS.min(self.rows.len()) * TERMS.min(k));
        for first in (0..k).step_by(TERMS) {
            let count = TERMS.min(k - first);
            let terms = Terms { first, count, add: p.accumulate == 1 || first > 0 };
            if let (None, Some(stride)) = (self.packed, plain) {
                let at = (p.b_offset as i64 + b_k.at(first)) as usize + self.columns.start;
                let b = RowMajor { data: &self.b[at..][..(count - 1) * stride + n], stride };
                self.multiply(simd, terms, b, n / COLUMNS, a_room);
                continue;
            }
            if let Some(all) = self.packed {
                let panels = all.part(&self.columns, first).operand(simd);
                self.multiply(simd, terms, panels, n.div_ceil(COLUMNS), a_room);
                continue;
            }
            let room = &mut b_room[..packed_len(count, n)];
            let at = |k: usize, n: usize| (p.b_offset as i64 + b_k.at(first + k) + n as i64 * p.b_n as i64) as usize;
            pack(self.b, count, self.columns.clone(), at, p.b_n == 1, room);
            self.multiply(simd, terms, Packed::new(room, count), n.div_ceil(COLUMNS), a_room);
        }
    }
}

/// Terms of a part of a product.
fn terms_of(p: &Matmul, part: u32) -> u32 {
    if p.part == 0 { p.k } else { p.part.min(p.k - part * p.part) }
}

/// Threads that a product would keep busy.
fn worth(p: &Matmul) -> u64 {
    p.m as u64 * p.n as u64 * p.k as u64 / WORTH_A_THREAD
}

/// [`matmul`] as threads share it out.
pub(super) fn partition(call: &Call, wanted: impl Fn(u64) -> usize) -> Vec<Partition> {
    let p: Matmul = call.params();
    let part = |index| {
        let p = Matmul { k: terms_of(&p, index), ..p };
        let parts = divide(p.m as usize, p.n as usize, wanted(worth(&p)));
        let each = parts.iter().map(|(rows, columns)| (rows.len() * columns.len()) as u64 * u64::from(p.k));
        let by_rows = parts.iter().filter(|(_, columns)| columns.start == 0).count();
        Partition::of([by_rows, parts.len() / by_rows.max(1)], each)
    };
    (0..p.parts()).map(part).collect()
}

/// Twin of `shaders/matmul.wgsl`.
pub fn matmul<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Matmul = call.params();
    let (a_k, b_k) = (Axis::new(p.k_split, p.a_k_hi, p.a_k_lo), Axis::new(p.k_split, p.b_k_hi, p.b_k_lo));
    for index in 0..p.parts() {
        let first = index * p.part;
        let terms = terms_of(&p, index);
        let moved = |offset: u32, axis: Axis| (offset as i64 + axis.at(first as usize)) as u32;
        let (a_offset, b_offset) = (moved(p.a_offset, a_k), moved(p.b_offset, b_k));
        whole(Matmul { k: terms, a_offset, b_offset, c_offset: p.c_offset + index * p.c_part, ..p }, args);
    }
}

/// Divides the rows and columns of C among at most `threads` threads, so that the largest part is small and near a square:
/// the longer side, and for many threads both.
fn divide(m: usize, n: usize, threads: usize) -> Vec<(Range<usize>, Range<usize>)> {
    // A term of a row or column is moved in the time of about so many multiplications.
    const MOVE: u64 = 8;
    let cost = |by_rows: usize| {
        let (rows, columns) = (m.div_ceil(by_rows), n.div_ceil(threads / by_rows).next_multiple_of(COLUMNS));
        rows as u64 * columns as u64 + MOVE * (rows + columns) as u64
    };
    let by_rows = (1..=threads).rev().min_by_key(|&by_rows| cost(by_rows)).unwrap_or(1);
    let columns: Vec<_> = share(n, threads / by_rows, COLUMNS).collect();
    let part = |rows: Range<usize>| columns.iter().map(move |columns| (rows.clone(), columns.clone()));
    share(m, by_rows, 1).flat_map(part).collect()
}

/// Computes all terms of a product.
fn whole<F: Real>(p: Matmul, args: &mut Args<F>) {
    let [m, n] = [p.m, p.n].map(|size| size as usize);
    let k = Axis::new(p.k_split, p.b_k_hi, p.b_k_lo);
    let b_matrix =
        Matrices { count: 1, first: p.b_offset.into(), apart: 0, terms: p.k as usize, columns: n, k, n: p.b_n.into() };
    let Ok(kept) = args.panels(1, b_matrix, m) else { return };
    match kept.as_ref().map(|kept| kept.matrix(0)) {
        None => shared_out(p, args, None::<Packed<F>>),
        Some(form) => with_panels!(form, F, panels => shared_out(p, args, Some(panels))),
    }
}

/// [`whole`] with the panels of B, if they are kept, the work divided among the threads.
fn shared_out<F: Real, P: Panels<F>>(p: Matmul, args: &mut Args<F>, packed: Option<P>) {
    let [m, n] = [p.m, p.n].map(|size| size as usize);
    let parts = divide(m, n, args.team.threads_for(worth(&p)));
    let scratch = |(rows, columns): &(Range<usize>, Range<usize>)| {
        ProductShare::<F, P>::scratch(&p, rows.len(), columns.len(), packed.is_some())
    };
    let rooms: Vec<usize> = parts.iter().map(scratch).collect();
    let team = args.team;
    let all = rooms.iter().sum();
    if !args.reserve(all) {
        return;
    }
    let ([a, b], [c], mut scratch) = args.parts(all);
    let c_m = Axis::new(p.m_split, p.c_m_hi, p.c_m_lo);
    let together = c_m.stride(m) == Some(n) && parts.iter().all(|(_, columns)| columns.len() == n);
    let mut slices =
        Vec::with_capacity(if together { parts.len() } else { parts.iter().map(|(rows, _)| rows.len()).sum() });
    for (to, (rows, columns)) in parts.iter().enumerate() {
        let at = |row: usize| (p.c_offset as i64 + c_m.at(row)) as usize + columns.start;
        if together {
            slices.push(BufferSlice { at: at(rows.start), len: rows.len() * n, to, index: 0 });
            continue;
        }
        let own = rows.clone().enumerate();
        slices.extend(own.map(|(index, row)| BufferSlice { at: at(row), len: columns.len(), to, index }));
    }
    let c = deal(c, slices, parts.len()).into_iter().map(|rows| match together {
        true => Rows::Together(rows.into_iter().next().unwrap_or_default()),
        false => Rows::Apart(rows),
    });
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
    let shares: Vec<Range<usize>> = share(batch * m, threads, if batch < threads { FEW_ROWS } else { m }).collect();
    let room = ProductShare::<F, Packed<F>>::scratch(&p.product(0), m, n, false);
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
            let (packed, c) = (None::<Packed<F>>, Rows::Apart(own));
            dispatch(ProductShare { p, a, b, rows, columns: 0..n, packed, c, scratch });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kept::{CpuWeights, Kept};
    use crate::cpu::{Team, Threads};
    use crate::simd::tests::with_each;
    use half::{bf16, f16};

    /// Products of rows and matrices in every form, as bits.
    struct Products<'a, F> {
        rows: usize,
        terms: usize,
        columns: usize,
        out: &'a mut Vec<Vec<F>>,
    }

    impl<F: Real> Products<'_, F> {
        fn numbers(count: usize, factor: usize) -> Vec<F> {
            (0..count).map(|k| F::of(((k * factor + 7) % 1009) as f32 / 1009.0 - 0.4)).collect()
        }
    }

    impl<F: Real> Work for Products<'_, F> {
        #[inline(always)]
        fn run<S: Isa>(self, simd: S) {
            let Products { rows, terms, columns, out } = self;
            let wide = columns.next_multiple_of(COLUMNS);
            let (a, b) = (Self::numbers(rows * terms, 389), Self::numbers(terms * wide, 571));
            let zero = F::zero();
            let add = |sum: F, a: F, b: F| if S::FUSES { num_traits::Float::mul_add(a, b, sum) } else { a * b + sum };
            let sum = |m: usize, n: usize| (0..terms).fold(zero, |sum, k| add(sum, a[m * terms + k], b[k * wide + n]));
            let right: Vec<F> =
                (0..rows).flat_map(|m| (0..wide).map(move |n| (m, n))).map(|(m, n)| sum(m, n)).collect();

            let mut panels = vec![zero; packed_len(terms, wide)];
            pack(&b, terms, 0..wide, |k, n| k * wide + n, true, &mut panels);
            let (panels, row_major) = (Packed::new(&panels, terms), RowMajor { data: &b, stride: wide });
            let mut grouped = vec![zero; rows * terms];
            let left = Left { data: &a, first: 0, rows: Axis::plain(terms), terms: Axis::plain(1) };
            group(simd, left, 0..rows, 0..terms, &mut grouped);
            let mut product = vec![zero; rows * wide];
            for strip in strips::<S, F>(rows, wide / COLUMNS) {
                let to = &mut product[strip.start * COLUMNS..];
                multiply(simd, &grouped, terms, panels, strip, to, wide);
            }
            assert_eq!(product, right, "packed: {rows} rows, {terms} terms, {columns} columns");
            product.fill(zero);
            for strip in strips::<S, F>(rows, wide / COLUMNS) {
                let to = &mut product[strip.start * COLUMNS..];
                multiply(simd, &grouped, terms, row_major, strip, to, wide);
            }
            assert_eq!(product, right, "row-major: {rows} rows, {terms} terms, {columns} columns");
            if is_f32::<F>() {
                for form in [CpuWeights::F16, CpuWeights::Bf16, CpuWeights::Int8] {
                    product.fill(zero);
                    short_product(simd, form, (&a, &grouped, &b), (terms, wide), &mut product);
                    let what = format!("{form:?}: {rows} rows, {terms} terms, {columns} columns");
                    assert_eq!(product, short_expected::<S, F>(form, (&a, &b), (terms, wide)), "{what}");
                }
            }
            if rows == 1 {
                let mut one = vec![zero; columns];
                single_packed(simd, &a, panels, &mut one);
                assert_eq!(one, right[..columns], "one row, packed: {terms} terms, {columns} columns");
                let mut one = vec![zero; wide];
                single(simd, &a, (&b, wide), false, &mut one);
                assert_eq!(one, right, "one row: {terms} terms, {columns} columns");
            }
            out.push(product);
        }
    }

    /// A product with B packed in a short form, of one row or of rows in groups.
    #[inline(always)]
    fn short_product<S: Isa, F: Real>(
        simd: S,
        form: CpuWeights,
        (a, grouped, b): (&[F], &[F], &[F]),
        (terms, columns): (usize, usize),
        out: &mut [F],
    ) {
        let matrix = Matrices { count: 1, first: 0, apart: 0, terms, columns, k: Axis::plain(columns), n: 1 };
        let kept = Kept::new(&Team::new(Threads::Exactly(1)), b, matrix, form, None).unwrap();
        with_panels!(kept.matrix(0), F, panels => {
            let panels = Panels::<F>::operand(panels, simd);
            if a.len() == terms {
                return single_packed(simd, a, panels, out);
            }
            for strip in strips::<S, F>(a.len() / terms, columns / COLUMNS) {
                let to = &mut out[strip.start * COLUMNS..];
                multiply(simd, grouped, terms, panels, strip, to, columns);
            }
        });
    }

    /// The same, number by number.
    fn short_expected<S: Isa, F: Real>(
        form: CpuWeights,
        (a, b): (&[F], &[F]),
        (terms, columns): (usize, usize),
    ) -> Vec<F> {
        let element = |k: usize, n: usize| b[k * columns + n].to_f32().unwrap();
        let of_column = |row: &[F], n: usize| {
            let factor = match form {
                CpuWeights::Int8 => (0..terms).map(|k| element(k, n).abs()).fold(0.0, f32::max) / 127.0,
                _ => 1.0,
            };
            let rounded = |k: usize| match form {
                CpuWeights::F16 => f16::from_f32(element(k, n)).to_f32(),
                CpuWeights::Bf16 => bf16::from_f32(element(k, n)).to_f32(),
                _ => (element(k, n) * (1.0 / factor)).round_ties_even(),
            };
            let add = |sum: F, a: F, b: F| if S::FUSES { num_traits::Float::mul_add(a, b, sum) } else { a * b + sum };
            let sum = row.iter().enumerate().fold(F::zero(), |sum, (k, &a)| add(sum, a, F::of(rounded(k))));
            sum * F::of(factor)
        };
        a.chunks_exact(terms).flat_map(|row| (0..columns).map(move |n| of_column(row, n))).collect()
    }

    /// Every group of rows and strip of panels adds the terms of a sum in their order, by fused multiply-adds where there are such:
    /// the bits are the same with all sets of instructions that have them.
    fn products<F: Real>() {
        for (rows, terms, columns) in (1..=40)
            .map(|rows| (rows, 19, 16 * (rows * 7 % 11 + 1)))
            .chain((1..=150).map(|columns| (1, 33, columns)))
            .chain([(96, 1, 80), (97, 70, 48), (16, 64, 256), (32, 64, 256)])
        {
            with_each(|| {
                let mut out = Vec::new();
                dispatch(Products::<F> { rows, terms, columns, out: &mut out });
                assert_eq!(out.len(), 1);
            });
        }
    }

    #[test]
    fn sums_have_their_terms_in_order_with_every_set_of_instructions() {
        products::<f32>();
    }

    #[test]
    fn sums_of_f64_have_their_terms_in_order_with_every_set_of_instructions() {
        products::<f64>();
    }

    #[test]
    fn parts_cover_a_product_and_are_about_equal() {
        for (m, n) in [(1, 1), (1, 2048), (3072, 128), (800, 4096), (512, 2048), (33, 40), (256, 1024)] {
            for threads in [1, 2, 3, 4, 8, 16, 64] {
                let parts = divide(m, n, threads);
                assert!(parts.len() <= threads);
                let mut covered = vec![0u8; m * n];
                for (rows, columns) in &parts {
                    assert!(columns.start % COLUMNS == 0);
                    rows.clone().for_each(|row| covered[row * n..][columns.clone()].iter_mut().for_each(|c| *c += 1));
                }
                assert!(covered.iter().all(|&count| count == 1), "{m} x {n} on {threads} threads");
                let most = parts.iter().map(|(rows, columns)| rows.len() * columns.len()).max().unwrap();
                let idle = 1.0 - (m * n) as f64 / (threads * most) as f64;
                assert!(m * n < 64 * 64 * COLUMNS || idle < 0.15, "{m} x {n} on {threads} threads: {idle}");
            }
        }
    }

    #[test]
    fn groups_cover_the_rows_and_are_about_equal() {
        fn check<S: Isa, F>() {
            for rows in 0..200 {
                let all: Vec<_> = groups::<S, F>(rows).collect();
                let sizes: Vec<usize> = all.iter().map(Range::len).collect();
                assert_eq!(all.into_iter().flatten().collect::<Vec<_>>(), (0..rows).collect::<Vec<_>>());
                let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
                assert!(most - least <= 1 && *most <= most_rows::<S, F>(), "{sizes:?}");
            }
        }
        check::<pulp::Scalar256b, f32>();
        check::<pulp::Scalar512b, f32>();
        check::<pulp::Scalar512b, f64>();
    }
}
