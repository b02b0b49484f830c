//! Loss, gradient norm and the optimiser's step.

use super::builder::{Builder, Trained};
use super::sequence::{Direction, Sequence};
use crate::error::Result;
use crate::kernel::{self, params};
use crate::plan::{BufferId, Role};
use crate::train::{Loss, Optimiser};

/// Plans the loss of a prediction: its gradient, and its mean in one element.
pub fn loss(
    builder: &mut Builder,
    loss: Loss,
    prediction: &Sequence,
    target: &Sequence,
    batch: u32,
) -> Result<(Sequence, BufferId)> {
    builder.section(format!("loss ({})", loss.name()));
    let width = prediction.features;
    let total = prediction.steps as u64 * batch as u64;
    let gradient = builder.sequence("dprediction", [prediction.steps, batch, width], 0, Role::Scratch)?;
    let rows = builder.buffer("loss by row", total, Role::Scratch)?;
    let out = builder.buffer("loss", 1, Role::Output)?;
    let scale = (1.0 / loss.terms(total, width as u64)) as f32;
    let forward = Direction::forward(prediction.steps);
    for part in forward.segments(0..prediction.steps, prediction.chunk_steps) {
        let (from, prediction_offset) = prediction.at(part.start);
        let (truth, target_offset) = target.at(part.start);
        let (to, gradient_offset) = gradient.at(part.start);
        let params = params::Loss {
            rows: part.len() as u32 * batch,
            width,
            prediction_offset,
            target_offset,
            gradient_offset,
            row_offset: part.start * batch,
            scale,
        };
        builder.push(&kernel::LOSS, None, &[loss.index()], &params, &[from, truth, to, rows]);
    }
    let partial = builder.buffer("loss partial", slices(total as u32).1 as u64, Role::Scratch)?;
    let count = reduce(builder, rows, total as u32, partial, 0, false);
    let whole = params::Reduce { n: count, offset: 0, per_group: count, out_offset: 0, square: 0 };
    builder.push(&kernel::REDUCE, None, &[], &whole, &[partial, out]);
    Ok((gradient, out))
}

/// Elements of a slice and number of slices: at most 256 slices, which a second pass or one thread can sum.
fn slices(n: u32) -> (u32, u32) {
    let per_group = n.div_ceil(256).max(4096);
    (per_group, n.div_ceil(per_group).max(1))
}

/// Sums slices of a buffer into `to` from `at`; returns how many sums there are.
fn reduce(builder: &mut Builder, values: BufferId, n: u32, to: BufferId, at: u32, square: bool) -> u32 {
    let (per_group, count) = slices(n);
    let params = params::Reduce { n, offset: 0, per_group, out_offset: at, square: square as u32 };
    builder.push(&kernel::REDUCE, None, &[], &params, &[values, to]);
    count
}

/// Plans the optimiser's step, after clipping the gradients' norm where asked.
pub fn optimise(
    builder: &mut Builder,
    optimiser: &Optimiser,
    clip_norm: Option<f32>,
    weights: &[Trained],
) -> Result<()> {
    builder.section(format!("optimiser ({})", optimiser.name()));
    let scale = builder.buffer("gradient scale", 2, Role::Scratch)?;
    match clip_norm {
        Some(max_norm) => {
            let count: u32 = weights.iter().map(|trained| slices(trained.len).1).sum();
            let squares = builder.buffer("squared gradients", count as u64, Role::Scratch)?;
            let mut at = 0;
            for trained in weights {
                at += reduce(builder, trained.gradient, trained.len, squares, at, true);
            }
            builder.push(&kernel::CLIP, None, &[], &params::Clip { n: count, max_norm }, &[squares, scale]);
        }
        None => builder.fill(scale, 0..2, 1.0),
    }
    let hyper = builder.buffer("hyper", 2, Role::Input)?;
    for trained in weights {
        let n = trained.len;
        let mut memory = |kind: &str| builder.buffer(format!("{kind} {}", trained.name), n as u64, Role::Optimiser);
        match *optimiser {
            Optimiser::Sgd { momentum, .. } => {
                let velocity = memory("velocity")?;
                let buffers = [hyper, scale, trained.gradient, trained.weight, velocity];
                builder.push(&kernel::SGD, None, &[], &params::Sgd { n, momentum }, &buffers);
            }
            Optimiser::Adam { beta1, beta2, .. } => {
                let (m, v) = (memory("m")?, memory("v")?);
                let params = params::Adam {
                    n,
                    beta1: beta1 as f32,
                    take1: (1.0 - beta1) as f32,
                    beta2: beta2 as f32,
                    take2: (1.0 - beta2) as f32,
                };
                builder.push(
                    &kernel::ADAM,
                    None,
                    &[],
                    &params,
                    &[hyper, scale, trained.gradient, trained.weight, m, v],
                );
            }
        }
    }
    Ok(())
}
