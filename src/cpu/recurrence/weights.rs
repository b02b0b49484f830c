//! Recurrent weights as tiles read them, and the product of a tile's rows with them.

use crate::cpu::Team;
use crate::cpu::kept::{Form, Kept, with_panels};
use crate::cpu::panels::{Axis, COLUMNS, Matrices, Packed, Panels, pack_all, packed_len};
use crate::cpu::product::{Left, group, multiply, single, single_packed, strips};
use crate::real::Real;
use crate::simd::{Isa, Work, dispatch, is_f32};
use std::ops::Range;

/// Product of a tile's rows and its columns of the weights: out [rows, columns], rounded up to whole panels.
pub(super) struct Product<'a, F> {
    /// [rows, terms].
    pub(super) state: &'a [F],
    /// Scratch space of the same size.
    pub(super) grouped: &'a mut [F],
    pub(super) terms: usize,
    pub(super) weights: Side<'a, F>,
    pub(super) out: &'a mut [F],
    pub(super) columns: usize,
}

impl<F: Real> Product<'_, F> {
    /// Computes the product.
    pub(super) fn compute(self) {
        // Functions of their own: in one, the code for a single row becomes slower (measured: 1.5 µs a step at H = 128).
        match self.weights {
            Side::Blocks(blocks) => dispatch(BlockProduct { blocks, product: self }),
            Side::Rows(rows, stride) => dispatch(RowMajorProduct { rows, stride, product: self }),
            Side::Panels(form, first) => with_panels!(form, F, panels => {
                let panels = Panels::<F>::part(panels, &(first..first + self.columns), 0);
                if self.state.len() > self.terms {
                    dispatch(RowsProduct { panels, product: self });
                } else {
                    dispatch(RowProduct { panels, product: self });
                }
            }),
        }
    }
}

/// Product of one row with a row-major matrix.
struct RowMajorProduct<'a, F> {
    rows: &'a [F],
    stride: usize,
    product: Product<'a, F>,
}

impl<F: Real> Work for RowMajorProduct<'_, F> {
    const WIDE: bool = is_f32::<F>();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Product { state, out, columns, .. } = self.product;
        single(simd, state, (self.rows, self.stride), false, &mut out[..columns]);
    }
}

/// Product of one row with packed weights.
struct RowProduct<'a, F, P> {
    panels: P,
    product: Product<'a, F>,
}

impl<F: Real, P: Panels<F>> Work for RowProduct<'_, F, P> {
    const WIDE: bool = is_f32::<F>();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Product { state, out, columns, .. } = self.product;
        single_packed(simd, state, self.panels.operand(simd), &mut out[..columns.next_multiple_of(COLUMNS)]);
    }
}

/// Product of several rows with packed weights.
struct RowsProduct<'a, F, P> {
    panels: P,
    product: Product<'a, F>,
}

impl<F: Real, P: Panels<F>> Work for RowsProduct<'_, F, P> {
    const WIDE: bool = is_f32::<F>();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Product { state, grouped, terms, out, columns, .. } = self.product;
        let (rows, columns) = (state.len() / terms, columns.next_multiple_of(COLUMNS));
        let left = Left { data: state, first: 0, rows: Axis::plain(terms), terms: Axis::plain(1) };
        group(simd, left, 0..rows, 0..terms, grouped);
        for strip in strips::<S, F>(rows, columns / COLUMNS) {
            let out = &mut out[strip.start * COLUMNS..];
            multiply(simd, grouped, terms, self.panels.operand(simd), strip, out, columns);
        }
    }
}

/// Product with blocks on the diagonal.
struct BlockProduct<'a, F> {
    blocks: Blocks<'a, F>,
    product: Product<'a, F>,
}

impl<F: Real> Work for BlockProduct<'_, F> {
    const WIDE: bool = is_f32::<F>();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Product { state, terms, out, columns, .. } = self.product;
        for (state, out) in state.chunks_exact(terms).zip(out.chunks_exact_mut(columns.next_multiple_of(COLUMNS))) {
            self.blocks.multiply(simd, state, &mut out[..columns]);
        }
    }
}

/// Some columns of the weights.
#[derive(Clone, Copy)]
pub(super) enum Side<'a, F> {
    /// Row-major, with the stride of their rows: for a single row of the batch.
    Rows(&'a [F], usize),
    /// Packed, with the first column.
    Panels(Form<'a, F>, usize),
    /// Columns of a block-diagonal matrix.
    Blocks(Blocks<'a, F>),
}

/// Some columns of a block-diagonal matrix, stored as its blocks, [terms, columns] each, side by side.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a, F> {
    /// Elements from the first column on.
    pub(super) data: &'a [F],
    /// Stride of a term.
    pub(super) stride: usize,
    /// Index of the first column.
    pub(super) first: usize,
    pub(super) terms: usize,
    pub(super) columns: usize,
}

impl<F: Real> Blocks<'_, F> {
    /// Multiplies a row [blocks · terms] by the columns.
    #[inline(always)]
    pub(super) fn multiply<S: Isa>(&self, simd: S, row: &[F], out: &mut [F]) {
        let (mut at, end) = (self.first, self.first + out.len());
        while at < end {
            let block = at / self.columns;
            let own = at - self.first..end.min((block + 1) * self.columns) - self.first;
            at += own.len();
            let (row, data) = (&row[block * self.terms..][..self.terms], &self.data[own.start..]);
            single(simd, row, (data, self.stride), false, &mut out[own]);
        }
    }
}

/// The weights [terms, columns] of each direction as tiles read them: packed, or row-major for a single row, for which packing
/// does not pay. Those of several heads are blocks of `terms` terms side by side.
pub(super) struct Weights<'a, F> {
    matrices: Source<'a, F>,
    terms: usize,
    columns: usize,
    heads: usize,
}

/// The matrices of all directions.
enum Source<'a, F> {
    RowMajor(&'a [F]),
    /// Packed for this pass.
    Packed(&'a [F]),
    Kept(&'a Kept<F>),
}

/// Addresses of the weights of all directions.
pub(super) fn matrices(directions: usize, terms: usize, columns: usize) -> Matrices {
    let apart = (terms * columns) as i64;
    Matrices { count: directions, first: 0, apart, terms, columns, k: Axis::plain(columns), n: 1 }
}

impl<'a, F: Real> Weights<'a, F> {
    /// Elements of scratch space for packing.
    pub(super) fn room(directions: usize, terms: usize, columns: usize, heads: usize, batch: usize) -> usize {
        if batch == 1 || heads > 1 { 0 } else { directions * packed_len(terms, columns) }
    }

    /// Weights that are kept packed.
    pub(super) fn kept(kept: &'a Kept<F>, terms: usize, columns: usize) -> Self {
        Weights { matrices: Source::Kept(kept), terms, columns, heads: 1 }
    }

    /// Packs the weights in `room`, unless it is empty.
    pub(super) fn new(
        team: &Team,
        data: &'a [F],
        terms: usize,
        columns: usize,
        heads: usize,
        room: &'a mut [F],
    ) -> Self {
        if room.is_empty() {
            return Weights { matrices: Source::RowMajor(data), terms, columns, heads };
        }
        let own = matrices(1, terms, columns);
        for (direction, room) in room.chunks_exact_mut(packed_len(terms, columns)).enumerate() {
            pack_all(team, data, Matrices { first: direction as i64 * own.apart, ..own }, room);
        }
        Weights { matrices: Source::Packed(room), terms, columns, heads }
    }

    /// Some columns of a direction.
    pub(super) fn side(&self, direction: usize, columns: Range<usize>) -> Side<'a, F> {
        let data = match self.matrices {
            Source::Kept(kept) => return Side::Panels(kept.matrix(direction), columns.start),
            Source::Packed(data) => {
                let len = packed_len(self.terms, self.columns);
                return Side::Panels(
                    Form::F32(Packed::new(&data[direction * len..][..len], self.terms)),
                    columns.start,
                );
            }
            Source::RowMajor(data) => data,
        };
        let first = direction * self.terms * self.columns;
        let data = &data[first..first + self.terms * self.columns][columns.start..];
        if self.heads == 1 {
            return Side::Rows(data, self.columns);
        }
        let (first, stride, columns) = (columns.start, self.columns, self.columns / self.heads);
        Side::Blocks(Blocks { data, stride, first, terms: self.terms, columns })
    }
}
