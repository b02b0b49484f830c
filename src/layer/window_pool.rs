//! Pooling of windows of time.

use super::operator::{Inputs, Operator, Output, Site, Time, Trace, Upstream};
use super::padding::{Padding, Windows};
use crate::activation::Activation;
use crate::error::{Error, Result};
use crate::kernel::{self, WindowPoolConstants, WindowPoolKind};
use crate::plan::Role;
use crate::schedule::{Builder, Sequence, size};
use serde::{Deserialize, Serialize};
use std::ops::{Range, RangeInclusive};

/// Pools windows of time: [B, T, F] to [B, T', F], with the largest step of each window or their mean, by feature. As
/// [`torch.nn.MaxPool1d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool1d.html) and
/// [`AvgPool1d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool1d.html), and [Keras's
/// MaxPooling1D](https://keras.io/api/layers/pooling_layers/max_pooling1d/) and
/// [AveragePooling1D](https://keras.io/api/layers/pooling_layers/average_pooling1d/). By default, windows follow one another
/// without overlap, and steps that fill no window are left out. [`Padding`] says how many there are. Where sequences have lengths,
/// the windows of each are those that it has alone.
///
/// ```
/// use ndarray::array;
/// use wgpu_lstm::{Device, Padding, Sequential, WindowPool};
/// let x = array![[[1.0], [5.0], [2.0], [4.0], [3.0]]]; // [B, T, 1]
/// let pooled = |pool| Sequential::new(1).add(pool).build(&Device::cpu(), 0)?.predict(x.view());
/// assert_eq!(pooled(WindowPool::max(2))?, array![[[5.0], [4.0]]].into_dyn());
/// assert_eq!(pooled(WindowPool::mean(2).stride(1))?, array![[[3.0], [3.5], [3.0], [3.5]]].into_dyn());
/// assert_eq!(pooled(WindowPool::mean(2).padding(Padding::Same))?, array![[[3.0], [3.0], [3.0]]].into_dyn());
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowPool {
    pub(crate) max: bool,
    pub(crate) size: usize,
    pub(crate) stride: usize,
    pub(crate) padding: Padding,
    pub(crate) count_padding: bool,
}

impl WindowPool {
    /// The largest of each `size` steps; the first of several that are equal has the gradient.
    pub fn max(size: usize) -> WindowPool {
        WindowPool { max: true, size, stride: size, padding: Padding::Valid, count_padding: false }
    }

    /// The mean of each `size` steps.
    pub fn mean(size: usize) -> WindowPool {
        WindowPool { max: false, ..WindowPool::max(size) }
    }

    /// Steps from one window to the next; by default the size of a window.
    pub fn stride(self, stride: usize) -> WindowPool {
        WindowPool { stride, ..self }
    }

    /// Padding at the ends, which is never the largest. None by default; [`Padding::Both`] at most half of a window.
    pub fn padding(self, padding: Padding) -> WindowPool {
        WindowPool { padding, ..self }
    }

    /// Counts padding as zeros in means, as PyTorch does unless `count_include_pad=False`. By default, means are those of the steps
    /// that there are, as Keras's.
    pub fn count_padding(self, count_padding: bool) -> WindowPool {
        WindowPool { count_padding, ..self }
    }

    /// Steps of a window.
    pub fn size(&self) -> usize {
        self.size
    }

    /// True for the largest, false for the mean.
    pub fn is_max(&self) -> bool {
        self.max
    }

    fn windows(&self) -> Windows {
        Windows { reach: self.size, stride: self.stride, padding: self.padding }
    }

    fn constants(&self, site: &Site) -> WindowPoolConstants {
        let kind = match (self.max, self.count_padding) {
            (true, _) => WindowPoolKind::Max,
            (false, false) => WindowPoolKind::Mean,
            (false, true) => WindowPoolKind::MeanWithPadding,
        };
        let ragged = site.ragged;
        WindowPoolConstants { kind, ragged, same: ragged && self.padding == Padding::Same }
    }
}

impl Operator for WindowPool {
    fn kind(&self) -> &'static str {
        "window_pool"
    }

    fn describe(&self) -> String {
        let kind = if self.max { "max" } else { "mean" };
        let counts = if self.count_padding { ", padding counts" } else { "" };
        format!("WindowPool({kind}, {}{}{counts})", self.size, self.windows().describe(self.size))
    }

    fn validate(&self, name: &str, inputs: &[usize]) -> Result<()> {
        self.windows().validate(name)?;
        match self.padding {
            Padding::Both(padding) if padding > self.size / 2 => {
                return Err(Error::Config(format!(
                    "{name}: the padding of {padding} steps is more than half of its windows of {} steps",
                    self.size
                )));
            }
            _ => {}
        }
        if self.count_padding && self.max {
            return Err(Error::Config(format!("{name}: only means can count padding; this pool takes the largest")));
        }
        size("the number of input features", inputs[0]).map(drop)
    }

    fn time(&self) -> Time {
        self.windows().time()
    }

    fn output_steps(&self, steps: usize) -> usize {
        self.windows().output_steps(steps)
    }

    fn takes_sequence(&self) -> bool {
        true
    }

    fn needs_whole_sequence(&self) -> Option<&'static str> {
        Some("pools windows of time")
    }

    fn output_activation(&self) -> Option<Activation> {
        None
    }

    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>> {
        Ok(vec![site.step(site.input())])
    }

    fn forward(&self, plan: &mut Builder, site: &Site, Inputs { x, .. }: Inputs) -> Result<Output> {
        let x = &x[0];
        plan.section(format!("{} forward", site.name));
        let steps = size(&format!("the number of windows of {}", site.name), self.output_steps(x.steps as usize))?;
        let shape = [steps, site.batch, x.features];
        let y = plan.sequence(&format!("{}.y", site.name), shape, 0, Role::Scratch)?;
        let at = match self.max {
            true => plan.sequence(&format!("{}.at", site.name), shape, 0, Role::Scratch)?,
            false => Sequence { chunks: vec![plan.unused()], chunk_steps: steps, ..y.clone() },
        };
        let words = plan.words(site.batch)?;
        let constants = self.constants(site);
        for to in 0..y.chunks.len() {
            let range = y.chunk_range(to);
            let ((into, y_offset), (times, _)) = (y.at(range.start), at.at(range.start));
            // Each row may have padding of its own, of less than a window.
            let [first, last] = [range.start, range.end - 1].map(|s| s.saturating_mul(self.stride as u32));
            let near = near(x, first.saturating_sub(self.size as u32)..last.saturating_add(self.size as u32));
            for (index, from) in near.enumerate() {
                let source = x.chunk_range(from);
                let (of, x_offset) = x.at(source.start);
                let params = kernel::WindowPoolForward {
                    steps: source.len() as u32,
                    batch: site.batch,
                    features: x.features,
                    x_offset,
                    time: source.start,
                    out_steps: range.len() as u32,
                    out_time: range.start,
                    y_offset,
                    total_steps: x.steps,
                    size: self.size as u32,
                    stride: self.stride as u32,
                    left: self.windows().left(x.steps),
                    accumulate: (index > 0) as u32,
                };
                plan.push(&kernel::WINDOW_POOL_FORWARD, None, &constants, &params, &[words, of, into, times]);
            }
        }
        Ok(Output::new(y, PooledWindows { pool: *self, at, steps: x.steps }))
    }
}

/// Chunks of a sequence that hold some of these times; at least one.
fn near(x: &Sequence, times: Range<u32>) -> RangeInclusive<usize> {
    let chunk = |time: u32| (time / x.chunk_steps) as usize;
    let most = x.chunks.len() - 1;
    chunk(times.start).min(most)..=chunk(times.end).min(most)
}

struct PooledWindows {
    pool: WindowPool,
    /// Times of the largest, [T', B, F].
    at: Sequence,
    /// T of the input.
    steps: u32,
}

impl Trace for PooledWindows {
    fn backward(&self, plan: &mut Builder, site: &Site, Upstream { dy, .. }: Upstream) -> Result<Vec<Sequence>> {
        let PooledWindows { pool, ref at, steps } = *self;
        plan.section(format!("{} backward", site.name));
        let dx = plan.sequence(&format!("{}.dx", site.name), [steps, site.batch, dy.features], 0, Role::Scratch)?;
        let words = plan.words(site.batch)?;
        let constants = pool.constants(site);
        let [size, stride] = [pool.size, pool.stride].map(|n| n as u32);
        for to in 0..dx.chunks.len() {
            let range = dx.chunk_range(to);
            let (into, dx_offset) = dx.at(range.start);
            let near = near(dy, range.start.saturating_sub(size) / stride..range.end.saturating_add(size) / stride);
            for (index, from) in near.enumerate() {
                let source = dy.chunk_range(from);
                let ((of, dy_offset), (times, _)) = (dy.at(source.start), at.at(source.start));
                let params = kernel::WindowPoolBackward {
                    steps: range.len() as u32,
                    batch: site.batch,
                    features: dy.features,
                    dx_offset,
                    time: range.start,
                    out_steps: source.len() as u32,
                    out_time: source.start,
                    dy_offset,
                    total_steps: steps,
                    size,
                    stride,
                    left: pool.windows().left(steps),
                    accumulate: (index > 0) as u32,
                };
                plan.push(&kernel::WINDOW_POOL_BACKWARD, None, &constants, &params, &[words, of, times, into]);
            }
        }
        Ok(vec![dx])
    }
}
