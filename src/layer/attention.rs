//! Attention: for each query, a sum of values weighted by the similarity of their keys.

use super::operator::{Inputs, Operator, Output, Site, Time, Trace, Upstream};
use super::tensor::{DeviceTensor, Initial};
use crate::error::{Error, Result};
use crate::kernel::{self, ElementwiseKind, NoConstants};
use crate::plan::{BufferId, Role};
use crate::schedule::{Builder, Scores, Sequence, attention, size};
use serde::{Deserialize, Serialize};

/// Similarity of a query and a key, both of F features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AttentionScore {
    /// q·k (Luong et al. 2015).
    Dot,
    /// q·k / √F (Vaswani et al. 2017).
    Scaled,
    /// Σ tanh(q + k) (Bahdanau et al. 2015).
    Additive,
}

/// Attention of queries [B, Tq, F] to values [B, Tk, V] by their keys [B, Tk, F]: for each query, the softmax over the keys of its scores,
/// and the sum of the values weighted by it, [B, Tq, V]. Inputs, in Keras's order: query and value, which is the key, too (F = V);
/// [`Attention::keys`] adds the key as a third. A query may be a vector [B, F], and the output is then a vector. The same sequence may
/// be both (self-attention).
///
/// Keys past the end of their sequence have weight 0. So have all keys of a query past the end of its sequence, or without a key,
/// whose output is 0. The lengths of value sequences count for keys.
///
/// As [Keras's Attention](https://keras.io/api/layers/attention_layers/attention/) and
/// [AdditiveAttention](https://keras.io/api/layers/attention_layers/additive_attention/), without dropout. The weights are a further
/// output, "weights", [B, Tq, Tk]. A layer of networks that branch.
///
/// ```
/// use wgpu_lstm::{Attention, AttentionScore};
/// let luong = Attention::new();
/// let bahdanau = Attention::additive();
/// assert_eq!((luong.score(), bahdanau.score()), (AttentionScore::Dot, AttentionScore::Additive));
/// let decoder = Attention::scaled().causal(true).keys(true); // inputs: query, value, key
/// assert!(decoder.is_causal());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attention {
    pub(crate) score: AttentionScore,
    pub(crate) learnt_scale: bool,
    pub(crate) causal: bool,
    pub(crate) keys: bool,
}

impl Attention {
    /// Scores q·k, without a scale; Keras's `Attention()`.
    pub fn new() -> Attention {
        Attention { score: AttentionScore::Dot, learnt_scale: false, causal: false, keys: false }
    }

    /// Scores q·k / √F, as
    /// [`scaled_dot_product_attention`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html)
    /// of PyTorch.
    pub fn scaled() -> Attention {
        Attention { score: AttentionScore::Scaled, ..Attention::new() }
    }

    /// Scores Σ s·tanh(q + k) with a learnt scale s of F features; Keras's `AdditiveAttention()`.
    pub fn additive() -> Attention {
        Attention { score: AttentionScore::Additive, learnt_scale: true, ..Attention::new() }
    }

    /// Learns a scale (Keras's `use_scale`): a factor of dot products, 1 at first, or one for each feature of additive scores, at first
    /// Glorot uniform. By default additive scores alone have one.
    pub fn learnt_scale(self, learnt_scale: bool) -> Attention {
        Attention { learnt_scale, ..self }
    }

    /// Attends to keys up to the query's own step only (Keras's `use_causal_mask`). Off by default.
    pub fn causal(self, causal: bool) -> Attention {
        Attention { causal, ..self }
    }

    /// Takes keys as a third input, with the steps of the values. Off by default: values are keys.
    pub fn keys(self, keys: bool) -> Attention {
        Attention { keys, ..self }
    }

    /// The similarity of a query and a key.
    pub fn score(&self) -> AttentionScore {
        self.score
    }

    /// True if it learns a scale.
    pub fn has_learnt_scale(&self) -> bool {
        self.learnt_scale
    }

    /// True if a query attends to keys up to its own step only.
    pub fn is_causal(&self) -> bool {
        self.causal
    }

    /// True if keys are a third input.
    pub fn has_keys(&self) -> bool {
        self.keys
    }
}

impl Default for Attention {
    fn default() -> Attention {
        Attention::new()
    }
}

impl Operator for Attention {
    fn kind(&self) -> &'static str {
        "attention"
    }

    fn describe(&self) -> String {
        let score = match self.score {
            AttentionScore::Dot => "dot",
            AttentionScore::Scaled => "scaled",
            AttentionScore::Additive => "additive",
        };
        let learnt = if self.learnt_scale { ", learnt scale" } else { "" };
        let causal = if self.causal { ", causal" } else { "" };
        format!("Attention({score}{learnt}{causal})")
    }

    fn validate(&self, name: &str, inputs: &[usize]) -> Result<()> {
        inputs.iter().try_for_each(|&input| size("the number of input features", input).map(drop))?;
        let (query, key) = (inputs[0], inputs[inputs.len() - 1]);
        if query == key {
            return Ok(());
        }
        let advice = if self.keys { "project one of them" } else { "project one of them, or give keys of their own" };
        Err(Error::Config(format!(
            "{name} compares queries of {query} features with keys of {key}; they must have the same: {advice}"
        )))
    }

    fn output(&self, inputs: &[usize]) -> usize {
        inputs.get(1).copied().unwrap_or(inputs[0])
    }

    fn inputs(&self) -> usize {
        2 + self.keys as usize
    }

    fn time(&self) -> Time {
        Time::Of(0)
    }

    fn beside(&self) -> &'static [&'static str] {
        &["weights"]
    }

    fn needs_whole_sequence(&self) -> Option<&'static str> {
        Some("attends to all steps")
    }

    /// The scale: `[1]` for dot products, `[F]` for additive scores; empty if none is learnt.
    fn parameters(&self, name: &str, inputs: &[usize]) -> Vec<DeviceTensor> {
        let (scale, features) = (format!("{name}.scale"), inputs[0]);
        vec![match self.score {
            _ if !self.learnt_scale => DeviceTensor::new(scale, Vec::new()),
            AttentionScore::Additive => {
                let initial = Initial::Glorot { fan_in: features, fan_out: features };
                DeviceTensor::plain(scale, vec![features], initial)
            }
            _ => DeviceTensor::plain(scale, vec![1], Initial::Constant(1.0)),
        }]
    }

    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>> {
        let (batch, keys) = (site.batch, site.input_steps[1]);
        let text = format!("{} weights [B, keys] = [{batch}, {keys}]", site.name);
        let widest = site.inputs.iter().copied().max().unwrap_or(0);
        Ok(vec![site.step(widest), (text, attention::Attention::step(batch, keys))])
    }

    fn forward(&self, plan: &mut Builder, site: &Site, Inputs { x, weights, .. }: Inputs) -> Result<Output> {
        let (value, key) = (&x[1], &x[x.len() - 1]);
        if key.steps != value.steps {
            return Err(Error::Config(format!(
                "{} takes {} keys for {} values; each value must have a key",
                site.name, key.steps, value.steps
            )));
        }
        plan.section(format!("{} forward", site.name));
        let (features, scale) = (x[0].features, weights[0]);
        let scores = match self.score {
            AttentionScore::Dot => Scores::Dot { scale: 1.0 },
            AttentionScore::Scaled => Scores::Dot { scale: 1.0 / (features as f32).sqrt() },
            AttentionScore::Additive if self.learnt_scale => Scores::Additive { scale },
            AttentionScore::Additive => {
                Scores::Additive { scale: plan.constant(&format!("{}.ones", site.name), features, 1.0)? }
            }
        };
        let q = match self.scales_queries() {
            true => self.scaled_queries(plan, site, &x[0], scale)?,
            false => x[0].clone(),
        };
        let mut lengths = |k: usize| match site.axes[k].filter(|_| site.ragged) {
            Some(axis) => plan.words_of(axis, site.batch).map(Some),
            None => Ok(None),
        };
        let (query_words, key_words) = (lengths(0)?, lengths(1)?);
        let operands = attention::Attention {
            name: site.name.clone(),
            batch: site.batch,
            q,
            k: key.clone(),
            v: value.clone(),
            scores,
            causal: self.causal,
            query_words,
            key_words,
        };
        let (y, weights) = operands.forward(plan)?;
        let trace = Attended { layer: *self, query: x[0].clone(), operands, weights: weights.clone() };
        Ok(Output::new(y, trace).beside(weights))
    }
}

impl Attention {
    /// True if queries are multiplied by a learnt number, which is less work than to multiply the scores.
    fn scales_queries(&self) -> bool {
        self.learnt_scale && self.score != AttentionScore::Additive
    }

    /// Queries times the learnt number.
    fn scaled_queries(&self, plan: &mut Builder, site: &Site, q: &Sequence, scale: BufferId) -> Result<Sequence> {
        let name = format!("{}.scaled queries", site.name);
        let scaled = plan.sequence(&name, [q.steps, site.batch, q.features], 0, Role::Scratch)?;
        plan.copy_sequence(q, &scaled, site.batch, false);
        plan.multiply_by((scale, 0), &scaled, site.batch);
        Ok(scaled)
    }
}

struct Attended {
    layer: Attention,
    query: Sequence,
    operands: attention::Attention,
    weights: Sequence,
}

impl Trace for Attended {
    fn backward(
        &self,
        plan: &mut Builder,
        site: &Site,
        Upstream { dy, weights, gradients, wants_dx, .. }: Upstream,
    ) -> Result<Vec<Sequence>> {
        let Attention { learnt_scale, keys, .. } = self.layer;
        if !wants_dx && !learnt_scale {
            return Ok(Vec::new());
        }
        plan.section(format!("{} backward", site.name));
        let by_feature = learnt_scale && !self.layer.scales_queries();
        let made = self.operands.backward(plan, &self.weights, dy, !keys, by_feature)?;
        if let Some(parts) = &made.scale_parts {
            sum_rows(plan, parts, site.batch, gradients[0]);
        }
        if self.layer.scales_queries() {
            self.scale_gradient(plan, site, &made.dq, gradients[0])?;
            plan.multiply_by((weights[0], 0), &made.dq, site.batch);
        }
        let attention::AttentionGradients { dq, dk, dv, .. } = made;
        Ok(if keys { vec![dq, dv, dk] } else { vec![dq, dv] })
    }
}

/// Sums a sequence [T, B, F] over steps and rows, into a gradient \[F\].
pub(super) fn sum_rows(plan: &mut Builder, parts: &Sequence, batch: u32, gradient: BufferId) {
    for chunk in 0..parts.chunks.len() {
        let part = parts.chunk_range(chunk);
        let (from, a_offset) = parts.at(part.start);
        let params = kernel::ColumnSum {
            rows: part.len() as u32 * batch,
            columns: parts.features,
            a_offset,
            out_offset: 0,
            copies: 1,
            accumulate: (chunk > 0 || plan.adds()) as u32,
        };
        plan.push(&kernel::COLUMN_SUM, None, &NoConstants, &params, &[from, gradient]);
    }
}

impl Attended {
    /// Computes the gradient of the learnt number, Σ dq·q over all elements, from the gradient of the scaled queries.
    fn scale_gradient(&self, plan: &mut Builder, site: &Site, dq: &Sequence, gradient: BufferId) -> Result<()> {
        const TERMS: u32 = 4096; // of a workgroup
        let name = format!("{}.dscale terms", site.name);
        let terms = plan.sequence(&name, [dq.steps, site.batch, dq.features], 0, Role::Scratch)?;
        plan.copy_sequence(dq, &terms, site.batch, false);
        plan.combine(ElementwiseKind::Product, &self.query, &terms, site.batch);
        let elements = |part: &std::ops::Range<u32>| part.len() as u32 * terms.step;
        let parts: Vec<_> = (0..terms.chunks.len()).map(|chunk| terms.chunk_range(chunk)).collect();
        let all: u32 = parts.iter().map(|part| elements(part).div_ceil(TERMS)).sum();
        let sums = plan.buffer(format!("{}.dscale parts", site.name), all.into(), Role::Scratch)?;
        let mut out_offset = 0;
        for part in parts {
            let ((from, offset), n) = (terms.at(part.start), elements(&part));
            let params = kernel::Reduce { n, offset, per_group: TERMS, out_offset, square: 0 };
            plan.push(&kernel::REDUCE, None, &NoConstants, &params, &[from, sums]);
            out_offset += n.div_ceil(TERMS);
        }
        let accumulate = plan.adds() as u32;
        let params = kernel::ColumnSum { rows: all, columns: 1, a_offset: 0, out_offset: 0, copies: 1, accumulate };
        plan.push(&kernel::COLUMN_SUM, None, &NoConstants, &params, &[sums, gradient]);
        Ok(())
    }
}
