//! Loss, penalties, clipping, the optimiser's step and bounds of norms.

use super::pass::Trained;
use crate::error::Result;
use crate::kernel::{self, HYPER, LossConstants, NoConstants};
use crate::layer::Vectors;
use crate::plan::{BufferId, Role};
use crate::schedule::{Builder, Direction, Sequence, size};
use crate::train::{Action, Clip, Group, Loss, Optimiser, Regulariser, Rule, Update};

/// A loss of an output and its weight in the sum of all.
#[derive(Clone, Copy)]
pub(super) struct OutputLoss<'a> {
    pub loss: &'a Loss,
    pub weight: f32,
}

/// Declares the target [T or 1, B, features] of predictions of these sizes, which are output `k`, and their loss.
pub(super) fn loss_of<'a>(
    plan: &mut Builder,
    loss: &OutputLoss<'a>,
    k: usize,
    [steps, batch, width]: [u32; 3],
    weighted: bool,
) -> Result<(Sequence, LossPlan<'a>)> {
    let features = size("the number of target features", loss.loss.target_width(width as usize)?)?;
    let target = plan.sequence(&numbered("target", k), [steps, batch, features], 0, Role::Input)?;
    Ok((target, LossPlan::new(plan, loss, k, [steps, batch, width], weighted)?))
}

/// Name of a buffer of output `k`.
pub(super) fn numbered(name: &str, k: usize) -> String {
    if k == 0 { name.into() } else { format!("{name} {k}") }
}

/// A loss, planned for one part of time after another.
pub(super) struct LossPlan<'a> {
    loss: OutputLoss<'a>,
    /// Index of the output.
    output: usize,
    /// T or 1, B and features.
    sizes: [u32; 3],
    level: BufferId,
    row_weight: BufferId,
    weighted: bool,
    /// Loss of each row, [T, B] or [1, B].
    rows: BufferId,
}

impl<'a> LossPlan<'a> {
    /// The loss of predictions [T or 1, B, features]. If it is weighted, the host gives each row's factor (in
    /// [`LossPlan::row_weights`]) instead of the mean's 1 / terms.
    fn new(
        builder: &mut Builder,
        loss: &OutputLoss<'a>,
        output: usize,
        sizes: [u32; 3],
        weighted: bool,
    ) -> Result<LossPlan<'a>> {
        builder.section(format!("loss ({})", loss.loss.name()));
        let total = sizes[0] as u64 * sizes[1] as u64;
        let levels = loss.loss.levels();
        let rows = builder.buffer(numbered("loss by row", output), total, Role::Scratch)?;
        let level = builder.buffer(numbered("loss levels", output), levels.len() as u64, Role::Scratch)?;
        for (&value, at) in levels.iter().zip(0..) {
            builder.fill(level, at..at + 1, value);
        }
        let row_weight = match weighted {
            true => builder.buffer(numbered("row weights", output), total, Role::Input)?,
            false => builder.buffer(numbered("no row weights", output), 1, Role::Scratch)?,
        };
        Ok(LossPlan { loss: *loss, output, sizes, level, row_weight, weighted, rows })
    }

    /// The buffer of the rows' factors, [T, B] or [1, B], if the host gives them.
    pub fn row_weights(&self) -> Option<BufferId> {
        self.weighted.then_some(self.row_weight)
    }

    /// Plans the gradient of predictions whose first step is `first`.
    pub fn gradient(
        &self,
        builder: &mut Builder,
        prediction: &Sequence,
        target: &Sequence,
        first: u32,
    ) -> Result<Sequence> {
        let [steps, batch, width] = self.sizes;
        builder.section(format!("loss ({})", self.loss.loss.name()));
        let gradient = builder.sequence(
            &numbered("dprediction", self.output),
            [prediction.steps, batch, width],
            0,
            Role::Scratch,
        )?;
        let terms = self.loss.loss.terms(steps as u64 * batch as u64, width as u64);
        let scale = (self.loss.weight as f64 / terms) as f32;
        let forward = Direction::forward(prediction.steps);
        for part in forward.segments(0..prediction.steps, prediction.chunk_steps) {
            let (from, prediction_offset) = prediction.at(part.start);
            let (truth, target_offset) = target.at(part.start);
            let (to, gradient_offset) = gradient.at(part.start);
            let params = kernel::Loss {
                rows: part.len() as u32 * batch,
                width,
                targets: target.features,
                levels: self.loss.loss.levels().len() as u32,
                weighted: self.weighted as u32,
                prediction_offset,
                target_offset,
                gradient_offset,
                row_offset: (first + part.start) * batch,
                scale,
            };
            let buffers = [from, truth, self.level, self.row_weight, to, self.rows];
            builder.push(&kernel::LOSS, None, &LossConstants { kind: self.loss.loss.kernel() }, &params, &buffers);
        }
        Ok(gradient)
    }

    /// Plans the mean of all rows times the loss's weight, in one element.
    pub fn mean(&self, builder: &mut Builder) -> Result<BufferId> {
        builder.section(format!("loss ({})", self.loss.loss.name()));
        let total = self.sizes[0] * self.sizes[1];
        let out = builder.buffer(numbered("loss", self.output), 1, Role::Output)?;
        let partial = builder.buffer(numbered("loss partial", self.output), slices(total).1 as u64, Role::Scratch)?;
        let count = reduce(builder, self.rows, total, partial, 0, false);
        let whole = kernel::Reduce { n: count, offset: 0, per_group: count, out_offset: 0, square: 0 };
        builder.push(&kernel::REDUCE, None, &NoConstants, &whole, &[partial, out]);
        Ok(out)
    }
}

/// Elements of a slice and number of slices: at most 256 slices, which a second pass or one thread can sum.
fn slices(n: u32) -> (u32, u32) {
    let per_group = n.div_ceil(256).max(4096);
    (per_group, n.div_ceil(per_group).max(1))
}

/// Sums slices of a buffer into `to` from `at` on; returns the number of sums.
fn reduce(builder: &mut Builder, values: BufferId, n: u32, to: BufferId, at: u32, square: bool) -> u32 {
    let (per_group, count) = slices(n);
    let params = kernel::Reduce { n, offset: 0, per_group, out_offset: at, square: square as u32 };
    builder.push(&kernel::REDUCE, None, &NoConstants, &params, &[values, to]);
    count
}

/// Numbers that the host gives the optimiser at each step, for the parameters of a group.
#[derive(Clone, Debug)]
pub struct Hyper {
    buffer: BufferId,
    group: Group,
}

impl Hyper {
    /// Their buffer.
    pub fn buffer(&self) -> BufferId {
        self.buffer
    }

    /// The numbers for step `t`, counted from 1.
    pub(crate) fn numbers(&self, optimiser: &Optimiser, t: u64) -> [f32; HYPER] {
        self.group.optimiser(optimiser).hyper(t)
    }
}

/// Declares the numbers of each group, in the order of the groups' first weights; returns each weight's buffer of numbers, too.
fn declare_groups(builder: &mut Builder, groups: &[Group]) -> Result<(Vec<BufferId>, Vec<Hyper>)> {
    let (mut own, mut all): (Vec<BufferId>, Vec<Hyper>) = Default::default();
    for &group in groups {
        let known = all.iter().find(|hyper| hyper.group == group).map(|hyper| hyper.buffer);
        let buffer = match known {
            Some(buffer) => buffer,
            None => {
                let name = if all.is_empty() { "hyper".into() } else { format!("hyper {}", all.len()) };
                let buffer = builder.buffer(name, HYPER as u64, Role::Input)?;
                all.push(Hyper { buffer, group });
                buffer
            }
        };
        own.push(buffer);
    }
    Ok((own, all))
}

/// Plans penalties, clipping, the optimiser's step and bounds of norms for what is not frozen; returns the numbers that the host gives
/// at each step.
pub(super) fn update(builder: &mut Builder, update: &Update, weights: &[Trained]) -> Result<Vec<Hyper>> {
    let Update { optimiser, clip, regularisers, .. } = update;
    let (trained, groups): (Vec<&Trained>, Vec<Group>) =
        weights.iter().filter_map(|trained| Some((trained, update.group(&trained.tensor)?))).unzip();
    if !regularisers.is_empty() {
        builder.section("penalties");
        regularise(builder, regularisers, &trained, false);
    }
    builder.section(format!("optimiser ({})", optimiser.name()));
    let scale = builder.buffer("gradient scale", 2, Role::Scratch)?;
    let limit = if let Some(Clip::Value(limit)) = *clip { limit } else { f32::MAX };
    match *clip {
        Some(Clip::Norm(max_norm)) => {
            let count: u32 = trained.iter().map(|trained| slices(trained.len()).1).sum();
            let squares = builder.buffer("squared gradients", count as u64, Role::Scratch)?;
            let mut at = 0;
            for trained in &trained {
                at += reduce(builder, trained.gradient, trained.len(), squares, at, true);
            }
            builder.push(&kernel::CLIP, None, &NoConstants, &kernel::Clip { n: count, max_norm }, &[squares, scale]);
        }
        Some(Clip::Value(_)) | None => builder.fill(scale, 0..2, 1.0),
    }
    let (own, hypers) = declare_groups(builder, &groups)?;
    let without_mean = match optimiser.rule {
        Rule::RmsProp { .. } => Some(builder.buffer("no mean of gradients", 1, Role::Scratch)?),
        _ => None,
    };
    for ((trained, group), hyper) in trained.iter().zip(groups).zip(own) {
        let (n, l2) = (trained.len(), group.optimiser(optimiser).l2());
        let mut memory =
            |kind: &str| builder.buffer(format!("{kind} {}", trained.tensor.name), n as u64, Role::Optimiser);
        let (beta1, beta2) = match optimiser.rule {
            Rule::Sgd { momentum, nesterov } => {
                let velocity = memory("velocity")?;
                let params = kernel::Sgd { n, momentum, nesterov: nesterov as u32, limit, l2 };
                let buffers = [hyper, scale, trained.gradient, trained.weight, velocity];
                builder.push(&kernel::SGD, None, &NoConstants, &params, &buffers);
                continue;
            }
            Rule::Adam { beta1, beta2, .. } | Rule::Nadam { beta1, beta2, .. } => (beta1, beta2),
            Rule::RmsProp { decay, .. } => (0.0, decay),
        };
        let params = kernel::Adam {
            n,
            means: without_mean.is_none() as u32,
            beta1: beta1 as f32,
            take1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            take2: (1.0 - beta2) as f32,
            limit,
            l2,
        };
        let m = without_mean.map_or_else(|| memory("m"), Ok)?;
        let buffers = [hyper, scale, trained.gradient, trained.weight, m, memory("v")?];
        builder.push(&kernel::ADAM, None, &NoConstants, &params, &buffers);
    }
    regularise(builder, regularisers, &trained, true);
    Ok(hypers)
}

/// Adds the gradients of penalties; after the optimiser's step, bounds norms.
fn regularise(builder: &mut Builder, regularisers: &[Regulariser], weights: &[&Trained], after: bool) {
    for regulariser in regularisers {
        for trained in weights.iter().filter(|trained| regulariser.acts_on(&trained.tensor)) {
            match (regulariser.action, after) {
                (Action::Penalty { l1, l2 }, false) => {
                    let params = kernel::Penalty { n: trained.len(), l1: l1 as f32, l2: (2.0 * l2) as f32 };
                    builder.push(&kernel::PENALTY, None, &NoConstants, &params, &[trained.weight, trained.gradient]);
                }
                (Action::MaxNorm(limit), true) => {
                    let Some(Vectors { matrices, rows, length, row_stride, stride }) = trained.tensor.vectors() else {
                        continue;
                    };
                    let params = kernel::MaxNorm {
                        vectors: matrices * rows,
                        length,
                        inner: rows,
                        outer_stride: rows * length,
                        inner_stride: row_stride,
                        stride,
                        limit: limit as f32,
                    };
                    builder.push(&kernel::MAX_NORM, None, &NoConstants, &params, &[trained.weight]);
                }
                _ => {}
            }
        }
    }
}
