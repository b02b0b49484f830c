//! Attention pooling over time: from a sequence to one vector.

use super::attention::sum_rows;
use super::operator::{Inputs, Operator, Output, Site, Time, Trace, Upstream};
use super::tensor::{DeviceTensor, Initial};
use crate::activation::Activation;
use crate::error::Result;
use crate::schedule::{Builder, Scores, Sequence, attention, size};
use serde::{Deserialize, Serialize};

/// Pools a sequence [B, T, F] to one vector [B, F]: its steps weighted by the softmax over time of their scores w·x, with a learnt w of F
/// features, or w·tanh(x) (Zhou et al. 2016, *Attention-Based Bidirectional LSTM Networks for Relation Classification*). Steps past the
/// end of a sequence have weight 0; an empty sequence gives 0. The weights are a further output, "weights", [B, T].
///
/// ```
/// use wgpu_lstm::{AttentionPool, Dense, Lstm, Sequential};
/// let model = Sequential::new(3)
///     .add(Lstm::new(16).return_sequences(true))
///     .add(AttentionPool::new().tanh(true))
///     .add(Dense::new(2));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttentionPool {
    pub(crate) tanh: bool,
}

impl AttentionPool {
    /// Scores w·x; w is at first uniform in ± 1/√F, as PyTorch's linear layer.
    pub fn new() -> AttentionPool {
        AttentionPool { tanh: false }
    }

    /// Scores w·tanh(x), or w·x (the default).
    pub fn tanh(self, tanh: bool) -> AttentionPool {
        AttentionPool { tanh }
    }

    /// True if scores are of tanh(x).
    pub fn has_tanh(&self) -> bool {
        self.tanh
    }
}

impl Operator for AttentionPool {
    fn kind(&self) -> &'static str {
        "attention_pool"
    }

    fn describe(&self) -> String {
        format!("AttentionPool({})", if self.tanh { "tanh" } else { "linear" })
    }

    fn validate(&self, _: &str, inputs: &[usize]) -> Result<()> {
        size("the number of input features", inputs[0]).map(drop)
    }

    fn time(&self) -> Time {
        Time::Ended
    }

    fn takes_sequence(&self) -> bool {
        true
    }

    fn beside(&self) -> &'static [&'static str] {
        &["weights"]
    }

    fn needs_whole_sequence(&self) -> Option<&'static str> {
        Some("pools over time")
    }

    fn output_activation(&self) -> Option<Activation> {
        None
    }

    /// Weight `[F]`.
    fn parameters(&self, name: &str, inputs: &[usize]) -> Vec<DeviceTensor> {
        let initial = Initial::Uniform(1.0 / (inputs[0] as f64).sqrt());
        vec![DeviceTensor::plain(format!("{name}.weight"), vec![inputs[0]], initial)]
    }

    fn depth(&self) -> usize {
        1
    }

    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>> {
        Ok(vec![site.step(site.input())])
    }

    /// Attention of one query a row: w, or with tanh a query of 0 and additive scores.
    fn forward(&self, plan: &mut Builder, site: &Site, Inputs { x, weights, .. }: Inputs) -> Result<Output> {
        let (x, weight) = (&x[0], weights[0]);
        plan.section(format!("{} forward", site.name));
        let query = match self.tanh {
            true => plan.constant(&format!("{}.query", site.name), x.features, 0.0)?,
            false => weight,
        };
        let key_words = if site.ragged { Some(plan.words(site.batch)?) } else { None };
        let operands = attention::Attention {
            name: site.name.clone(),
            batch: site.batch,
            // The same for all rows.
            q: Sequence {
                chunks: vec![query],
                steps: 1,
                chunk_steps: 1,
                lead: 0,
                step: x.features,
                row: 0,
                features: x.features,
            },
            k: x.clone(),
            v: x.clone(),
            scores: if self.tanh { Scores::Additive { scale: weight } } else { Scores::Dot { scale: 1.0 } },
            causal: false,
            query_words: None,
            key_words,
        };
        let (y, weights) = operands.forward(plan)?;
        let trace = Pooled { tanh: self.tanh, operands, weights: weights.clone() };
        Ok(Output::new(y, trace).beside(weights))
    }
}

struct Pooled {
    tanh: bool,
    operands: attention::Attention,
    weights: Sequence,
}

impl Trace for Pooled {
    fn backward(
        &self,
        plan: &mut Builder,
        site: &Site,
        Upstream { dy, gradients, .. }: Upstream,
    ) -> Result<Vec<Sequence>> {
        plan.section(format!("{} backward", site.name));
        let made = self.operands.backward(plan, &self.weights, dy, true, self.tanh)?;
        sum_rows(plan, made.scale_parts.as_ref().unwrap_or(&made.dq), site.batch, gradients[0]);
        Ok(vec![made.dv])
    }
}
