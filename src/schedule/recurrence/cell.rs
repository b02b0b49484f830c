//! The cell: gates, activations and cell update of all directions, by the scan's kernels.
//!
//! The scan also computes the recurrent product if that is the stage before. If a step has no other stages, one dispatch of the
//! scan may run many steps, forward and backward.

use super::backward::BackwardPass;
use super::forward::ForwardPass;
use super::grid::Grid;
use super::sizes::{Drops, Pass};
use super::stage::{Emit, Stage, Step, StepGradient};
use crate::error::Result;
use crate::kernel::{self, Carries, Division, Kernel, ScanBackwardConstants, ScanForwardConstants};
use crate::plan::{BufferId, Launch, StepWeights};
use crate::random;
use crate::schedule::builder::{Builder, DropoutMask};
use std::ops::Range;

/// The cell.
pub static CELL: Stage = Stage::new("cell", |builder, pass| Ok(Box::new(Cell::new(builder, pass)?)));

#[derive(Debug)]
struct Cell {
    kernel: &'static Kernel,
    launch: Launch,
    /// True if the scan computes the recurrent product.
    multiplies: bool,
    /// Recurrent weights as steps read them.
    r: BufferId,
    /// Factors of h' before the product, [D, B, K], or the unused buffer.
    mask: BufferId,
    /// The barrier, if a grid computes the steps.
    grid: Option<Grid>,
    gradients: Option<Gradients>,
}

#[derive(Debug)]
struct Gradients {
    launch: Launch,
    /// True if the scan computes a step's whole backward pass.
    fused: bool,
    /// Recurrent weights transposed, [D, 4H / heads, units]; one element if the scan does not multiply.
    rt: BufferId,
    /// Units of a row of them: H, or more where each head's units are padded.
    units: u32,
    /// The same as steps read them.
    step_rt: BufferId,
    /// The form of these.
    form: StepWeights,
}

impl Cell {
    fn new(builder: &mut Builder, pass: &ForwardPass) -> Result<Cell> {
        let sizes = pass.sizes;
        let (multiplies, unused) = (sizes.cell_multiplies(), builder.unused());
        let launch = sizes.launch(Pass::Forward, &builder.capabilities);
        let form = builder.step_form(launch.division, pass.train);
        let mut r = pass.r;
        if multiplies {
            let matrix = sizes.step_matrix(form, sizes.hidden);
            r = builder.step_weights(&format!("{}.R", pass.name), pass.r, &matrix)?;
            builder.convert_weights(pass.r, r, &matrix);
        }
        Ok(Cell {
            kernel: launch.division.kernel(false, if multiplies { form } else { StepWeights::F32 }),
            launch,
            multiplies,
            r,
            mask: pass.mask.unwrap_or(unused),
            grid: match launch.division {
                Division::Grid => Some(Grid::new(builder, pass, &launch)?),
                _ => None,
            },
            gradients: pass.in_training(|| Gradients::new(builder, pass))?,
        })
    }
}

impl Gradients {
    fn new(builder: &mut Builder, pass: &ForwardPass) -> Result<Gradients> {
        let (sizes, fused) = (pass.sizes, pass.sizes.fused());
        let launch = sizes.launch(Pass::Backward, &builder.capabilities);
        let form = builder.step_form(launch.division, true);
        let units = match launch.division {
            Division::Scan => sizes.hidden,
            Division::Step | Division::Sequence | Division::Grid => {
                sizes.heads * (sizes.hidden / sizes.heads).next_multiple_of(4)
            }
        };
        let len = if fused { sizes.r_len() / sizes.hidden as u64 * units as u64 } else { 1 };
        let rt = sizes.scratch(builder, "R transposed", len)?;
        Ok(Gradients {
            launch,
            fused,
            rt,
            units,
            step_rt: match fused {
                true => builder.step_weights(
                    &format!("{} R transposed", sizes.name),
                    rt,
                    &sizes.step_matrix(form, units),
                )?,
                false => rt,
            },
            form,
        })
    }

    /// Dropout of h' that the scan goes back through.
    fn drop(&self, pass: &BackwardPass) -> Option<DropoutMask> {
        pass.trace.recurrent_drop.filter(|_| self.fused)
    }

    fn params(&self, builder: &Builder, pass: &BackwardPass, step: &StepGradient) -> kernel::ScanBackward {
        let (sizes, dy) = (pass.sizes, &step.dy);
        let Range { start, end } = step.steps;
        let steps = end - start;
        // Steps of the range from here on have an output gradient.
        let from = dy.steps.start.clamp(start, end);
        let has_dy = from < dy.steps.end.min(end);
        let Drops { zoneout_h, zoneout_c, .. } = sizes.drops;
        let drop = self.drop(pass);
        kernel::ScanBackward {
            batch: sizes.batch,
            directions: sizes.directions,
            biases: sizes.biases,
            steps,
            has_next: (self.fused && sizes.has_product() && end < sizes.steps) as u32,
            first: (end == sizes.steps) as u32,
            dy_from: if has_dy { from - start } else { steps },
            dy_offset: if has_dy { dy.at.1 + (from - dy.steps.start) * dy.step } else { 0 },
            dy_step: dy.step,
            dy_direction: dy.direction,
            dy_row: dy.row,
            // It includes gradients that later steps sent back, also in rows past the end of their sequence.
            dy_whole: (sizes.cell_is_last() && (!self.fused || sizes.repeats_output)) as u32,
            saved_offset: pass.saved.values.at(start).1,
            saved_step: sizes.planes() * sizes.slot(),
            c_in: pass.saved.c.at(start).1 - sizes.c_slot(),
            dg_next: (end - step.chunk_start) * sizes.gate_slot(),
            dg_offset: step.local() * sizes.gate_slot(),
            first_step: builder.first_step() + start,
            total_steps: sizes.steps,
            backwards: sizes.backwards as u32,
            site: pass.trace.zoneout_stream,
            zoneout_h: random::threshold(zoneout_h),
            zoneout_c: random::threshold(zoneout_c),
            drop_site: drop.map_or(0, |drop| drop.rng_stream),
            drop: drop.map_or(0, |drop| drop.threshold()),
            drop_scale: drop.map_or(1.0, |drop| drop.scale()),
            ..bytemuck::Zeroable::zeroed()
        }
        .with_settings(&sizes.settings)
    }
}

impl Emit for Cell {
    fn begin_chunk(&self, builder: &mut Builder, _: &ForwardPass, chunk: &Range<u32>) {
        if let (Some(grid), 0) = (&self.grid, chunk.start) {
            grid.begin(builder);
        }
    }

    fn forward(&self, builder: &mut Builder, pass: &ForwardPass, step: &Step) {
        let (sizes, first) = (pass.sizes, step.steps.start);
        let (h, h_in) = pass.h_before(first);
        let c = pass.states.at(first, step.dispatch, sizes.c_slot());
        let (saved, saved_offset) = pass.states.saved(first);
        let [zoneout_h, zoneout_c] = sizes.zoneout(pass.train);
        let params = kernel::ScanForward {
            batch: sizes.batch,
            directions: sizes.directions,
            biases: sizes.biases,
            steps: step.steps.len() as u32,
            xw_offset: pass.xw_of(step).1,
            h_in,
            c_in: c.before,
            c_out: c.after,
            saved_offset,
            first_step: builder.first_step() + first,
            total_steps: sizes.steps,
            backwards: sizes.backwards as u32,
            site: pass.zoneout_stream,
            zoneout_h: zoneout_h.threshold,
            zoneout_c: zoneout_c.threshold,
            keep_h: zoneout_h.share,
            keep_c: zoneout_c.share,
            ..bytemuck::Zeroable::zeroed()
        }
        .with_settings(&sizes.settings);
        let buffers = [pass.xw, self.r, pass.weights.bias, h, c.buffer, saved, pass.key_and_lengths, self.mask];
        let constants = ScanForwardConstants {
            train: pass.train,
            drop: pass.recurrent_drop.is_some() && self.multiplies,
            ..sizes.forward_constants(&self.launch)
        };
        match &self.grid {
            Some(grid) => grid.forward(builder, pass, step, (params, constants), buffers),
            None => builder.push(self.kernel, Some(sizes.cell), &constants, &params, &buffers),
        }
    }

    /// R transposed, head by head: [D, 4H / heads, units] from [D, H / heads, 4H].
    fn begin_backward(&self, builder: &mut Builder, pass: &BackwardPass) {
        let Some(Gradients { fused: true, rt, step_rt, units, form, .. }) = self.gradients else { return };
        let (sizes, columns) = (pass.sizes, pass.sizes.columns());
        if !sizes.has_product() {
            return;
        }
        let (direction, gates, seen) = (sizes.r_direction() as i32, columns / sizes.heads, sizes.seen());
        let of_head = |stride: u32| if sizes.heads == 1 { 0 } else { stride as i32 };
        if units != sizes.hidden {
            builder.fill(rt, 0..direction as u32 / sizes.hidden * units * sizes.directions, 0.0);
        }
        builder.copy(
            [sizes.heads, sizes.directions, gates, seen],
            (pass.trace.r, 0),
            [of_head(gates), direction, 1, columns as i32],
            (rt, 0),
            [of_head(units / sizes.heads), (gates * units) as i32, units as i32, 1],
            false,
        );
        builder.convert_weights(rt, step_rt, &sizes.step_matrix(form, units));
    }

    /// Copies the gate gradients of the chunk after this one, which are in slot 0, to the slot after the last step.
    fn begin_chunk_backward(&self, builder: &mut Builder, pass: &BackwardPass, chunk: &Range<u32>) {
        let (sizes, scratch) = (pass.sizes, pass.scratch);
        if sizes.fused() && chunk.end < sizes.steps {
            let (slot, after) = (sizes.gate_slot(), chunk.len() as u32 * sizes.gate_slot());
            builder.copy_run(slot, (scratch.dg, 0), (scratch.carry, 0));
            builder.copy_run(slot, (scratch.carry, 0), (scratch.dg, after));
        }
    }

    fn backward(&self, builder: &mut Builder, pass: &BackwardPass, step: &mut StepGradient) {
        let (sizes, scratch, Some(gradients)) = (pass.sizes, pass.scratch, &self.gradients) else { return };
        let (saved, c) = (pass.saved.values.at(step.steps.start).0, pass.saved.c.at(step.steps.start).0);
        let buffers = [
            saved,
            c,
            step.dy.at.0,
            gradients.step_rt,
            scratch.dg,
            scratch.sums,
            pass.key_and_lengths,
            pass.weights.bias,
        ];
        let constants = ScanBackwardConstants {
            h: sizes.hidden,
            drop: gradients.drop(pass).is_some(),
            carries: Carries(sizes.cell_carries()),
            kinds: sizes.settings.kinds(),
            rows: gradients.launch.rows,
            units: gradients.launch.units,
            span: gradients.launch.span,
            threads: gradients.launch.threads,
            terms: match gradients.launch.division {
                // Steps that are not fused have no later step in this kernel.
                Division::Step if !gradients.fused => 0,
                _ if sizes.has_product() => sizes.hidden / sizes.heads,
                _ => 0,
            },
            heads: sizes.heads,
            memory: gradients.launch.memory,
        };
        let kernel =
            gradients.launch.division.kernel(true, if gradients.fused { gradients.form } else { StepWeights::F32 });
        let params = gradients.params(builder, pass, step);
        builder.push(kernel, Some(sizes.cell), &constants, &params, &buffers);
    }

    /// Adds the gradient carried past the cell to dh_0, and that of c to dh_0 where both are one state.
    fn initial_gradients(&self, builder: &mut Builder, pass: &BackwardPass, [dh_0, _]: [BufferId; 2]) {
        let (sizes, sums) = (pass.sizes, pass.scratch.sums);
        if !sizes.has_product() {
            builder.fill(dh_0, 0..sizes.h_slot(), 0.0);
        }
        if sizes.cell_carries() > 0 && !sizes.projected() {
            builder.add_run(sizes.slot(), (sums, pass.past()), (dh_0, 0));
        }
        if sizes.cell.state_is_hidden {
            builder.add_run(sizes.slot(), (sums, pass.dc()), (dh_0, 0));
        }
    }
}
