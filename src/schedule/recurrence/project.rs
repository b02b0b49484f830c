//! The projection of the hidden state: h = W_hr·m, m = o ⊙ tanh(c) (Sak et al. 2014).

use super::LstmSizes;
use super::backward::BackwardPass;
use super::forward::ForwardPass;
use super::output_gradient::OutputGradient;
use super::stage::{Emit, GradientPart, Stage, Step, StepGradient};
use crate::error::{Error, Result};
use crate::kernel;
use crate::plan::BufferId;
use crate::schedule::builder::Builder;

/// The projection. The cell leaves m after its saved values.
pub static PROJECT: Stage = Stage {
    reason: Some("the hidden state is projected between steps"),
    planes: 1,
    ..Stage::new("project", |builder, pass| Ok(Box::new(Project::new(builder, pass)?)))
};

#[derive(Debug)]
struct Project {
    /// W_hr, [D, P, H].
    weights: BufferId,
    /// Gradient of m, [D, B, H].
    dm: Option<BufferId>,
}

impl Project {
    fn new(builder: &mut Builder, pass: &ForwardPass) -> Result<Project> {
        let weights = pass.weights.projection.ok_or_else(|| Error::Plan("a projection without weights".into()))?;
        let dm = pass.in_training(|| pass.sizes.scratch(builder, "dm", pass.sizes.slot() as u64))?;
        Ok(Project { weights, dm })
    }
}

impl Emit for Project {
    /// Computes h[d] = m[d]·W_hrᵀ.
    fn forward(&self, builder: &mut Builder, pass: &ForwardPass, step: &Step) {
        let LstmSizes { batch, hidden, width, directions, .. } = *pass.sizes;
        let (m, saved) = pass.states.saved(step.steps.start);
        let before = if pass.train { pass.sizes.cell.saved as u32 * pass.sizes.slot() } else { 0 };
        let (h, h_out) = pass.h.at(step.steps.start);
        for d in 0..directions {
            let product = kernel::Matmul {
                a_offset: saved + before + d * batch * hidden,
                b_offset: d * width * hidden,
                b_k_lo: 1,
                b_n: hidden as i32,
                c_offset: h_out + d * batch * width,
                ..kernel::Matmul::plain(batch, width, hidden)
            };
            builder.matmul(product, m, self.weights, h);
        }
    }

    /// Computes dm[d] = dh[d]·W_hr.
    fn backward(&self, builder: &mut Builder, pass: &BackwardPass, step: &mut StepGradient) {
        let Some(dm) = self.dm else { return };
        let LstmSizes { batch, hidden, width, directions, .. } = *pass.sizes;
        let (dh, at) = step.dy.at;
        for d in 0..directions {
            let product = kernel::Matmul {
                a_offset: at + d * batch * width,
                b_offset: d * width * hidden,
                c_offset: d * batch * hidden,
                ..kernel::Matmul::plain(batch, hidden, width)
            };
            builder.matmul(product, dh, self.weights, dm);
        }
        step.dy = OutputGradient::of_step((dm, 0), step.steps.start, [batch, hidden]);
    }

    /// Computes dW_hr[d] (+)= Σ over steps and rows of dh[s, d, b]ᵀ·m[s, d, b].
    fn weight_gradients(&self, builder: &mut Builder, pass: &BackwardPass, part: &GradientPart) {
        let (sizes, Some(to)) = (pass.sizes, pass.gradients.projection) else { return };
        let LstmSizes { batch, hidden, width, .. } = *sizes;
        let d = part.direction.index;
        let (from, at) = pass.saved.values.at(part.steps.start);
        let product = kernel::Matmul {
            accumulate: (!part.first || builder.adds()) as u32,
            k_split: batch,
            a_offset: (part.steps.start - part.chunk_start) * sizes.h_slot() + d * batch * width,
            a_m_lo: 1,
            a_k_hi: sizes.h_slot() as i32,
            a_k_lo: width as i32,
            b_offset: at + sizes.cell.saved as u32 * sizes.slot() + d * batch * hidden,
            b_k_hi: (sizes.planes() * sizes.slot()) as i32,
            b_k_lo: hidden as i32,
            c_offset: d * width * hidden,
            ..kernel::Matmul::plain(width, hidden, part.steps.len() as u32 * batch)
        };
        builder.matmul(product, pass.scratch.dy, from, to);
    }
}
