//! A GRU's reset gate before the product: the candidate n has R_n·(r ⊙ h') (Cho et al. 2014, Keras's `reset_after=False`).
//!
//! The gate is computed from its columns of W·x and R·h'; R_n·(r ⊙ h') is added to the column of n in W·x.

use super::LstmSizes;
use super::backward::BackwardPass;
use super::forward::ForwardPass;
use super::product::RecurrentProduct;
use super::sizes::G;
use super::stage::{Emit, GradientPart, SentBack, Stage, Step, StepGradient, StepTensor};
use crate::error::Result;
use crate::kernel::{self, ResetConstants};
use crate::plan::BufferId;
use crate::schedule::builder::Builder;

/// The column of the candidate n.
const N: u32 = 2;

/// The reset gate before the product.
pub static RESET: Stage = Stage {
    reason: Some("the reset gate comes before the recurrent product"),
    ..Stage::new("reset", |builder, pass| Ok(Box::new(Reset::new(builder, pass)?)))
};

#[derive(Debug)]
struct Reset {
    product: RecurrentProduct,
    /// s = r ⊙ h', [D, B, H].
    s: StepTensor,
    /// R_n·s, [D, B, H].
    rs: BufferId,
    gradients: Option<Gradients>,
}

#[derive(Debug)]
struct Gradients {
    /// Gradient of s, [D, B, H].
    ds: BufferId,
    /// Gradient of R_n, [D, H, H].
    dr_n: BufferId,
    /// Gradients of R·h' of a chunk, [steps, D, B, 4H].
    dg_r: BufferId,
    sent: SentBack,
}

impl Reset {
    fn new(builder: &mut Builder, pass: &ForwardPass) -> Result<Reset> {
        let (sizes, slot, hidden) = (pass.sizes, pass.sizes.slot() as u64, pass.sizes.hidden as u64);
        let s = match pass.train {
            true => pass.every_step(builder, "r·h", sizes.hidden)?,
            false => StepTensor::One(pass.buffer(builder, "r·h", slot)?),
        };
        let chunk = builder.chunk_steps(sizes.steps) as u64;
        let gradients = pass.in_training(|| {
            Ok(Gradients {
                ds: sizes.scratch(builder, "ds", slot)?,
                dr_n: sizes.scratch(builder, "dR of n", sizes.directions as u64 * hidden * hidden)?,
                dg_r: sizes.scratch(builder, "gradients of R·h", chunk * sizes.gate_slot() as u64)?,
                sent: SentBack::new(builder, sizes)?,
            })
        })?;
        Ok(Reset { product: pass.product()?.clone(), s, rs: pass.buffer(builder, "R·s", slot)?, gradients })
    }

    /// Computes the gate, and s = r ⊙ h'.
    fn gate(&self, builder: &mut Builder, pass: &ForwardPass, step: &Step) {
        let (sizes, at) = (pass.sizes, step.steps.start);
        let gate = sizes.settings.gate;
        let ((rh, _), (h, h_offset)) = (self.product.rh.at(at), self.product.h(pass, at));
        let ((xw, xw_offset), (s, s_offset)) = (pass.xw_of(step), self.s.at(at));
        let params = kernel::ResetForward {
            batch: sizes.batch,
            directions: sizes.directions,
            hidden: sizes.hidden,
            biases: sizes.biases,
            xw_offset,
            h_offset,
            s_offset,
            alpha: gate.alpha,
            beta: gate.beta,
            clip: sizes.settings.clip,
        };
        let constants = ResetConstants { kind: gate.kind };
        builder.push(&kernel::RESET_FORWARD, None, &constants, &params, &[rh, pass.weights.bias, h, xw, s]);
    }

    /// Computes R_n·s.
    fn candidate_product(&self, builder: &mut Builder, pass: &ForwardPass, step: u32) {
        let LstmSizes { batch, hidden, directions, .. } = *pass.sizes;
        let (s, a_offset) = self.s.at(step);
        for d in 0..directions {
            let product = kernel::Matmul {
                a_offset: a_offset + d * batch * hidden,
                b_offset: d * pass.sizes.r_direction() + N,
                b_k_lo: pass.sizes.columns() as i32,
                b_n: G as i32,
                c_offset: d * batch * hidden,
                ..kernel::Matmul::plain(batch, hidden, hidden)
            };
            builder.matmul(product, s, pass.r, self.rs);
        }
    }
}

impl Gradients {
    /// Computes ds = dn·R_nᵀ.
    fn through_candidate(&self, builder: &mut Builder, pass: &BackwardPass, step: &StepGradient) {
        let LstmSizes { batch, hidden, .. } = *pass.sizes;
        for direction in pass.sizes.each_direction() {
            let d = direction.index;
            let product = kernel::Matmul {
                a_offset: pass.gate_gradients(direction, step.local()) + N,
                a_m_lo: pass.sizes.columns() as i32,
                a_k_lo: G as i32,
                b_offset: d * pass.sizes.r_direction() + N,
                b_k_lo: G as i32,
                b_n: pass.sizes.columns() as i32,
                c_offset: d * batch * hidden,
                ..kernel::Matmul::plain(batch, hidden, hidden)
            };
            builder.matmul(product, pass.scratch.dg, pass.trace.r, self.ds);
        }
    }
}

impl Emit for Reset {
    fn forward(&self, builder: &mut Builder, pass: &ForwardPass, step: &Step) {
        self.gate(builder, pass, step);
        self.candidate_product(builder, pass, step.steps.start);
        let [rows, units] = [pass.sizes.directions * pass.sizes.batch, pass.sizes.hidden];
        let (xw, at) = pass.xw_of(step);
        let (from, to) = ([0, 0, units as i32, 1], [0, 0, (G * units) as i32, G as i32]);
        builder.copy([1, 1, rows, units], (self.rs, 0), from, (xw, at + N), to, true);
    }

    /// Computes the reset gate's gradient, and that of h' by way of s.
    fn backward(&self, builder: &mut Builder, pass: &BackwardPass, step: &mut StepGradient) {
        let (sizes, Some(gradients)) = (pass.sizes, &self.gradients) else { return };
        let LstmSizes { batch, hidden, directions, .. } = *sizes;
        gradients.through_candidate(builder, pass, step);
        let (history, h_out) = pass.trace.h.at(step.steps.start);
        let mut h = (history, h_out - sizes.h_slot());
        let drop = pass.trace.recurrent_drop;
        if let Some(drop) = drop {
            builder.drop_rows(pass.key_and_lengths, [1, directions * batch, hidden], h, gradients.sent.masked, drop);
            h = (gradients.sent.masked, 0);
        }
        let back = gradients.sent.before_mask(drop.is_some());
        let (saved, saved_offset) = pass.saved.values.at(step.steps.start);
        let (gate, clip) = (sizes.settings.gate, sizes.settings.clip);
        let params = kernel::ResetBackward {
            batch,
            directions,
            hidden,
            saved_offset,
            h_offset: h.1,
            dg_offset: step.local() * sizes.gate_slot(),
            clipped: (clip < f32::MAX) as u32,
            alpha: gate.alpha,
            beta: gate.beta,
            clip,
        };
        let buffers = [gradients.ds, saved, h.0, pass.scratch.dg, gradients.dg_r, back, pass.scratch.sums];
        builder.push(&kernel::RESET_BACKWARD, None, &ResetConstants { kind: gate.kind }, &params, &buffers);
        step.sent_before_mask = true;
    }

    fn product_gradients(&self) -> Option<BufferId> {
        self.gradients.as_ref().map(|gradients| gradients.dg_r)
    }

    /// Computes dR_n[d] (+)= Σ over steps and rows of s[s, d, b]ᵀ·dn[s, d, b].
    fn weight_gradients(&self, builder: &mut Builder, pass: &BackwardPass, part: &GradientPart) {
        let (sizes, Some(gradients), StepTensor::Every(s)) = (pass.sizes, &self.gradients, &self.s) else { return };
        let LstmSizes { batch, hidden, .. } = *sizes;
        let (from, at) = s.at(part.steps.start);
        let d = part.direction.index;
        let product = kernel::Matmul {
            accumulate: !part.first as u32,
            k_split: batch,
            a_offset: at + d * batch * hidden,
            a_m_lo: 1,
            a_k_hi: sizes.slot() as i32,
            a_k_lo: hidden as i32,
            b_offset: pass.gate_gradients(part.direction, part.steps.start - part.chunk_start) + N,
            b_k_hi: sizes.gate_slot() as i32,
            b_k_lo: sizes.columns() as i32,
            b_n: G as i32,
            c_offset: d * hidden * hidden,
            ..kernel::Matmul::plain(hidden, hidden, part.steps.len() as u32 * batch)
        };
        builder.matmul(product, from, pass.scratch.dg, gradients.dr_n);
    }

    /// Adds dR_n to dR, segment of time by segment.
    fn end_backward(&self, builder: &mut Builder, pass: &BackwardPass) {
        let (sizes, Some(gradients)) = (pass.sizes, &self.gradients) else { return };
        let LstmSizes { hidden, directions, .. } = *sizes;
        let from = [0, (hidden * hidden) as i32, hidden as i32, 1];
        let to = [0, sizes.r_direction() as i32, sizes.columns() as i32, G as i32];
        builder.copy([1, directions, hidden, hidden], (gradients.dr_n, 0), from, (pass.dr, N), to, true);
    }
}
