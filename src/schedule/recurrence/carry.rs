//! The hidden state of rows past the end of their sequence, where the cell does not compute it: h = h'.

use super::LstmSizes;
use super::backward::BackwardPass;
use super::forward::ForwardPass;
use super::stage::{Emit, SentBack, Stage, Step, StepGradient};
use crate::error::Result;
use crate::kernel::{self, NoConstants};
use crate::plan::BufferId;
use crate::schedule::builder::Builder;

/// Carries the hidden state past the end of sequences; emits no command in batches without lengths.
pub static CARRY: Stage = Stage::new("carry", |builder, pass| Ok(Box::new(Carry::new(builder, pass)?)));

#[derive(Debug)]
struct Carry {
    /// h', [D, B, K]; `None` in batches without lengths.
    before: Option<BufferId>,
    gradients: Option<SentBack>,
}

impl Carry {
    fn new(builder: &mut Builder, pass: &ForwardPass) -> Result<Carry> {
        let sizes = pass.sizes;
        if !sizes.ragged {
            return Ok(Carry { before: None, gradients: None });
        }
        let before = Some(pass.buffer(builder, "h before", sizes.h_slot() as u64)?);
        let gradients = pass.in_training(|| SentBack::new(builder, sizes))?;
        Ok(Carry { before, gradients })
    }
}

impl Emit for Carry {
    fn forward(&self, builder: &mut Builder, pass: &ForwardPass, step: &Step) {
        let (sizes, Some(before)) = (pass.sizes, self.before) else { return };
        let at = step.steps.start;
        builder.copy_run(sizes.h_slot(), pass.h_before(at), (before, 0));
        carry(builder, sizes, at, pass.key_and_lengths, [(before, 0), pass.h.at(at)]);
    }

    fn send_back(&self, builder: &mut Builder, pass: &BackwardPass, step: &mut StepGradient) {
        let (sizes, Some(sent)) = (pass.sizes, self.gradients) else { return };
        builder.fill(sent.to_h, 0..sizes.h_slot(), 0.0);
        let dh = (pass.scratch.dy, step.local() * sizes.h_slot());
        carry(builder, sizes, step.steps.start, pass.key_and_lengths, [dh, (sent.to_h, 0)]);
        step.sent = true;
    }
}

/// Copies states [D, B, K], or their gradients, of rows that are past the end of their sequence at a step.
fn carry(
    builder: &mut Builder,
    sizes: &LstmSizes,
    step: u32,
    key_and_lengths: BufferId,
    [(from, src_offset), (to, dst_offset)]: [(BufferId, u32); 2],
) {
    let params = kernel::Carry {
        batch: sizes.batch,
        directions: sizes.directions,
        features: sizes.width,
        src_offset,
        dst_offset,
        step: builder.first_step() + step,
        total_steps: sizes.steps,
        backwards: sizes.backwards as u32,
        add: 0,
    };
    builder.push(&kernel::CARRY, None, &NoConstants, &params, &[key_and_lengths, from, to]);
}
