//! Softmax of attention's scores over the keys that a query may attend to.

use super::declare::{constants, kernel, params};
use super::{Call, NoConstants, Region, Touch};
use crate::cpu::{Args, WORTH_A_THREAD};
use crate::real::Real;

/// Multiplications that take as long as a weight, most of it its exponential.
const COST: u64 = 64;

params! {
    /// Weights of attention from scores, in place: softmax over the keys of each query and row.
    MaskedSoftmaxForward {
        /// Queries of this part.
        steps: u32,
        /// B.
        batch: u32,
        /// Keys.
        keys: u32,
        /// First element of the scores and weights [steps, B, keys].
        a_offset: u32,
        /// Step of the first query in its sequence.
        time: u32,
        /// Factor of the scores.
        scale: f32,
    }
}

constants! {
    /// Constants of [`MASKED_SOFTMAX_FORWARD`].
    MaskedSoftmaxConstants {
        /// True if a query attends to keys up to its own step only.
        causal: bool,
        /// True if query sequences have lengths.
        ragged_queries: bool,
        /// True if key sequences have lengths.
        ragged_keys: bool,
    }
}

kernel! {
    /// Softmax over the keys before the end of their sequence. Other keys have weight 0, as all keys have for a query past the end of
    /// its sequence and for one without keys.
    MASKED_SOFTMAX_FORWARD = masked_softmax_forward(MaskedSoftmaxForward, MaskedSoftmaxConstants) {
        bindings: [read query_words, read key_words, write a],
        workgroup: [64, 1, 1],
        rowwise: |p| [p.steps, p.batch], flops: 7 * p.keys as u64,
        touches: |p, c| [
            Touch::reads(Region::span(2, c.ragged_queries as u32, p.batch)),
            Touch::reads(Region::span(2, c.ragged_keys as u32, p.batch)),
            Touch::updates(Region::span(p.a_offset, p.steps * p.batch, p.keys), true),
        ],
    }
}

/// Twin of `shaders/masked_softmax_forward.wgsl`.
fn masked_softmax_forward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: MaskedSoftmaxForward = call.params();
    let constants: MaskedSoftmaxConstants = call.constants();
    let team = args.team;
    let ([query_words, key_words], [a], _) = args.parts(0);
    let (batch, keys) = (p.batch as usize, p.keys as usize);
    let allowed = |row: usize| {
        let (query, row) = (p.time + (row / batch) as u32, 2 + row % batch);
        if constants.ragged_queries && query >= query_words[row].word() {
            return 0;
        }
        let held = if constants.ragged_keys { p.keys.min(key_words[row].word()) } else { p.keys };
        (if constants.causal { held.min(query + 1) } else { held }) as usize
    };
    let rows = p.steps as usize * batch;
    let threads = team.threads_for(rows as u64 * p.keys as u64 * COST / WORTH_A_THREAD);
    let length = rows.div_ceil(threads).max(1);
    let shares = a[p.a_offset as usize..][..rows * keys].chunks_mut(length * keys);
    team.each(shares.enumerate().collect(), |(index, rows)| {
        for (row, weights) in rows.chunks_exact_mut(keys).enumerate() {
            let (weights, masked) = weights.split_at_mut(allowed(index * length + row));
            softmax(weights, F::of(p.scale));
            masked.fill(F::zero());
        }
    });
}

/// Softmax of some scores times `scale`.
fn softmax<F: Real>(scores: &mut [F], scale: F) {
    let most = scores.iter().fold(F::neg_infinity(), |most, &score| most.max(scale * score));
    let mut sum = F::zero();
    for score in &mut *scores {
        *score = (scale * *score - most).exp();
        sum += *score;
    }
    for score in scores {
        *score = *score / sum;
    }
}

params! {
    /// Gradient of attention's scores from that of its weights, in place.
    MaskedSoftmaxBackward {
        /// Queries times rows.
        rows: u32,
        /// Keys.
        keys: u32,
        /// First element of the weights [rows, keys].
        a_offset: u32,
        /// First element of the gradients [rows, keys].
        da_offset: u32,
        /// Factor of the scores.
        scale: f32,
    }
}

kernel! {
    /// Gradient through the softmax of scores, in place.
    MASKED_SOFTMAX_BACKWARD = masked_softmax_backward(MaskedSoftmaxBackward, NoConstants) {
        bindings: [read a, write da],
        workgroup: [64, 1, 1],
        rowwise: |p| [p.rows], flops: 5 * p.keys as u64,
        touches: |p| [
            Touch::reads(Region::span(p.a_offset, p.rows, p.keys)),
            Touch::updates(Region::span(p.da_offset, p.rows, p.keys), true),
        ],
    }
}

/// Twin of `shaders/masked_softmax_backward.wgsl`.
fn masked_softmax_backward<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: MaskedSoftmaxBackward = call.params();
    let ([a], [da], _) = args.parts(0);
    let (keys, scale) = (p.keys as usize, F::of(p.scale));
    let rows = da[p.da_offset as usize..].chunks_exact_mut(keys).take(p.rows as usize);
    for (da, a) in rows.zip(a[p.a_offset as usize..].chunks_exact(keys)) {
        let sum: F = a.iter().zip(da.iter()).map(|(&a, &d)| a * d).sum();
        for (d, &a) in da.iter_mut().zip(a) {
            *d = scale * a * (*d - sum);
        }
    }
}
