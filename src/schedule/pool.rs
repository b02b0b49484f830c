//! Pooling over time, and the merging of two directions, forward and backward.

use super::builder::Builder;
use super::sequence::Sequence;
use crate::error::Result;
use crate::kernel::{self, MergeConstants, PoolConstants, params};
use crate::layer::{Merge, Pool};
use crate::plan::{BufferId, Role};

/// What pooling leaves for backward.
#[derive(Clone, Debug)]
pub struct Pooled {
    x: Sequence,
    /// The times that were taken, [B, F].
    at: BufferId,
    ragged: bool,
}

/// One vector [1, B, F] of a sequence.
pub fn forward(
    builder: &mut Builder,
    name: &str,
    pool: Pool,
    x: &Sequence,
    batch: u32,
    ragged: bool,
) -> Result<(Sequence, Pooled)> {
    builder.section(format!("{name} forward"));
    let (kind, by_length) = pool.kernel();
    let ragged = ragged && by_length;
    let words = builder.words(batch)?;
    let y = builder.sequence(&format!("{name}.y"), [1, batch, x.features], 0, Role::Scratch)?;
    let at = builder.buffer(format!("{name}.at"), batch as u64 * x.features as u64, Role::Scratch)?;
    for chunk in 0..x.chunks.len() {
        let range = x.chunk_range(chunk);
        let (from, x_offset) = x.at(range.start);
        let params = params::PoolForward {
            steps: range.len() as u32,
            batch,
            features: x.features,
            x_offset,
            x_step: x.step,
            x_row: x.row,
            time: range.start,
            total_steps: x.steps,
        };
        let constants = PoolConstants { kind, ragged };
        builder.push(&kernel::POOL_FORWARD, None, &constants, &params, &[words, from, y.at(0).0, at]);
    }
    Ok((y, Pooled { x: x.clone(), at, ragged }))
}

/// The gradient of the sequence.
pub fn backward(
    builder: &mut Builder,
    name: &str,
    pool: Pool,
    pooled: &Pooled,
    dy: &Sequence,
    batch: u32,
) -> Result<Sequence> {
    builder.section(format!("{name} backward"));
    let words = builder.words(batch)?;
    let x = &pooled.x;
    let dx = builder.sequence(&format!("{name}.dx"), [x.steps, batch, x.features], 0, Role::Scratch)?;
    let (from, dy_offset) = dy.at(0);
    for chunk in 0..dx.chunks.len() {
        let range = dx.chunk_range(chunk);
        let (to, dx_offset) = dx.at(range.start);
        let params = params::PoolBackward {
            steps: range.len() as u32,
            batch,
            features: x.features,
            dx_offset,
            dy_offset,
            time: range.start,
            total_steps: x.steps,
        };
        let constants = PoolConstants { kind: pool.kernel().0, ragged: pooled.ragged };
        builder.push(&kernel::POOL_BACKWARD, None, &constants, &params, &[words, from, pooled.at, to]);
    }
    Ok(dx)
}

/// The two directions [.., 2K] as one [.., K].
pub fn merge(builder: &mut Builder, name: &str, merge: Merge, x: &Sequence, batch: u32) -> Result<Sequence> {
    let width = x.features / 2;
    let y = builder.sequence(&format!("{name}.merged"), [x.steps, batch, width], 0, Role::Scratch)?;
    for part in x.parts(&y) {
        let ((from, x_offset), (to, y_offset)) = (x.at(part.start), y.at(part.start));
        let params = params::MergeForward { rows: part.len() as u32 * batch, width, x_offset, y_offset };
        builder.push(&kernel::MERGE_FORWARD, None, &MergeConstants { kind: merge.index() }, &params, &[from, to]);
    }
    Ok(y)
}

/// The gradient of both directions.
pub fn unmerge(
    builder: &mut Builder,
    name: &str,
    merge: Merge,
    x: &Sequence,
    dy: &Sequence,
    batch: u32,
) -> Result<Sequence> {
    let width = dy.features;
    let dx = builder.sequence(&format!("{name}.d merged"), [x.steps, batch, 2 * width], 0, Role::Scratch)?;
    for part in x.parts(&dx) {
        let ((of, x_offset), (from, dy_offset), (to, dx_offset)) =
            (x.at(part.start), dy.at(part.start), dx.at(part.start));
        let params = params::MergeBackward { rows: part.len() as u32 * batch, width, x_offset, dy_offset, dx_offset };
        builder.push(&kernel::MERGE_BACKWARD, None, &MergeConstants { kind: merge.index() }, &params, &[of, from, to]);
    }
    Ok(dx)
}
