//! Elementwise arithmetic of sequences.

use super::{Builder, Sequence};
use crate::error::Result;
use crate::kernel::{self, Elementwise, ElementwiseConstants, ElementwiseKind};
use crate::plan::{BufferId, Role};

impl Builder {
    /// Multiplies a sequence y [T, B, F] by another, or replaces it by the larger of both: `y = y·x`, `y = max(y, x)`.
    pub(crate) fn combine(&mut self, kind: ElementwiseKind, x: &Sequence, y: &Sequence, batch: u32) {
        for part in x.parts(y) {
            let strides = [x.step, x.row, 1];
            self.elementwise(kind, (x.at(part.start), strides), &y.window(part), batch);
        }
    }

    /// Multiplies a sequence y [T, B, F] by a number, element `at` of a buffer.
    pub(crate) fn multiply_by(&mut self, number: (BufferId, u32), y: &Sequence, batch: u32) {
        for chunk in 0..y.chunks.len() {
            self.elementwise(ElementwiseKind::Product, (number, [0; 3]), &y.window(y.chunk_range(chunk)), batch);
        }
    }

    /// A buffer of `n` equal numbers.
    pub(crate) fn constant(&mut self, name: &str, n: u32, value: f32) -> Result<BufferId> {
        let buffer = self.buffer(name, n.into(), Role::Scratch)?;
        self.fill(buffer, 0..n, value);
        Ok(buffer)
    }

    /// Adds the arithmetic for steps of one chunk.
    fn elementwise(
        &mut self,
        kind: ElementwiseKind,
        ((from, x_offset), [x_step, x_row, x_feature]): ((BufferId, u32), [u32; 3]),
        y: &Sequence,
        batch: u32,
    ) {
        let (to, y_offset) = y.at(0);
        let params = Elementwise {
            steps: y.steps,
            batch,
            features: y.features,
            x_offset,
            x_step,
            x_row,
            x_feature,
            y_offset,
            y_step: y.step,
            y_row: y.row,
        };
        self.push(&kernel::ELEMENTWISE, None, &ElementwiseConstants { kind }, &params, &[from, to]);
    }
}
