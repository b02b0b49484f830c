//! Batch normalisation of features.

use super::operator::{Inputs, Operator, Output, Site, Trace, Upstream};
use super::tensor::{DeviceTensor, Initial};
use crate::error::{Error, Result};
use crate::kernel::{self, BatchMomentsConstants, BatchNormConstants, NoConstants};
use crate::plan::{BufferId, Role};
use crate::schedule::{Builder, Sequence, size};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Rows that one dispatch sums: some drivers end a shader's loops after 65,535 iterations, and 16 threads share the rows.
const MOST_ROWS: u32 = 1 << 19;

/// Normalises each feature to mean 0 and variance 1, then scales and shifts it by learned numbers (Ioffe and Szegedy 2015): in
/// training by the moments of the batch, over all steps of all its sequences, else by running statistics. As
/// [`torch.nn.BatchNorm1d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html) and [Keras's
/// BatchNormalization](https://keras.io/api/layers/normalization_layers/batch_normalization/). Takes sequences [B, T, F] and vectors
/// [B, F].
///
/// Parameters, each `[F]`: `weight` (1 at first) and `bias` (0 at first), which are trained; `running_mean` (0 at first) and
/// `running_var` (1 at first), which each training step moves towards the moments of its batch by a share, the momentum, and which
/// nothing else changes. Where sequences have lengths, steps past their ends do not count. A batch of a single step has the variance
/// 0, which makes the output `bias`.
///
/// ```
/// use ndarray::Array3;
/// use wgpu_lstm::{Activation, BatchNorm, Conv1d, Dense, Device, Lstm, Sequential};
/// let layers = Sequential::new(3).add(Conv1d::new(8, 5)).add(BatchNorm::new()).add(Activation::Relu).add(Lstm::new(16));
/// let model = layers.add(Dense::new(2)).build(&Device::cpu(), 0)?;
/// assert_eq!(model.predict(Array3::ones((4, 20, 3)).view())?.shape(), [4, 2]);
/// assert_eq!((BatchNorm::new().eps(), BatchNorm::new().share()), (1e-5, 0.1));
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchNorm {
    pub(crate) epsilon: f32,
    pub(crate) momentum: f32,
    pub(crate) unbiased: bool,
}

impl Default for BatchNorm {
    fn default() -> Self {
        BatchNorm { epsilon: 1e-5, momentum: 0.1, unbiased: true }
    }
}

impl BatchNorm {
    /// As PyTorch: ε = 1e-5, momentum 0.1, and a running variance of unbiased variances (of N steps, multiplied by N / (N − 1)).
    pub fn new() -> BatchNorm {
        BatchNorm::default()
    }

    /// As Keras: ε = 1e-3, a momentum of 0.99 in Keras's sense (0.01 here), and a running variance of biased variances.
    ///
    /// ```
    /// use wgpu_lstm::BatchNorm;
    /// assert_eq!(BatchNorm::keras(), BatchNorm::new().epsilon(1e-3).momentum(0.01).unbiased(false));
    /// ```
    pub fn keras() -> BatchNorm {
        BatchNorm { epsilon: 1e-3, momentum: 0.01, unbiased: false }
    }

    /// Sets ε, which is added to the variance; above 0.
    pub fn epsilon(self, epsilon: f32) -> BatchNorm {
        BatchNorm { epsilon, ..self }
    }

    /// Sets the momentum in PyTorch's sense, the share of a batch's moments in the running statistics, from 0 to 1; Keras's is 1
    /// minus this.
    pub fn momentum(self, momentum: f32) -> BatchNorm {
        BatchNorm { momentum, ..self }
    }

    /// Gives the running variance unbiased variances, as PyTorch does, or biased ones, as Keras does.
    pub fn unbiased(self, unbiased: bool) -> BatchNorm {
        BatchNorm { unbiased, ..self }
    }

    /// ε, which is added to the variance.
    pub fn eps(&self) -> f32 {
        self.epsilon
    }

    /// The share of a batch's moments in the running statistics.
    pub fn share(&self) -> f32 {
        self.momentum
    }
}

impl Operator for BatchNorm {
    fn kind(&self) -> &'static str {
        "batch_norm"
    }

    fn describe(&self) -> String {
        format!("BatchNorm({:e}, {})", self.epsilon, self.momentum)
    }

    fn validate(&self, name: &str, inputs: &[usize]) -> Result<()> {
        if !(self.epsilon > 0.0 && self.epsilon.is_finite()) {
            return Err(Error::Config(format!("{name}: epsilon is {}; it must be finite and above 0", self.epsilon)));
        }
        if !(0.0..=1.0).contains(&self.momentum) {
            return Err(Error::Config(format!("{name}: the momentum is {}; it must be from 0 to 1", self.momentum)));
        }
        size("the number of input features", inputs[0]).map(drop)
    }

    fn trains_on_whole_sequence(&self) -> Option<&'static str> {
        Some("normalises by the moments of a batch")
    }

    /// Weight, bias, running mean and running variance, `[input]` each.
    fn parameters(&self, name: &str, inputs: &[usize]) -> Vec<DeviceTensor> {
        let tensor = |kind: &str, first, trained| DeviceTensor {
            trained,
            ..DeviceTensor::plain(format!("{name}.{kind}"), vec![inputs[0]], Initial::Constant(first))
        };
        vec![
            tensor("weight", 1.0, true),
            tensor("bias", 0.0, true),
            tensor("running_mean", 0.0, false),
            tensor("running_var", 1.0, false),
        ]
    }

    fn depth(&self) -> usize {
        1
    }

    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>> {
        Ok(vec![site.step(site.input())])
    }

    fn forward(&self, plan: &mut Builder, site: &Site, Inputs { x, weights, .. }: Inputs) -> Result<Output> {
        let (x, features) = (&x[0], x[0].features);
        plan.section(format!("{} forward", site.name));
        let y = plan.sequence(&format!("{}.y", site.name), [x.steps, site.batch, features], 0, Role::Scratch)?;
        // The number of steps, means, variances
        let moments = plan.buffer(format!("{}.moments", site.name), 1 + 2 * features as u64, Role::Scratch)?;
        if site.train {
            self.moments(plan, site, x, moments)?;
        } else {
            plan.copy_run(features, (weights[2], 0), (moments, 1));
            plan.copy_run(features, (weights[3], 0), (moments, 1 + features));
        }
        for part in x.parts(&y) {
            let ((from, x_offset), (to, y_offset)) = (x.at(part.start), y.at(part.start));
            let rows = part.len() as u32 * site.batch;
            let params = kernel::BatchNormForward { rows, features, x_offset, y_offset, epsilon: self.epsilon };
            let buffers = [weights[0], weights[1], moments, from, to];
            plan.push(&kernel::BATCH_NORM_FORWARD, None, &NoConstants, &params, &buffers);
        }
        Ok(Output::new(y, BatchNormalised { layer: *self, x: x.clone(), moments }))
    }
}

impl BatchNorm {
    /// Computes mean and variance of a batch, in two passes: the difference of two large sums would have few digits.
    fn moments(&self, plan: &mut Builder, site: &Site, x: &Sequence, moments: BufferId) -> Result<()> {
        let words = plan.words(site.batch)?;
        for variance in [false, true] {
            for (index, range) in dispatches(x, site.batch).into_iter().enumerate() {
                let (from, x_offset) = x.at(range.start);
                let params = kernel::BatchMoments {
                    steps: range.len() as u32,
                    batch: site.batch,
                    features: x.features,
                    x_offset,
                    time: range.start,
                    total_steps: x.steps,
                    accumulate: (index > 0) as u32,
                };
                let constants = BatchMomentsConstants { variance, ragged: site.ragged };
                plan.push(&kernel::BATCH_MOMENTS, None, &constants, &params, &[words, from, moments]);
            }
        }
        Ok(())
    }
}

/// The steps of each dispatch over a sequence.
fn dispatches(x: &Sequence, batch: u32) -> Vec<Range<u32>> {
    let most = (MOST_ROWS / batch).max(1);
    let cut = |range: Range<u32>| {
        let end = range.end;
        range.step_by(most as usize).map(move |first| first..(first + most).min(end))
    };
    (0..x.chunks.len()).flat_map(|chunk| cut(x.chunk_range(chunk))).collect()
}

struct BatchNormalised {
    layer: BatchNorm,
    /// The layer's input.
    x: Sequence,
    moments: BufferId,
}

impl Trace for BatchNormalised {
    /// Computes dx, and the gradients of weight and bias; last, moves the running statistics.
    fn backward(&self, plan: &mut Builder, site: &Site, upstream: Upstream) -> Result<Vec<Sequence>> {
        let Upstream { dy, weights, gradients, wants_dx, .. } = upstream;
        let BatchNormalised { layer: BatchNorm { epsilon, momentum, unbiased }, ref x, moments } = *self;
        let (batch, features) = (site.batch, x.features);
        plan.section(format!("{} backward", site.name));
        // Gradients of the weight and the bias by this use of them alone, as dx needs them.
        let sums = plan.buffer(format!("{}.sums", site.name), 2 * features as u64, Role::Scratch)?;
        for (index, range) in dispatches(x, batch).into_iter().enumerate() {
            let ((of, x_offset), (from, dy_offset)) = (x.at(range.start), dy.at(range.start));
            let (rows, accumulate) = (range.len() as u32 * batch, (index > 0) as u32);
            let params = kernel::BatchNormSums { rows, features, x_offset, dy_offset, epsilon, accumulate };
            plan.push(&kernel::BATCH_NORM_SUMS, None, &NoConstants, &params, &[moments, of, from, sums]);
        }
        for (k, &gradient) in gradients[..2].iter().enumerate() {
            let line = [0, 0, 0, 1];
            let adds = plan.adds();
            plan.copy([1, 1, 1, features], (sums, k as u32 * features), line, (gradient, 0), line, adds);
        }
        let mut all = Vec::new();
        if wants_dx {
            let words = plan.words(batch)?;
            let constants = BatchNormConstants { ragged: site.ragged };
            let dx = plan.sequence(&format!("{}.dx", site.name), [x.steps, batch, features], 0, Role::Scratch)?;
            for range in x.parts(&dx) {
                let ((of, x_offset), (from, dy_offset), (to, dx_offset)) =
                    (x.at(range.start), dy.at(range.start), dx.at(range.start));
                let (steps, time) = (range.len() as u32, range.start);
                let params =
                    kernel::BatchNormBackward { steps, batch, features, x_offset, dy_offset, dx_offset, time, epsilon };
                let buffers = [words, weights[0], moments, sums, of, from, to];
                plan.push(&kernel::BATCH_NORM_BACKWARD, None, &constants, &params, &buffers);
            }
            all.push(dx);
        }
        let params = kernel::BatchNormUpdate { features, momentum, unbiased: unbiased as u32 };
        plan.push(&kernel::BATCH_NORM_UPDATE, None, &NoConstants, &params, &[moments, weights[2], weights[3]]);
        Ok(all)
    }
}
