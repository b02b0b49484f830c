//! Batches: keys of their plans, factors of their losses.

use super::Model;
use super::data::Data;
use super::plans::{Key, PlanPurpose};
use crate::error::{Error, Result};
use crate::memory;
use crate::network::{Graph, PlanOutput};
use crate::train::Loss;
use crate::transfer::key_and_lengths;

impl Data<'_, '_> {
    /// Purpose and sizes of its plan.
    pub(super) fn key(&self, purpose: PlanPurpose, stateful: bool) -> Key {
        Key { purpose, ragged: self.is_ragged(), stateful, batch: self.count(), steps: self.steps() }
    }

    /// Number of the rows of output `k` that count: steps before the ends of sequences if it is a sequence, else one a sequence; without
    /// those that are missing.
    pub(super) fn counted(&self, graph: &Graph, k: usize, steps: usize) -> usize {
        let lengths = graph.axis(graph.outputs[k].from).and_then(|axis| self.lengths(graph, axis));
        let all = match (graph.axis(graph.outputs[k].from), &lengths) {
            (None, _) => self.count(),
            (Some(_), Some(lengths)) => lengths.iter().sum(),
            (Some(_), None) => self.count() * steps,
        };
        let target = self.targets.get(k).and_then(Option::as_ref);
        let missing = target.and_then(|target| target.missing.as_ref()).map_or(0, |missing| {
            let inside = |n: usize, t: usize| lengths.as_ref().is_none_or(|lengths| t < lengths[n]);
            missing.indexed_iter().filter(|&((n, t), &missing)| missing && inside(n, t)).count()
        });
        all - missing
    }

    /// The factor of each row's loss, [T or 1, B], for output `k`: its weight and that of the loss over the number of terms, 0 past the
    /// end of a sequence.
    pub(super) fn factors(&self, graph: &Graph, k: usize, loss: (&Loss, f32), plan: &PlanOutput) -> Result<Vec<f32>> {
        let (output, steps, batch) = (&graph.outputs[k], plan.y.steps as usize, self.count());
        let lengths = graph.axis(output.from).and_then(|axis| self.lengths(graph, axis));
        let counted = self.group.as_ref().map_or_else(|| self.counted(graph, k, steps), |group| group[k]);
        let terms = loss.0.terms(counted as u64, plan.y.features as u64);
        let weights = self.targets[k].as_ref().and_then(|target| target.weights.as_ref());
        let missing = self.targets[k].as_ref().and_then(|target| target.missing.as_ref());
        let factor = |t: usize, b: usize| {
            let past =
                lengths.as_ref().is_some_and(|lengths| t >= lengths[b]) || missing.is_some_and(|all| all[[b, t]]);
            let weight = weights.map_or(1.0, |weights| weights[[b, t % weights.ncols()]]) * loss.1;
            if past { 0.0 } else { (weight as f64 / terms) as f32 }
        };
        let factors = (0..steps).flat_map(|t| (0..batch).map(move |b| factor(t, b)));
        memory::collect(steps * batch, factors, "weights of rows")
    }
}

impl Model {
    /// Rows of each output that count in several batches.
    pub(crate) fn counted<'d, 'x: 'd, 'y: 'd>(
        &self,
        batches: impl Iterator<Item = &'d Data<'x, 'y>>,
    ) -> Result<Vec<usize>> {
        let mut all = vec![0; self.graph.outputs.len()];
        for data in batches {
            let steps = self.graph.steps(&data.steps())?;
            for (k, (counted, output)) in all.iter_mut().zip(&self.graph.outputs).enumerate() {
                *counted += data.counted(&self.graph, k, self.graph.axis(output.from).map_or(1, |axis| steps[axis]));
            }
        }
        Ok(all)
    }
}

/// Refuses lengths that do not fit.
pub(super) fn check_lengths(lengths: Option<&[usize]>, count: usize, steps: usize) -> Result<()> {
    match lengths {
        Some(_) => key_and_lengths([0; 2], lengths, count, steps).map(drop),
        None => Ok(()),
    }
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
