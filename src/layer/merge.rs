//! Merging of the outputs of two directions, forward and backward.

use super::Merge;
use crate::error::Result;
use crate::kernel::{self, MergeConstants};
use crate::plan::Role;
use crate::schedule::{Builder, Sequence};

/// Merges two directions [.., 2K] to [.., K], unless they stay side by side.
pub(super) fn merge(builder: &mut Builder, name: &str, how: Merge, x: &Sequence, batch: u32) -> Result<Sequence> {
    let Some(kind) = how.kernel() else { return Ok(x.clone()) };
    let width = x.features / 2;
    let y = builder.sequence(&format!("{name}.merged"), [x.steps, batch, width], 0, Role::Scratch)?;
    for part in x.parts(&y) {
        let ((from, x_offset), (to, y_offset)) = (x.at(part.start), y.at(part.start));
        let params = kernel::MergeForward { rows: part.len() as u32 * batch, width, x_offset, y_offset };
        builder.push(&kernel::MERGE_FORWARD, None, &MergeConstants { kind }, &params, &[from, to]);
    }
    Ok(y)
}

/// Computes the gradient of both directions.
pub(super) fn unmerge(
    builder: &mut Builder,
    name: &str,
    how: Merge,
    x: &Sequence,
    dy: &Sequence,
    batch: u32,
) -> Result<Sequence> {
    let Some(kind) = how.kernel() else { return Ok(dy.clone()) };
    builder.section(format!("{name} merge backward"));
    let width = dy.features;
    let dx = builder.sequence(&format!("{name}.d merged"), [x.steps, batch, 2 * width], 0, Role::Scratch)?;
    for part in x.parts(&dx) {
        let ((of, x_offset), (from, dy_offset), (to, dx_offset)) =
            (x.at(part.start), dy.at(part.start), dx.at(part.start));
        let params = kernel::MergeBackward { rows: part.len() as u32 * batch, width, x_offset, dy_offset, dx_offset };
        builder.push(&kernel::MERGE_BACKWARD, None, &MergeConstants { kind }, &params, &[of, from, to]);
    }
    Ok(dx)
}
