//! The recurrent product R·h' of a step, with h' under its dropout mask, and its gradient.
//!
//! If the cell is the next stage, its kernel computes the product in the forward pass; if the whole step is fused, also in the
//! backward pass.

use super::backward::BackwardPass;
use super::forward::ForwardPass;
use super::stage::{Emit, SentBack, Stage, Step, StepGradient, StepTensor};
use crate::error::Result;
use crate::kernel;
use crate::plan::BufferId;
use crate::schedule::builder::Builder;

/// The recurrent product.
pub static PRODUCT: Stage = Stage::new("product", |builder, pass| {
    let sends = pass.train && !pass.sizes.fused();
    let gradients = sends.then(|| SentBack::new(builder, pass.sizes)).transpose()?;
    Ok(Box::new(Product { made: pass.product.clone(), gradients }))
});

#[derive(Debug)]
struct Product {
    /// Buffers of the product; `None` if the cell computes it.
    made: Option<RecurrentProduct>,
    gradients: Option<SentBack>,
}

/// Buffers of a product that is computed outside of the cell.
#[derive(Clone, Debug)]
pub(super) struct RecurrentProduct {
    /// R·h', [D, B, 4H].
    pub rh: StepTensor,
    /// h' under its mask, [D, B, K].
    masked: Option<BufferId>,
}

impl RecurrentProduct {
    /// Declares the buffers of the product; `None` if the cell computes it.
    pub fn new(builder: &mut Builder, pass: &ForwardPass) -> Result<Option<RecurrentProduct>> {
        let sizes = pass.sizes;
        if sizes.cell_multiplies() || !sizes.has_product() {
            return Ok(None);
        }
        let drop = pass.recurrent_drop;
        let masked = drop.map(|_| pass.buffer(builder, "h masked", sizes.h_slot() as u64)).transpose()?;
        let rh = match pass.train && sizes.stages.iter().any(|stage| stage.reads_product) {
            true => pass.every_step(builder, "R·h", sizes.columns())?,
            false => StepTensor::One(pass.buffer(builder, "R·h", sizes.gate_slot() as u64)?),
        };
        Ok(Some(RecurrentProduct { rh, masked }))
    }

    /// Address of the h' that a step multiplies, under its mask.
    pub fn h(&self, pass: &ForwardPass, step: u32) -> (BufferId, u32) {
        self.masked.map_or_else(|| pass.h_before(step), |masked| (masked, 0))
    }
}

impl Emit for Product {
    /// Computes R·h' of all columns.
    fn forward(&self, builder: &mut Builder, pass: &ForwardPass, step: &Step) {
        let Some(product) = &self.made else { return };
        let (sizes, step) = (pass.sizes, step.steps.start);
        let (batch, width, columns) = (sizes.batch, sizes.width, sizes.columns());
        if let (Some(masked), Some(drop)) = (product.masked, pass.recurrent_drop) {
            let shape = [1, sizes.directions * batch, width];
            builder.drop_rows(pass.key_and_lengths, shape, pass.h_before(step), masked, drop);
        }
        let ((h, at), (to, c_offset)) = (product.h(pass, step), product.rh.at(step));
        for d in 0..sizes.directions {
            let product = kernel::Matmul {
                a_offset: at + d * batch * width,
                b_offset: d * sizes.r_direction(),
                c_offset: c_offset + d * batch * columns,
                ..kernel::Matmul::plain(batch, columns, width)
            };
            builder.matmul(product, h, pass.r, to);
        }
    }

    /// Adds the gradient of h', through R and the mask.
    fn send_back(&self, builder: &mut Builder, pass: &BackwardPass, step: &mut StepGradient) {
        let Some(sent) = self.gradients else { return };
        let (sizes, drop) = (pass.sizes, pass.trace.recurrent_drop);
        let adds = step.sent_before_mask || (drop.is_none() && step.sent);
        let to = sent.before_mask(drop.is_some());
        through_r(builder, pass, step.local(), to, adds);
        let Some(drop) = drop else { return };
        let shape = [1, sizes.directions * sizes.batch, sizes.width];
        if !step.sent {
            builder.drop_rows(pass.key_and_lengths, shape, (to, 0), sent.to_h, drop);
            return;
        }
        builder.drop_rows(pass.key_and_lengths, shape, (to, 0), sent.masked, drop);
        builder.add_run(sizes.h_slot(), (sent.masked, 0), (sent.to_h, 0));
    }

    /// Computes dh_0, the gradient that the first step sends back.
    fn initial_gradients(&self, builder: &mut Builder, pass: &BackwardPass, [dh_0, _]: [BufferId; 2]) {
        let sizes = pass.sizes;
        if let Some(sent) = self.gradients {
            builder.copy_run(sizes.h_slot(), (sent.to_h, 0), (dh_0, 0));
            return;
        }
        match pass.trace.recurrent_drop {
            None => through_r(builder, pass, 0, dh_0, false),
            Some(drop) => {
                let to = pass.scratch.dy; // no longer needed by its chunk
                through_r(builder, pass, 0, to, false);
                let shape = [1, sizes.directions * sizes.batch, sizes.width];
                builder.drop_rows(pass.key_and_lengths, shape, (to, 0), dh_0, drop);
            }
        }
    }
}

/// Computes the gradient of h' under its mask: to[D, B, K] (+)= dg[D, B, 4H]·R[d]ᵀ of a step, a product for each head.
fn through_r(builder: &mut Builder, pass: &BackwardPass, local_step: u32, to: BufferId, adds: bool) {
    let sizes = pass.sizes;
    let (batch, width, columns) = (sizes.batch, sizes.width, sizes.columns());
    let (units, gates) = (sizes.seen(), columns / sizes.heads);
    for direction in sizes.each_direction() {
        let d = direction.index;
        for head in 0..sizes.heads {
            let product = kernel::Matmul {
                accumulate: adds as u32,
                a_offset: pass.gate_gradients(direction, local_step) + head * gates,
                a_m_lo: columns as i32,
                b_offset: d * sizes.r_direction() + head * gates,
                b_k_lo: 1,
                b_n: columns as i32,
                c_offset: d * batch * width + head * units,
                c_m_lo: width as i32,
                ..kernel::Matmul::plain(batch, units, gates)
            };
            builder.matmul(product, pass.dg_r, pass.trace.r, to);
        }
    }
}
