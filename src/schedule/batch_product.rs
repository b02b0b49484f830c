//! Products for every row of a batch, split where one dispatch cannot make them.

use super::product::MOST_TERMS;
use super::{Builder, Sequence};
use crate::kernel::{self, BatchMatmul, NoConstants};
use crate::plan::BufferId;

/// A matrix for every row of a batch, as a product addresses it: the place of its first element, and the strides of a row of the batch,
/// of a row of the matrix, and of a column.
#[derive(Clone, Copy)]
pub(super) struct Matrices {
    place: (BufferId, u32),
    batch: u32,
    row: u32,
    column: u32,
}

impl Matrices {
    /// Steps of a sequence from a place on, [steps, features].
    pub fn of(sequence: &Sequence, place: (BufferId, u32)) -> Matrices {
        Matrices { place, batch: sequence.row, row: sequence.step, column: 1 }
    }

    /// The transposes.
    pub fn transposed(self) -> Matrices {
        Matrices { row: self.column, column: self.row, ..self }
    }
}

impl Builder {
    /// Adds the products C = A·B, or C += A·B if `add`, of `batch` matrices [m, k] and [k, n]. Columns of C are contiguous.
    pub(super) fn multiply_each(&mut self, batch: u32, [m, n, k]: [u32; 3], [a, b, c]: [Matrices; 3], add: bool) {
        let product = BatchMatmul {
            batch,
            m,
            n,
            k,
            accumulate: add as u32,
            a_offset: a.place.1,
            a_b: a.batch as i32,
            a_m: a.row as i32,
            a_k: a.column as i32,
            b_offset: b.place.1,
            b_b: b.batch as i32,
            b_k: b.row as i32,
            b_n: b.column as i32,
            c_offset: c.place.1,
            c_b: c.batch as i32,
            c_m: c.row as i32,
        };
        self.batch_matmul(product, a.place.0, b.place.0, c.place.0);
    }

    /// Adds a product for every row of a batch; see [`kernel::BatchMatmul`]. Rows of the batch and of C are split by the number of
    /// workgroups, terms by the iterations of a shader's loops.
    fn batch_matmul(&mut self, whole: BatchMatmul, a: BufferId, b: BufferId, c: BufferId) {
        let groups = self.capabilities.max_groups.min(65_535) as u32;
        let moved = |offset: u32, index: u32, stride: i32| (offset as i64 + index as i64 * stride as i64) as u32;
        let rows = groups.saturating_mul(BatchMatmul::TILE);
        for row in (0..whole.batch).step_by(groups as usize) {
            for m in (0..whole.m).step_by(rows as usize) {
                for k in (0..whole.k).step_by(MOST_TERMS as usize) {
                    let part = BatchMatmul {
                        batch: groups.min(whole.batch - row),
                        m: rows.min(whole.m - m),
                        k: MOST_TERMS.min(whole.k - k),
                        accumulate: (whole.accumulate == 1 || k > 0) as u32,
                        a_offset: moved(moved(moved(whole.a_offset, row, whole.a_b), m, whole.a_m), k, whole.a_k),
                        b_offset: moved(moved(whole.b_offset, row, whole.b_b), k, whole.b_k),
                        c_offset: moved(moved(whole.c_offset, row, whole.c_b), m, whole.c_m),
                        ..whole
                    };
                    self.push(&kernel::BATCH_MATMUL, None, &NoConstants, &part, &[a, b, c]);
                }
            }
        }
    }
}
