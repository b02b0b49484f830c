//! Batches as the host has them.

use super::plans::{Key, PlanPurpose};
use crate::error::{Error, Result};
use crate::memory;
use crate::network::NetworkPlan;
use crate::train::Loss;
use crate::transfer::key_and_lengths;
use ndarray::{ArrayView2, ArrayView3};

/// Inputs of a batch on the host.
pub(crate) struct BatchInputs<'a> {
    /// [B, T, I].
    pub x: ArrayView3<'a, f32>,
    /// [B, T or 1, F].
    pub y: Option<ArrayView3<'a, f32>>,
    /// `[B]`.
    pub lengths: Option<&'a [usize]>,
    /// [B, T or 1].
    pub weights: Option<ArrayView2<'a, f32>>,
    /// True if it continues from the states of the batch before.
    pub stateful: bool,
}

impl BatchInputs<'_> {
    /// Purpose, T and B of its plan.
    pub(super) fn key(&self, purpose: PlanPurpose) -> (Key, usize, usize) {
        let (batch, steps, _) = self.x.dim();
        (Key { purpose, ragged: self.lengths.is_some(), stateful: self.stateful }, steps, batch)
    }

    /// Number of the output's rows that count: steps before the ends of sequences if it has `whole` sequences, else one a sequence.
    pub fn rows(&self, whole: bool) -> usize {
        let (batch, steps, _) = self.x.dim();
        match self.lengths {
            Some(lengths) if whole => lengths.iter().sum(),
            _ if whole => batch * steps,
            _ => batch,
        }
    }

    /// The factor of each row's loss, [T or 1, B]: its weight over the number of terms, 0 past the end of a sequence.
    pub(super) fn factors(&self, loss: &Loss, plan: &NetworkPlan, whole: bool) -> Result<Vec<f32>> {
        let steps = plan.y().steps as usize;
        let terms = loss.terms(self.rows(whole) as u64, plan.y().features as u64);
        let factor = |t: usize, b: usize| {
            let past = whole && self.lengths.is_some_and(|lengths| t >= lengths[b]);
            let weight = self.weights.map_or(1.0, |weights| weights[[b, t % weights.ncols()]]);
            if past { 0.0 } else { (weight as f64 / terms) as f32 }
        };
        let batch = self.x.dim().0;
        let factors = (0..steps).flat_map(|t| (0..batch).map(move |b| factor(t, b)));
        memory::collect(steps * batch, factors, "weights of rows")
    }
}

/// Refuses lengths that do not fit.
pub(super) fn check_lengths(lengths: Option<&[usize]>, count: usize, steps: usize) -> Result<()> {
    key_and_lengths([0; 2], lengths, count, steps).map(drop)
}

/// Refuses a batch size that does not divide the number of sequences: a last, smaller batch would get states of other sequences.
pub(crate) fn check_divides(name: &str, count: usize, batch_size: usize) -> Result<()> {
    if batch_size == 0 || !count.is_multiple_of(batch_size) {
        return Err(Error::Config(format!(
            "{name} has {count} sequences, which do not divide into batches of {batch_size}; states that are carried from \
             batch to batch need batches of the same size"
        )));
    }
    Ok(())
}
