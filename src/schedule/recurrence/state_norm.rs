//! The hidden state from the output gate and the normalised cell state: h = o ⊙ tanh(LN(c)) (Ba, Kiros and Hinton 2016).
//!
//! The cell leaves o in the place of h. This stage also carries both states past the cell.

use super::backward::BackwardPass;
use super::forward::ForwardPass;
use super::output_gradient::OutputGradient;
use super::stage::{Emit, SentBack, Stage, Step, StepGradient};
use crate::error::Result;
use crate::kernel::{self, Carries, NoConstants, NormStateBackwardConstants, NormStateForwardConstants};
use crate::plan::BufferId;
use crate::schedule::builder::Builder;

/// ε, added to the variance.
pub(super) const EPSILON: f32 = 1e-5;

/// Normalisation of the cell state before h.
pub static STATE_NORM: Stage = Stage {
    reason: Some("products and cell state are normalised in each step"),
    carries_states: true,
    ..Stage::new("state norm", |builder, pass| Ok(Box::new(StateNorm::new(builder, pass)?)))
};

#[derive(Debug)]
struct StateNorm {
    /// Scale and bias, [D, 2, H].
    weights: BufferId,
    gradients: Option<Gradients>,
}

#[derive(Debug)]
struct Gradients {
    /// Gradients of the output gate and, summed over time, of both weights, and scratch, [4, D, B, H].
    out: BufferId,
    sent: SentBack,
}

impl StateNorm {
    fn new(builder: &mut Builder, pass: &ForwardPass) -> Result<StateNorm> {
        let sizes = pass.sizes;
        let gradients = pass.in_training(|| {
            Ok(Gradients {
                out: sizes.scratch(builder, "do and normalisation of c", 4 * sizes.slot() as u64)?,
                sent: SentBack::new(builder, sizes)?,
            })
        })?;
        Ok(StateNorm { weights: pass.norms()?.c, gradients })
    }
}

impl Emit for StateNorm {
    fn forward(&self, builder: &mut Builder, pass: &ForwardPass, step: &Step) {
        let sizes = pass.sizes;
        let (h, h_in) = pass.h_before(step.steps.start);
        let c = pass.states.at(step.steps.start, step.dispatch, sizes.c_slot());
        let [zoneout_h, zoneout_c] = sizes.zoneout(pass.train);
        let output = sizes.settings.output;
        let params = kernel::NormStateForward {
            batch: sizes.batch,
            directions: sizes.directions,
            h_in,
            c_in: c.before,
            c_out: c.after,
            step: builder.first_step() + step.steps.start,
            total_steps: sizes.steps,
            backwards: sizes.backwards as u32,
            site: pass.zoneout_stream,
            zoneout_h: zoneout_h.threshold,
            zoneout_c: zoneout_c.threshold,
            keep_h: zoneout_h.share,
            keep_c: zoneout_c.share,
            alpha: output.alpha,
            beta: output.beta,
            epsilon: EPSILON,
        };
        let (h_units, carries) = (sizes.hidden, Carries(sizes.carries()));
        let constants = NormStateForwardConstants { h: h_units, train: pass.train, carries, kind: output.kind };
        builder.push(
            &kernel::NORM_STATE_FORWARD,
            None,
            &constants,
            &params,
            &[self.weights, h, c.buffer, pass.key_and_lengths],
        );
    }

    /// Computes the gradients of a step's output gate and cell state from those of the states after it.
    fn backward(&self, builder: &mut Builder, pass: &BackwardPass, step: &mut StepGradient) {
        let (sizes, Some(gradients)) = (pass.sizes, &self.gradients) else { return };
        let at = step.steps.start;
        let (dh, dh_offset) = step.dy.at;
        let (c, c_out) = pass.saved.c.at(at);
        let (saved, saved_offset) = pass.saved.values.at(at);
        let [zoneout_h, zoneout_c] = sizes.zoneout(true);
        let output = sizes.settings.output;
        let params = kernel::NormStateBackward {
            batch: sizes.batch,
            directions: sizes.directions,
            c_in: c_out - sizes.c_slot(),
            saved_offset,
            dh_offset,
            dc_offset: pass.dc(),
            step: builder.first_step() + at,
            total_steps: sizes.steps,
            backwards: sizes.backwards as u32,
            site: pass.trace.zoneout_stream,
            zoneout_h: zoneout_h.threshold,
            zoneout_c: zoneout_c.threshold,
            alpha: output.alpha,
            beta: output.beta,
            cell_clip: sizes.settings.cell_clip,
            epsilon: EPSILON,
            first: (at + 1 == sizes.steps) as u32,
        };
        let (carries, kinds) = (Carries(sizes.carries()), sizes.settings.kinds());
        let constants = NormStateBackwardConstants { h: sizes.hidden, carries, kinds };
        let buffers =
            [self.weights, c, saved, dh, pass.key_and_lengths, pass.scratch.sums, gradients.sent.to_h, gradients.out];
        builder.push(&kernel::NORM_STATE_BACKWARD, None, &constants, &params, &buffers);
        step.sent = true;
        step.dy = OutputGradient::of_step((gradients.out, 0), at, [sizes.batch, sizes.hidden]);
    }

    fn vector_gradients(&self, builder: &mut Builder, pass: &BackwardPass, d: u32) {
        let (sizes, Some(terms), Some(gradients)) = (pass.sizes, &self.gradients, pass.gradients.norm) else { return };
        for part in 0..2 {
            let params = kernel::ColumnSum {
                rows: sizes.batch,
                columns: sizes.hidden,
                a_offset: ((1 + part) * sizes.directions + d) * sizes.batch * sizes.hidden,
                out_offset: (2 * d + part) * sizes.hidden,
                copies: 1,
                accumulate: builder.adds() as u32,
            };
            builder.push(&kernel::COLUMN_SUM, None, &NoConstants, &params, &[terms.out, gradients.c]);
        }
    }

    /// Adds the gradient carried past the normalisation to dc_0.
    fn initial_gradients(&self, builder: &mut Builder, pass: &BackwardPass, [_, dc_0]: [BufferId; 2]) {
        builder.add_run(pass.sizes.c_slot(), (pass.scratch.sums, pass.past()), (dc_0, 0));
    }
}
