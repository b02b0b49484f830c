//! A buffer in main memory, and its numbers packed for products.

use super::Team;
use super::panels::{Matrices, pack_all, packed_len};
use crate::real::Real;
use std::ops::{Deref, DerefMut};

/// Rows that are multiplied with a matrix as it stands before packing it is worth the time.
const WORTH_PACKING: usize = 16;

/// The numbers of a buffer. Weights are packed once and stay so until something writes to them.
#[derive(Debug, Default)]
pub struct Buffer<F> {
    pub(super) values: Vec<F>,
    pub(super) packed: Packed<F>,
}

impl<F> From<Vec<F>> for Buffer<F> {
    fn from(values: Vec<F>) -> Self {
        Buffer { values, packed: Packed { panels: Vec::new(), of: None, unpacked: 0 } }
    }
}

impl<F> Deref for Buffer<F> {
    type Target = [F];

    fn deref(&self) -> &[F] {
        &self.values
    }
}

impl<F> DerefMut for Buffer<F> {
    fn deref_mut(&mut self) -> &mut [F] {
        self.packed.forget();
        &mut self.values
    }
}

/// Matrices in panels of 16 columns, if they were packed since the last change.
#[derive(Debug, Default)]
pub(super) struct Packed<F> {
    panels: Vec<F>,
    of: Option<Matrices>,
    /// Rows that were multiplied with the matrices as they stand.
    unpacked: usize,
}

impl<F> Packed<F> {
    /// The numbers have changed.
    pub fn forget(&mut self) {
        (self.of, self.unpacked) = (None, 0);
    }
}

impl<F: Real> Packed<F> {
    /// The panels of what was packed.
    pub fn all(&self) -> &[F] {
        &self.panels
    }

    /// The panels of matrices, for products of `rows` rows; `None` where packing is not worth it yet or there is no memory for it.
    pub fn panels(&mut self, team: &Team, values: &[F], matrices: Matrices, rows: usize) -> Option<&[F]> {
        if self.of != Some(matrices) {
            self.unpacked += rows;
            if self.unpacked < WORTH_PACKING {
                return None;
            }
            let len = packed_len(matrices.terms, matrices.columns);
            let all = matrices.count * len;
            // Products go without where there is no memory for a second form of the weights.
            self.panels.try_reserve_exact(all.saturating_sub(self.panels.len())).ok()?;
            self.panels.resize(all, F::zero());
            for (index, panels) in self.panels.chunks_exact_mut(len).enumerate() {
                let first = matrices.first + index as i64 * matrices.apart;
                pack_all(team, values, Matrices { first, ..matrices }, panels);
            }
            // what was packed before, if anything, has to be worth it again
            (self.of, self.unpacked) = (Some(matrices), 0);
        }
        Some(&self.panels)
    }
}
