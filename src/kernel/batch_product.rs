//! Matrix products for every row of a batch.

use super::declare::{kernel, params};
use super::{Matmul, NoConstants, Region, Touch};
use crate::cpu::batch_matmul;

params! {
    /// C_b\[m, n\] (+)= Σ_k A_b\[m, k\]·B_b\[k, n\] for each b, with a stride for each axis: in a sequence [T, B, F] the matrix [T, F] of a row
    /// begins b·F elements on, and its rows are B·F elements apart.
    BatchMatmul {
        /// Products, B.
        batch: u32,
        /// Rows of each C.
        m: u32,
        /// Columns of each C.
        n: u32,
        /// Terms of each sum.
        k: u32,
        /// 1: add to C; 0: overwrite it.
        accumulate: u32,
        /// First element of A.
        a_offset: u32,
        /// Stride of A by b.
        a_b: i32,
        /// Stride of A by m.
        a_m: i32,
        /// Stride of A by k.
        a_k: i32,
        /// First element of B.
        b_offset: u32,
        /// Stride of B by b.
        b_b: i32,
        /// Stride of B by k.
        b_k: i32,
        /// Stride of B by n.
        b_n: i32,
        /// First element of C.
        c_offset: u32,
        /// Stride of C by b.
        c_b: i32,
        /// Stride of C by m; columns are contiguous.
        c_m: i32,
    }
}

kernel! {
    /// A matrix product for every row of a batch: scores of attention, weighted sums, and their gradients.
    BATCH_MATMUL = batch_matmul(BatchMatmul, NoConstants) {
        bindings: [read a, read b, write c],
        workgroup: [8, 8, 1],
        groups: |p| [p.n.div_ceil(BatchMatmul::TILE) as u64, p.m.div_ceil(BatchMatmul::TILE) as u64, p.batch as u64],
        flops: |p| 2 * p.batch as u64 * p.m as u64 * p.n as u64 * p.k as u64,
        touches: |p| p.touches(),
    }
}

impl BatchMatmul {
    /// Rows and columns that a workgroup computes.
    pub(crate) const TILE: u32 = 32;

    /// The product of one row of the batch.
    pub(crate) fn product(&self, row: u32) -> Matmul {
        let moved = |offset: u32, stride: i32| (offset as i64 + row as i64 * stride as i64) as u32;
        Matmul {
            accumulate: self.accumulate,
            a_offset: moved(self.a_offset, self.a_b),
            a_m_lo: self.a_m,
            a_k_lo: self.a_k,
            b_offset: moved(self.b_offset, self.b_b),
            b_k_lo: self.b_k,
            b_n: self.b_n,
            c_offset: moved(self.c_offset, self.c_b),
            c_m_lo: self.c_m,
            ..Matmul::plain(self.m, self.n, self.k)
        }
    }

    fn touches(&self) -> Vec<Touch> {
        let a = [(self.batch, self.a_b), (self.m, self.a_m), (self.k, self.a_k)];
        let b = [(self.batch, self.b_b), (self.k, self.b_k), (self.n, self.b_n)];
        let c = [(self.batch, self.c_b), (self.m, self.c_m), (self.n, 1)];
        vec![
            Touch::reads(Region::strided(self.a_offset, a)),
            Touch::reads(Region::strided(self.b_offset, b)),
            Touch::updates(Region::strided(self.c_offset, c), self.accumulate == 1),
        ]
    }
}
