//! A single step in inference whose input product is part of the step, for streams of few rows on devices where a dispatch costs more
//! than its work.

use super::forward::ForwardPass;
use super::sizes::LstmSizes;
use crate::error::Result;
use crate::kernel::{self, FusedStepConstants};
use crate::plan::{BufferId, Capabilities, Launch, Recurrence, StepWeights};
use crate::schedule::builder::Builder;
use crate::schedule::sequence::Sequence;
use crate::schedule::step_weights::StepMatrix;

/// Rows up to which a step takes its input product along; products of more rows are better made apart.
const MOST_ROWS: u32 = 16;

impl LstmSizes {
    /// The launch of a step from its input; `None` where the product is made apart.
    pub(super) fn fused_step(&self, layer: usize, capabilities: &Capabilities) -> Option<Launch> {
        let few = capabilities.shared_terms && self.steps == 1 && self.batch <= MOST_ROWS;
        let plain = self.fused() && self.heads == 1 && !self.projected();
        let what = Recurrence { input: Some(self.layer_input(layer as u32)), ..self.recurrence(super::Pass::Forward) };
        if few && plain { Launch::best(&what, capabilities) } else { None }
    }
}

/// Adds the step, from the states at `start`, which lie in buffers of their own. c takes the place of c'; returns its address.
pub(super) fn step(
    builder: &mut Builder,
    pass: &ForwardPass,
    launch: Launch,
    x: &Sequence,
    [before, c_before]: [(BufferId, u32); 2],
) -> Result<(BufferId, u32)> {
    let sizes = pass.sizes;
    let form = builder.step_form(launch.division, false);
    let mut converted = |name: &str, weights: BufferId, terms: u32| -> Result<BufferId> {
        let matrix = StepMatrix { terms, ..sizes.step_matrix(form, sizes.hidden) };
        if terms == 0 {
            return Ok(weights);
        }
        let buffer = builder.step_weights(&format!("{}.{name}", pass.name), weights, &matrix)?;
        builder.convert_weights(weights, buffer, &matrix);
        Ok(buffer)
    };
    let w = converted("W", pass.weights.w, x.features)?;
    let r = converted("R", pass.r, sizes.seen())?;
    let c = if builder.is_state(c_before.0) {
        c_before
    } else {
        let c = pass.buffer(builder, "c in place", sizes.c_slot() as u64)?;
        builder.copy_run(sizes.c_slot(), c_before, (c, 0));
        (c, 0)
    };
    let (x_buffer, xw_offset) = x.at(0);
    let [zoneout_h, zoneout_c] = sizes.zoneout(false);
    let params = kernel::ScanForward {
        batch: sizes.batch,
        directions: sizes.directions,
        biases: sizes.biases,
        steps: 1,
        xw_offset,
        saved_offset: x.row,
        h_in: before.1,
        c_in: c.1,
        first_step: builder.first_step(),
        total_steps: sizes.steps,
        backwards: sizes.backwards as u32,
        keep_h: zoneout_h.share,
        keep_c: zoneout_c.share,
        ..bytemuck::Zeroable::zeroed()
    }
    .with_settings(&sizes.settings);
    let constants = FusedStepConstants { common: sizes.forward_constants(&launch), input: x.features };
    let kernel = match form {
        StepWeights::F32 => &kernel::FUSED_STEP,
        StepWeights::F16 => &kernel::FUSED_STEP_HALF,
        StepWeights::Int8 => &kernel::FUSED_STEP_INT8,
    };
    let h = pass.h.at(0).0;
    let buffers = [w, r, pass.weights.bias, x_buffer, before.0, h, c.0, pass.key_and_lengths];
    builder.push(kernel, Some(sizes.cell), &constants, &params, &buffers);
    Ok(c)
}
