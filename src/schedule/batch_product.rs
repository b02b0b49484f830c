//! Products for every row of a batch, split where one dispatch cannot make them.

use super::Builder;
use super::builder::MOST_TERMS;
use crate::kernel::{self, BatchMatmul, NoConstants};
use crate::plan::BufferId;

impl Builder {
    /// Adds a product for every row of a batch; see [`kernel::BatchMatmul`]. Rows of the batch and of C are split by the number of
    /// workgroups, terms by the iterations of a shader's loops.
    pub(crate) fn batch_matmul(&mut self, whole: BatchMatmul, a: BufferId, b: BufferId, c: BufferId) {
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
