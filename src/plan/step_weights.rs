//! Forms of the recurrent weights.

use serde::{Deserialize, Serialize};

/// Form in which the time steps of a GPU read recurrent weights. Weights, states, sums and everything else stay f32; sums are in f32,
/// too. Where a step waits for its weights (small batches, many hidden units), fewer bytes take less time.
///
/// ```
/// use wgpu_lstm::{GpuOptions, StepWeights};
/// let options = GpuOptions { step_weights: StepWeights::F16, ..GpuOptions::default() };
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StepWeights {
    /// As they are.
    #[default]
    F32,
    /// Rounded to f16: half the bytes. With weights up to 1, outputs stay within 1e-3 and gradients within 3e-3 of the largest
    /// (`tests/half.rs`); weights beyond 65,504 would become infinite.
    F16,
    /// In inference, whole numbers from −127 to 127 with a factor for each gate of a unit, the largest of its weights / 127: a quarter of
    /// the bytes. A weight is off by up to 1/254 of the largest of its gate and unit. `benches/results/step-weights.txt`, made by
    /// `scripts/step-weights`, has its effect on models: scores of `disorder`, from 0 to 1, move by up to 0.014, probabilities of speech of
    /// `vad` by up to 0.015; no frame of it and no utterance of `vowels` is told otherwise. Training, and devices that do not let threads
    /// share terms ([`Capabilities::shared_terms`](super::Capabilities::shared_terms)), read f32.
    Int8,
}
