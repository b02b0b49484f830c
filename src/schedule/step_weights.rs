//! Recurrent weights in the form in which time steps read them.

use super::builder::Builder;
use crate::error::Result;
use crate::kernel::{self, Division, NoConstants};
use crate::plan::{BufferId, Role, StepWeights};

/// Weights [D, terms, units] of four gates, or, transposed, [D, terms of four gates, units].
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepMatrix {
    /// Form in which steps read them.
    pub form: StepWeights,
    /// D.
    pub directions: u32,
    /// Terms of a unit.
    pub terms: u32,
    /// Units.
    pub units: u32,
}

impl Builder {
    /// The form in which the kernels of a division read weights.
    pub(crate) fn step_form(&self, division: Division, train: bool) -> StepWeights {
        match self.capabilities.step_weights {
            StepWeights::Int8 if train || division == Division::Scan => StepWeights::F32,
            form => form,
        }
    }

    /// The buffer from which time steps read weights: `weights`, or a buffer for them in another form.
    pub(crate) fn step_weights(&mut self, name: &str, weights: BufferId, matrix: &StepMatrix) -> Result<BufferId> {
        let [rows, columns] = matrix.form.elements(matrix.directions, matrix.terms, matrix.units);
        let len = rows as u64 * columns as u64;
        match matrix.form {
            StepWeights::F32 => Ok(weights),
            StepWeights::F16 => self.shared(format!("{name} in f16"), len, Role::Scratch),
            StepWeights::Int8 => self.shared(format!("{name} in int8"), len, Role::Scratch),
        }
    }

    /// Writes weights to the buffer that [`Builder::step_weights`] gave, if it is another. What depends on weights alone comes first in
    /// the plan, so that runs with the same weights can leave it out.
    pub(crate) fn convert_weights(&mut self, weights: BufferId, into: BufferId, matrix: &StepMatrix) {
        let StepMatrix { form, directions, terms, units } = *matrix;
        match form {
            StepWeights::F32 => {}
            StepWeights::F16 => {
                let n = 2 * directions * terms * units;
                self.push_early(&kernel::HALF, &NoConstants, &kernel::Half { n }, &[weights, into]);
            }
            StepWeights::Int8 => {
                self.push_early(
                    &kernel::INT8,
                    &NoConstants,
                    &kernel::Int8 { directions, terms, units },
                    &[weights, into],
                );
            }
        }
    }
}
