//! Layer normalisation and embedding, forward and backward.

use super::builder::Builder;
use super::sequence::Sequence;
use crate::error::Result;
use crate::kernel::{self, NoConstants, NormBackwardConstants, NormForwardConstants, params};
use crate::plan::{BufferId, Role};

/// Rows that one dispatch of an embedding's gradient sums: some drivers end a shader's loops after 65,535 turns.
const MOST_ROWS: u32 = 1 << 15;

/// Device tensors of a layer normalisation, each [features].
#[derive(Clone, Copy, Debug)]
pub struct NormWeights {
    /// Factors.
    pub weight: BufferId,
    /// What is added.
    pub bias: BufferId,
}

/// Declares the weights of a layer normalisation, or their gradients.
pub fn declare(builder: &mut Builder, name: &str, features: u32, prefix: &str, role: Role) -> Result<NormWeights> {
    let mut tensor = |kind: &str| builder.buffer(format!("{prefix}{name}.{kind}"), features as u64, role);
    Ok(NormWeights { weight: tensor("weight")?, bias: tensor("bias")? })
}

/// Normalises every step.
pub fn forward(
    builder: &mut Builder,
    name: &str,
    epsilon: f32,
    weights: NormWeights,
    x: &Sequence,
    batch: u32,
) -> Result<Sequence> {
    builder.section(format!("{name} forward"));
    let y = builder.sequence(&format!("{name}.y"), [x.steps, batch, x.features], 0, Role::Scratch)?;
    for part in x.parts(&y) {
        let ((from, x_offset), (to, y_offset)) = (x.at(part.start), y.at(part.start));
        let rows = part.len() as u32 * batch;
        let features = x.features;
        let params = params::NormForward { rows, features, group: rows, groups: 1, x_offset, y_offset, epsilon };
        builder.push(
            &kernel::NORM_FORWARD,
            None,
            &NormForwardConstants { bias: true, add: false },
            &params,
            &[weights.weight, weights.bias, from, to],
        );
    }
    Ok(y)
}

/// dx, and the gradients of both weights.
#[allow(clippy::too_many_arguments)] // what backward through a layer takes
pub fn backward(
    builder: &mut Builder,
    name: &str,
    epsilon: f32,
    weights: NormWeights,
    gradients: NormWeights,
    x: &Sequence,
    dy: &Sequence,
    batch: u32,
) -> Result<Sequence> {
    builder.section(format!("{name} backward"));
    let features = x.features;
    let dx = builder.sequence(&format!("{name}.dx"), [x.steps, batch, features], 0, Role::Scratch)?;
    let longest = dx.chunk_range(0).len() as u64;
    let own = builder.buffer(format!("{name}.dweight"), longest * batch as u64 * features as u64, Role::Scratch)?;
    for (index, part) in x.parts(&dx).into_iter().enumerate() {
        let ((of, x_offset), (from, dy_offset), (to, dx_offset)) =
            (x.at(part.start), dy.at(part.start), dx.at(part.start));
        let rows = part.len() as u32 * batch;
        let params = params::NormBackward {
            rows,
            steps: 1,
            features,
            group: rows,
            groups: 1,
            x_offset,
            dy_offset,
            dx_offset,
            epsilon,
        };
        builder.push(
            &kernel::NORM_BACKWARD,
            None,
            &NormBackwardConstants { add: false },
            &params,
            &[weights.weight, of, from, to, own],
        );
        for (values, a_offset, sums) in [(own, 0, gradients.weight), (from, dy_offset, gradients.bias)] {
            let accumulate = (index > 0 || builder.adds()) as u32;
            let params = params::ColumnSum { rows, columns: features, a_offset, out_offset: 0, copies: 1, accumulate };
            builder.push(&kernel::COLUMN_SUM, None, &NoConstants, &params, &[values, sums]);
        }
    }
    Ok(dx)
}

/// The vectors of indices.
pub fn embed(
    builder: &mut Builder,
    name: &str,
    [entries, features]: [u32; 2],
    weight: BufferId,
    x: &Sequence,
    batch: u32,
) -> Result<Sequence> {
    builder.section(format!("{name} forward"));
    let y = builder.sequence(&format!("{name}.y"), [x.steps, batch, features], 0, Role::Scratch)?;
    for part in x.parts(&y) {
        let ((from, index_offset), (to, y_offset)) = (x.at(part.start), y.at(part.start));
        let rows = part.len() as u32 * batch;
        let params = params::EmbedForward { rows, features, entries, index_offset, y_offset };
        builder.push(&kernel::EMBED_FORWARD, None, &NoConstants, &params, &[weight, from, to]);
    }
    Ok(y)
}

/// The gradient of the vectors.
pub fn embed_gradient(
    builder: &mut Builder,
    name: &str,
    [entries, features]: [u32; 2],
    gradient: BufferId,
    x: &Sequence,
    dy: &Sequence,
    batch: u32,
) {
    builder.section(format!("{name} backward"));
    if !builder.adds() {
        builder.fill(gradient, 0..entries * features, 0.0);
    }
    for part in x.parts(dy) {
        let ((of, index), (from, dy_at)) = (x.at(part.start), dy.at(part.start));
        let rows = part.len() as u32 * batch;
        for first in (0..rows).step_by(MOST_ROWS as usize) {
            let params = params::EmbedBackward {
                rows: MOST_ROWS.min(rows - first),
                features,
                entries,
                index_offset: index + first,
                dy_offset: dy_at + first * features,
            };
            builder.push(&kernel::EMBED_BACKWARD, None, &NoConstants, &params, &[from, of, gradient]);
        }
    }
}
