//! Layer normalisation of both products over the 4H gates: a = LN(W·x) + LN(R·h') (Ba, Kiros and Hinton 2016).

use super::LstmSizes;
use super::backward::BackwardPass;
use super::forward::ForwardPass;
use super::stage::{Emit, Stage, Step, StepGradient, StepTensor};
use super::state_norm::EPSILON;
use super::weights::Norms;
use crate::error::Result;
use crate::kernel::{self, NoConstants, NormBackwardConstants, NormForwardConstants};
use crate::plan::BufferId;
use crate::schedule::builder::Builder;
use crate::schedule::strategy::MOST_ITERATIONS;
use std::ops::Range;

/// Normalisation of the products.
pub static PRODUCT_NORM: Stage = Stage {
    reason: Some("products and cell state are normalised in each step"),
    reads_product: true,
    ..Stage::new("product norm", |builder, pass| Ok(Box::new(ProductNorm::new(builder, pass)?)))
};

#[derive(Debug)]
struct ProductNorm {
    weights: Norms,
    /// W·x before normalisation, [D, B, 4H]: of every step, or of a chunk's steps.
    xw: StepTensor,
    /// R·h' before normalisation, [D, B, 4H].
    rh: StepTensor,
    gradients: Option<Gradients>,
}

#[derive(Debug)]
struct Gradients {
    /// Gradients of W·x of a chunk, [steps, D, B, 4H].
    dg_x: BufferId,
    /// Gradients of R·h' of a chunk, [steps, D, B, 4H].
    dg_r: BufferId,
    /// Terms of the gradient of W·x's factors, summed over time, [D, B, 4H].
    terms_x: BufferId,
    /// Terms of the gradient of R·h's factors, summed over time, [D, B, 4H].
    terms_h: BufferId,
}

/// Arguments of the backward pass through the normalisation of a product.
struct NormGradient {
    /// Factors.
    weights: BufferId,
    /// The product before normalisation.
    x: (BufferId, u32),
    /// Buffer of its gradient, and offset of the steps in it and in the gate gradients.
    dx: (BufferId, u32),
    terms: BufferId,
    steps: u32,
    /// True if terms are added to those of other steps.
    adds: bool,
}

impl ProductNorm {
    fn new(builder: &mut Builder, pass: &ForwardPass) -> Result<ProductNorm> {
        let (sizes, gates) = (pass.sizes, pass.sizes.gate_slot() as u64);
        let chunk = builder.chunk_steps(sizes.steps) as u64;
        let xw = match pass.train {
            true => pass.every_step(builder, "W·x", sizes.columns())?,
            false => StepTensor::One(pass.buffer(builder, "W·x", chunk * gates)?),
        };
        let gradients = pass.in_training(|| {
            Ok(Gradients {
                dg_x: sizes.scratch(builder, "gradients of W·x", chunk * gates)?,
                dg_r: sizes.scratch(builder, "gradients of R·h", chunk * gates)?,
                terms_x: sizes.scratch(builder, "normalisation of W·x", gates)?,
                terms_h: sizes.scratch(builder, "normalisation of R·h", gates)?,
            })
        })?;
        Ok(ProductNorm { weights: pass.norms()?, xw, rh: pass.product()?.rh.clone(), gradients })
    }
}

/// Overwrites W·x with normalised products [steps, D, B, 4H], or adds them to it.
fn normalise(
    builder: &mut Builder,
    pass: &ForwardPass,
    weights: BufferId,
    [(from, x_offset), (to, y_offset)]: [(BufferId, u32); 2],
    (steps, adds): (u32, bool),
) {
    let LstmSizes { batch, directions, .. } = *pass.sizes;
    let params = kernel::NormForward {
        rows: steps * directions * batch,
        features: pass.sizes.columns(),
        group: batch,
        groups: directions,
        x_offset,
        y_offset,
        epsilon: EPSILON,
    };
    let unused = builder.unused();
    let constants = NormForwardConstants { bias: false, add: adds };
    builder.push(&kernel::NORM_FORWARD, None, &constants, &params, &[weights, unused, from, to]);
}

/// Computes the gradient of a product from the gate gradients.
fn denormalise(builder: &mut Builder, pass: &BackwardPass, norm: NormGradient) {
    let NormGradient { weights, x: (x, x_offset), dx: (dx, at), terms, steps, adds } = norm;
    let LstmSizes { batch, directions, .. } = *pass.sizes;
    let params = kernel::NormBackward {
        rows: directions * batch,
        steps,
        features: pass.sizes.columns(),
        group: batch,
        groups: directions,
        x_offset,
        dy_offset: at,
        dx_offset: at,
        epsilon: EPSILON,
    };
    let constants = NormBackwardConstants { add: adds };
    builder.push(&kernel::NORM_BACKWARD, None, &constants, &params, &[weights, x, pass.scratch.dg, dx, terms]);
}

impl Emit for ProductNorm {
    fn input_product(&self, chunk_start: u32) -> Option<(BufferId, u32)> {
        Some(self.xw.at(chunk_start))
    }

    fn begin_chunk(&self, builder: &mut Builder, pass: &ForwardPass, chunk: &Range<u32>) {
        let places = [self.xw.at(chunk.start), (pass.xw, 0)];
        normalise(builder, pass, self.weights.x, places, (chunk.len() as u32, false));
    }

    fn forward(&self, builder: &mut Builder, pass: &ForwardPass, step: &Step) {
        let places = [self.rh.at(step.steps.start), pass.xw_of(step)];
        normalise(builder, pass, self.weights.h, places, (1, true));
    }

    fn backward(&self, builder: &mut Builder, pass: &BackwardPass, step: &mut StepGradient) {
        let Some(gradients) = &self.gradients else { return };
        let norm = NormGradient {
            weights: self.weights.h,
            x: self.rh.at(step.steps.start),
            dx: (gradients.dg_r, step.local() * pass.sizes.gate_slot()),
            terms: gradients.terms_h,
            steps: 1,
            adds: step.steps.end < pass.sizes.steps,
        };
        denormalise(builder, pass, norm);
    }

    fn end_chunk_backward(&self, builder: &mut Builder, pass: &BackwardPass, chunk: &Range<u32>) {
        let (sizes, Some(gradients)) = (pass.sizes, &self.gradients) else { return };
        let iterations = 4 * sizes.columns().div_ceil(64) + 30; // of a step
        let most = if builder.capabilities.short_loops { (MOST_ITERATIONS / iterations).max(1) } else { u32::MAX };
        for step in chunk.clone().step_by(most.min(sizes.steps) as usize) {
            let norm = NormGradient {
                weights: self.weights.x,
                x: self.xw.at(step),
                dx: (gradients.dg_x, (step - chunk.start) * sizes.gate_slot()),
                terms: gradients.terms_x,
                steps: most.min(chunk.end - step),
                adds: chunk.end < sizes.steps || step > chunk.start,
            };
            denormalise(builder, pass, norm);
        }
    }

    fn input_gradients(&self) -> Option<BufferId> {
        self.gradients.as_ref().map(|gradients| gradients.dg_x)
    }

    fn product_gradients(&self) -> Option<BufferId> {
        self.gradients.as_ref().map(|gradients| gradients.dg_r)
    }

    fn vector_gradients(&self, builder: &mut Builder, pass: &BackwardPass, d: u32) {
        let (Some(terms), Some(gradients)) = (&self.gradients, pass.gradients.norm) else { return };
        let (batch, columns) = (pass.sizes.batch, pass.sizes.columns());
        for (from, to) in [(terms.terms_x, gradients.x), (terms.terms_h, gradients.h)] {
            let params = kernel::ColumnSum {
                rows: batch,
                columns,
                a_offset: d * batch * columns,
                out_offset: d * columns,
                copies: 1,
                accumulate: builder.adds() as u32,
            };
            builder.push(&kernel::COLUMN_SUM, None, &NoConstants, &params, &[from, to]);
        }
    }
}
