//! Attention: scores of queries and keys, their softmax over the keys, and the sums of values weighted by it; forward and backward.
//!
//! Queries, keys and values are sequences in chunks of their own. The weights [Tq, B, Tk] are a sequence along the queries' time whose
//! features are the keys, so that a chunk of keys is a range of its columns.

use super::batch_product::Matrices;
use super::product::MOST_TERMS;
use super::{Builder, Direction, Sequence};
use crate::error::Result;
use crate::kernel::{self, MaskedSoftmaxConstants, NoConstants};
use crate::plan::{BufferId, Role};
use std::ops::Range;

/// Scores of attention.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scores {
    /// scale·q·k.
    Dot {
        /// Factor.
        scale: f32,
    },
    /// Σ_f scale\[f\]·tanh(q\[f\] + k\[f\]).
    Additive {
        /// Factors, \[F\].
        scale: BufferId,
    },
}

/// Operands of attention.
#[derive(Clone, Debug)]
pub(crate) struct Attention {
    /// Prefix of the names of its buffers.
    pub name: String,
    /// B.
    pub batch: u32,
    /// Queries [Tq, B, F].
    pub q: Sequence,
    /// Keys [Tk, B, F].
    pub k: Sequence,
    /// Values [Tk, B, V].
    pub v: Sequence,
    /// Scores of a query and a key.
    pub scores: Scores,
    /// True if a query attends to keys up to its own step only.
    pub causal: bool,
    /// Lengths of the query sequences, if they have any; see [`Builder::words_of`].
    pub query_words: Option<BufferId>,
    /// Lengths of the key sequences, if they have any.
    pub key_words: Option<BufferId>,
}

/// Gradients of attention.
pub(crate) struct AttentionGradients {
    /// Of the queries, [Tq, B, F].
    pub dq: Sequence,
    /// Of the keys, [Tk, B, F]; that of the values, too, if they are the same sequence.
    pub dk: Sequence,
    /// Of the values, [Tk, B, V].
    pub dv: Sequence,
    /// Parts of the gradient of the additive scores' scale, [Tq, B, F], if asked for.
    pub scale_parts: Option<Sequence>,
}

impl Attention {
    /// Elements of a step of the weights, B·Tk.
    pub fn step(batch: u32, keys: u32) -> u64 {
        batch as u64 * keys as u64
    }

    /// Plans attention forward; returns the output [Tq, B, V] and the weights [Tq, B, Tk].
    pub fn forward(&self, plan: &mut Builder) -> Result<(Sequence, Sequence)> {
        let Attention { name, batch, q, k, v, .. } = self;
        let weights = plan.sequence(&format!("{name}.weights"), [q.steps, *batch, k.steps], 0, Role::Scratch)?;
        let y = plan.sequence(&format!("{name}.y"), [q.steps, *batch, v.features], 0, Role::Scratch)?;
        for part in q.parts(&weights) {
            let own = weights.window(part.clone());
            for keys in chunks(k) {
                self.plan_scores(plan, part.clone(), keys, &own);
            }
            self.plan_softmax(plan, part.start, &own);
            for (index, keys) in chunks(v).enumerate() {
                let a = Matrices::of(&own, columns(&own, &keys));
                let [b, c] = [(v, keys.start), (&y, part.start)].map(|(x, first)| Matrices::of(x, x.at(first)));
                let sizes = [part.len() as u32, v.features, keys.len() as u32];
                plan.multiply_each(*batch, sizes, [a, b, c], index > 0);
            }
        }
        Ok((y, weights))
    }

    /// Computes the scores of queries `part` and a chunk of keys, to `own` [queries, B, Tk].
    fn plan_scores(&self, plan: &mut Builder, part: Range<u32>, keys: Range<u32>, own: &Sequence) {
        let Attention { batch, q, k, .. } = self;
        let ((from_q, q_offset), (from_k, k_offset)) = (q.at(part.start), k.at(keys.start));
        let (to, s_offset) = columns(own, &keys);
        match self.scores {
            Scores::Dot { .. } => {
                let a = Matrices::of(q, (from_q, q_offset));
                let b = Matrices::of(k, (from_k, k_offset)).transposed();
                let c = Matrices::of(own, (to, s_offset));
                let sizes = [part.len() as u32, keys.len() as u32, q.features];
                plan.multiply_each(*batch, sizes, [a, b, c], false);
            }
            Scores::Additive { scale } => {
                let params = kernel::AdditiveScores {
                    steps: part.len() as u32,
                    batch: *batch,
                    keys: keys.len() as u32,
                    features: q.features,
                    q_offset,
                    q_step: q.step,
                    q_row: q.row,
                    k_offset,
                    k_step: k.step,
                    k_row: k.row,
                    s_offset,
                    s_step: own.step,
                    s_row: own.row,
                };
                plan.push(&kernel::ADDITIVE_SCORES, None, &NoConstants, &params, &[from_q, from_k, scale, to]);
            }
        }
    }

    /// The factor that softmax gives the scores.
    fn scale(&self) -> f32 {
        match self.scores {
            Scores::Dot { scale } => scale,
            Scores::Additive { .. } => 1.0,
        }
    }

    /// Makes weights of scores `own` [queries, B, Tk], in place; `time` is the step of the first query.
    fn plan_softmax(&self, plan: &mut Builder, time: u32, own: &Sequence) {
        let (to, a_offset) = own.at(0);
        let (steps, batch, keys, scale) = (own.steps, self.batch, own.features, self.scale());
        let params = kernel::MaskedSoftmaxForward { steps, batch, keys, a_offset, time, scale };
        let constants = MaskedSoftmaxConstants {
            causal: self.causal,
            ragged_queries: self.query_words.is_some(),
            ragged_keys: self.key_words.is_some(),
        };
        let unused = plan.unused();
        let [of_queries, of_keys] = [self.query_words, self.key_words].map(|words| words.unwrap_or(unused));
        plan.push(&kernel::MASKED_SOFTMAX_FORWARD, None, &constants, &params, &[of_queries, of_keys, to]);
    }

    /// Plans attention backward, from the weights and the gradient of the output [Tq, B, V]. `one_value`: keys and values are the same
    /// sequence, and so is their gradient.
    pub fn backward(
        &self,
        plan: &mut Builder,
        weights: &Sequence,
        dy: &Sequence,
        one_value: bool,
        scale_parts: bool,
    ) -> Result<AttentionGradients> {
        let Attention { name, batch, q, k, v, .. } = self;
        let like = |plan: &mut Builder, what: &str, x: &Sequence| {
            plan.sequence(&format!("{name}.{what}"), [x.steps, *batch, x.features], 0, Role::Scratch)
        };
        let dq = like(plan, "dq", q)?;
        let dv = like(plan, "dv", v)?;
        let dk = if one_value { dv.clone() } else { like(plan, "dk", k)? };
        let scale_parts = if scale_parts { Some(like(plan, "dscale parts", q)?) } else { None };
        let gradients = AttentionGradients { dq, dk, dv, scale_parts };
        let held = weights.chunk_steps as u64 * weights.step as u64;
        let da = plan.buffer(format!("{name}.dweights"), held, Role::Scratch)?;
        let forward = Direction::forward(q.steps);
        let parts = q.parts(weights).into_iter().flat_map(|part| forward.segments(part, dy.chunk_steps));
        for (index, part) in parts.enumerate() {
            let own = weights.window(part.clone());
            let steps = own.steps;
            let ds = Sequence { chunks: vec![da], lead: 0, ..own.clone() };
            self.plan_value_gradients(plan, &own, &ds, &dy.window(part.clone()), (&gradients.dv, index > 0));
            let ((a, a_offset), (to, da_offset)) = (own.at(0), ds.at(0));
            let (rows, keys, scale) = (steps * batch, own.features, self.scale());
            let params = kernel::MaskedSoftmaxBackward { rows, keys, a_offset, da_offset, scale };
            plan.push(&kernel::MASKED_SOFTMAX_BACKWARD, None, &NoConstants, &params, &[a, to]);
            self.plan_score_gradients(plan, part, &ds, &gradients, index > 0 || one_value);
        }
        Ok(gradients)
    }

    /// Computes the gradient of weights `own` [queries, B, Tk] to `da`, and that of the values, added to what there is if `add`.
    fn plan_value_gradients(
        &self,
        plan: &mut Builder,
        own: &Sequence,
        da: &Sequence,
        dy: &Sequence,
        (dv, add): (&Sequence, bool),
    ) {
        let v = &self.v;
        for keys in v.parts(dv) {
            let b = Matrices::of(v, v.at(keys.start)).transposed();
            let c = Matrices::of(da, columns(da, &keys));
            let sizes = [own.steps, keys.len() as u32, v.features];
            plan.multiply_each(self.batch, sizes, [Matrices::of(dy, dy.at(0)), b, c], false);
            self.plan_transposed(plan, &keys, own, dy, (dv, add));
        }
    }

    /// Adds Σ_t s[t, b, j]·x[t, b, f] to `to` [Tk, B, F], or sets it to that, for the keys j of a chunk.
    fn plan_transposed(
        &self,
        plan: &mut Builder,
        keys: &Range<u32>,
        s: &Sequence,
        x: &Sequence,
        (to, add): (&Sequence, bool),
    ) {
        let a = Matrices::of(s, columns(s, keys)).transposed();
        let [b, c] = [(x, 0), (to, keys.start)].map(|(x, first)| Matrices::of(x, x.at(first)));
        plan.multiply_each(self.batch, [keys.len() as u32, x.features, x.steps], [a, b, c], add);
    }

    /// Computes the gradients of queries `part`, and those of the keys, which are added to what there is if `add`, from the gradient of
    /// the scores `ds` [queries, B, Tk].
    fn plan_score_gradients(
        &self,
        plan: &mut Builder,
        part: Range<u32>,
        ds: &Sequence,
        gradients: &AttentionGradients,
        add: bool,
    ) {
        let AttentionGradients { dq, dk, scale_parts, .. } = gradients;
        let (q, k) = (self.q.window(part.clone()), &self.k);
        for (index, keys) in k.parts(dk).into_iter().enumerate() {
            match self.scores {
                Scores::Dot { .. } => {
                    let a = Matrices::of(ds, columns(ds, &keys));
                    let [b, c] = [(k, keys.start), (dq, part.start)].map(|(x, first)| Matrices::of(x, x.at(first)));
                    let sizes = [ds.steps, k.features, keys.len() as u32];
                    plan.multiply_each(self.batch, sizes, [a, b, c], index > 0);
                    self.plan_transposed(plan, &keys, ds, &q, (dk, add));
                }
                Scores::Additive { scale } => {
                    let own = columns(ds, &keys);
                    let keys = keys.clone();
                    let (k, dk, dq) = (k.window(keys.clone()), dk.window(keys), dq.window(part.clone()));
                    let parts = scale_parts.as_ref().map(|parts| parts.window(part.clone()));
                    let strides = [ds.step, ds.row, 1];
                    plan.additive_gradient([&q, &k, &dq], (own, strides), scale, parts.as_ref(), self.batch, index > 0);
                    let strides = [1, ds.row, ds.step];
                    plan.additive_gradient([&k, &q, &dk], (own, strides), scale, None, self.batch, add);
                }
            }
        }
    }
}

impl Builder {
    /// Adds the gradient dx of one operand x of additive scores, the other being y, in parts that one dispatch can make. `ds` is the
    /// gradient of the scores with its strides by step of x, by row and by step of y.
    fn additive_gradient(
        &mut self,
        [x, y, dx]: [&Sequence; 3],
        ((ds, ds_offset), [ds_step, ds_row, ds_other]): ((BufferId, u32), [u32; 3]),
        scale: BufferId,
        parts: Option<&Sequence>,
        batch: u32,
        add: bool,
    ) {
        let unused = self.unused();
        let ((of_x, x_offset), (to, dx_offset)) = (x.at(0), dx.at(0));
        let (of_parts, parts_offset) = parts.map_or((unused, 0), |parts| parts.at(0));
        for first in (0..y.steps).step_by(MOST_TERMS as usize) {
            let (of_y, y_offset) = y.at(first);
            let params = kernel::AdditiveScoresBackward {
                steps: x.steps,
                batch,
                others: MOST_TERMS.min(y.steps - first),
                features: x.features,
                accumulate: (add || first > 0) as u32,
                x_offset,
                x_step: x.step,
                x_row: x.row,
                y_offset,
                y_step: y.step,
                y_row: y.row,
                ds_offset: ds_offset + first * ds_other,
                ds_step,
                ds_row,
                ds_other,
                dx_offset,
                parts_offset,
            };
            let constants = kernel::AdditiveScoresBackwardConstants { parts: parts.is_some() };
            let buffers = [of_x, of_y, ds, scale, to, of_parts];
            self.push(&kernel::ADDITIVE_SCORES_BACKWARD, None, &constants, &params, &buffers);
        }
    }
}

/// The chunks of a sequence, as ranges of steps.
fn chunks(x: &Sequence) -> impl Iterator<Item = Range<u32>> {
    (0..x.chunks.len()).map(|chunk| x.chunk_range(chunk))
}

/// Address of the columns of a range of keys in weights of one chunk.
fn columns(weights: &Sequence, keys: &Range<u32>) -> (BufferId, u32) {
    let (buffer, first) = weights.at(0);
    (buffer, first + keys.start)
}
