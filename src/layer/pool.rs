//! Pooling over time: from a sequence to one vector.

use super::operator::{Inputs, Operator, Output, Site, Time, Trace, Upstream};
use crate::activation::Activation;
use crate::error::Result;
use crate::kernel::{self, PoolConstants, PoolKind};
use crate::plan::{BufferId, Role};
use crate::schedule::{Builder, Sequence};
use serde::{Deserialize, Serialize};

/// Pools a sequence [B, T, F] to one vector [B, F], over the steps before each sequence's end unless said otherwise.
///
/// ```
/// use wgpu_lstm::{Dense, Lstm, Pool, Sequential};
/// let model = Sequential::new(3).add(Lstm::new(16).return_sequences(true)).add(Pool::Max).add(Dense::new(2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Pool {
    /// The last step.
    Last,
    /// The mean over time, as
    /// [Keras's GlobalAveragePooling1D](https://keras.io/api/layers/pooling_layers/global_average_pooling1d/) with a mask.
    Mean,
    /// The largest over time, as
    /// [Keras's GlobalMaxPooling1D](https://keras.io/api/layers/pooling_layers/global_max_pooling1d/) without a mask.
    Max,
    /// The largest over all T steps of the batch, including those past the end of a sequence, as Keras's GlobalMaxPooling1D, which
    /// ignores masks. Past the end, it reads the outputs that the layers before it have for padding
    /// ([`Lstm::repeat_output`](crate::Lstm::repeat_output)).
    MaxWithPadding,
    /// The sum over time; `x.sum(dim=1)` in PyTorch.
    Sum,
}

impl Pool {
    /// The kernel's constant, and true if lengths of sequences count.
    pub(crate) fn kernel(self) -> (PoolKind, bool) {
        match self {
            Pool::Last => (PoolKind::Last, true),
            Pool::Mean => (PoolKind::Mean, true),
            Pool::Max => (PoolKind::Max, true),
            Pool::MaxWithPadding => (PoolKind::Max, false),
            Pool::Sum => (PoolKind::Sum, true),
        }
    }

    /// The name, for summaries.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Pool::Last => "last",
            Pool::Mean => "mean",
            Pool::Max => "max",
            Pool::MaxWithPadding => "max with padding",
            Pool::Sum => "sum",
        }
    }
}

impl Operator for Pool {
    fn kind(&self) -> &'static str {
        "pool"
    }

    fn describe(&self) -> String {
        format!("Pool({})", self.name())
    }

    fn validate(&self, _: &str, _: &[usize]) -> Result<()> {
        Ok(())
    }

    fn time(&self) -> Time {
        Time::Ended
    }

    fn takes_sequence(&self) -> bool {
        true
    }

    fn needs_whole_sequence(&self) -> Option<&'static str> {
        Some("pools over time")
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
        let (kind, by_length) = self.kernel();
        let ragged = site.ragged && by_length;
        let key_and_lengths = plan.words(site.batch)?;
        let y = plan.sequence(&format!("{}.y", site.name), [1, site.batch, x.features], 0, Role::Scratch)?;
        let at = plan.buffer(format!("{}.at", site.name), site.batch as u64 * x.features as u64, Role::Scratch)?;
        for chunk in 0..x.chunks.len() {
            let range = x.chunk_range(chunk);
            let (from, x_offset) = x.at(range.start);
            let params = kernel::PoolForward {
                steps: range.len() as u32,
                batch: site.batch,
                features: x.features,
                x_offset,
                x_step: x.step,
                x_row: x.row,
                time: range.start,
                total_steps: x.steps,
            };
            let constants = PoolConstants { kind, ragged };
            plan.push(&kernel::POOL_FORWARD, None, &constants, &params, &[key_and_lengths, from, y.at(0).0, at]);
        }
        Ok(Output::new(y, Pooled { pool: *self, x: x.clone(), at, ragged }))
    }
}

struct Pooled {
    pool: Pool,
    x: Sequence,
    /// The pooled times, [B, F].
    at: BufferId,
    ragged: bool,
}

impl Trace for Pooled {
    fn backward(&self, plan: &mut Builder, site: &Site, Upstream { dy, .. }: Upstream) -> Result<Vec<Sequence>> {
        plan.section(format!("{} backward", site.name));
        let key_and_lengths = plan.words(site.batch)?;
        let x = &self.x;
        let dx = plan.sequence(&format!("{}.dx", site.name), [x.steps, site.batch, x.features], 0, Role::Scratch)?;
        let (from, dy_offset) = dy.at(0);
        for chunk in 0..dx.chunks.len() {
            let range = dx.chunk_range(chunk);
            let (to, dx_offset) = dx.at(range.start);
            let params = kernel::PoolBackward {
                steps: range.len() as u32,
                batch: site.batch,
                features: x.features,
                dx_offset,
                dy_offset,
                time: range.start,
                total_steps: x.steps,
            };
            let constants = PoolConstants { kind: self.pool.kernel().0, ragged: self.ragged };
            plan.push(&kernel::POOL_BACKWARD, None, &constants, &params, &[key_and_lengths, from, self.at, to]);
        }
        Ok(vec![dx])
    }
}
