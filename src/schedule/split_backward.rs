//! Time steps that are more than one dispatch, backward; see `split_forward.rs`.
//!
//! A step's output gradient, with what the later step sent back, goes through what came after the cell, then through the cell, then
//! through what came between products and cell; what it sends back to the step before lies in `back` until then.

use super::backward::{Gradient, Layer};
use super::builder::Builder;
use super::forward::{Beside, EPSILON, LstmSizes, Split};
use super::sequence::Direction;
use super::strategy::{Launch, MOST_TURNS};
use crate::cell::GATES;
use crate::error::Result;
use crate::kernel::{
    self, Carries, NoConstants, NormBackwardConstants, NormStateBackwardConstants, ResetConstants, params,
};
use crate::plan::{BufferId, Role};
use std::ops::Range;

const G: u32 = GATES as u32;

/// Scratch of split steps.
pub(super) struct SplitScratch {
    /// What a step sends back to the hidden state before it, [D, B, K].
    pub back: BufferId,
    /// Gradients of W·x of a chunk, [steps, D, B, 4H], where they are not those of the gates.
    pub dg_x: Option<BufferId>,
    /// Gradients of R·h', the same.
    pub dg_r: Option<BufferId>,
    /// Room for products [D, B, K] on their way through the mask of h'.
    product: BufferId,
    masked: BufferId,
    own: Own,
}

/// What one kind of split has beside that.
enum Own {
    /// Gradient of what is projected, [D, B, H].
    Projection { dm: BufferId },
    /// Gradients of the output gate and, summed over time, of the cell state's normalisation, and room, [4, D, B, H]; those of the
    /// products' normalisations, summed over time, [D, B, 4H].
    Norm { out: BufferId, terms_x: BufferId, terms_h: BufferId },
    /// Gradients of s = r ⊙ h' [D, B, H], and of the recurrent weights of n [D, H, H].
    Reset { ds: BufferId, dr_n: BufferId },
}

impl SplitScratch {
    pub fn new(builder: &mut Builder, sizes: &LstmSizes) -> Result<Option<SplitScratch>> {
        let Some(split) = sizes.split else { return Ok(None) };
        let chunk = builder.chunk_steps(sizes.steps) as u64;
        let (slot, h_slot, gates) = (sizes.slot() as u64, sizes.h_slot() as u64, G as u64 * sizes.slot() as u64);
        let mut room = |kind: &str, len: u64| builder.buffer(format!("{} {kind}", sizes.name), len, Role::Scratch);
        let masked = if sizes.drops.recurrent > 0.0 { h_slot } else { 1 };
        Ok(Some(SplitScratch {
            back: room("sent back", h_slot)?,
            dg_x: if split == Split::Norm { Some(room("gradients of W·x", chunk * gates)?) } else { None },
            dg_r: if split != Split::Projection { Some(room("gradients of R·h", chunk * gates)?) } else { None },
            product: room("sent back before the mask", masked)?,
            masked: room("h masked", masked)?,
            own: match split {
                Split::Projection => Own::Projection { dm: room("dm", slot)? },
                Split::Norm => Own::Norm {
                    out: room("do and normalisation of c", 4 * slot)?,
                    terms_x: room("normalisation of W·x", gates)?,
                    terms_h: room("normalisation of R·h", gates)?,
                },
                Split::Reset => Own::Reset {
                    ds: room("ds", slot)?,
                    dr_n: room("dR of n", sizes.directions as u64 * sizes.hidden as u64 * sizes.hidden as u64)?,
                },
            },
        }))
    }
}

impl Layer<'_> {
    /// One step; `first` is the first step of its chunk.
    pub(super) fn split_step(
        &self,
        builder: &mut Builder,
        launch: Launch,
        split: &SplitScratch,
        step: u32,
        first: u32,
    ) {
        let (sizes, scratch) = (self.sizes, self.scratch);
        let LstmSizes { batch, hidden, width, .. } = *sizes;
        let (h_slot, run) = (sizes.h_slot(), [0, 0, 0, 1]);
        let dh = (scratch.dy, (step - first) * h_slot);
        if step + 1 < sizes.steps {
            builder.copy([1, 1, 1, h_slot], (split.back, 0), run, dh, run, true);
        }
        let gradient = |at: (BufferId, u32), width: u32| Gradient {
            at,
            steps: step..step + 1,
            step: 0,
            direction: batch * width,
            row: width,
        };
        match split.own {
            Own::Projection { dm } => {
                self.through_projection(builder, dh, dm);
                self.scan(builder, launch, &gradient((dm, 0), hidden), step..step + 1, first);
                if sizes.ragged {
                    builder.fill(split.back, 0..h_slot, 0.0);
                    sizes.carry(builder, self.words, step, dh, (split.back, 0), false);
                }
                self.send_back(builder, split, step, first, sizes.ragged);
            }
            Own::Norm { out, terms_h, .. } => {
                self.through_normal_state(builder, split, out, dh, step);
                self.scan(builder, launch, &gradient((out, 0), hidden), step..step + 1, first);
                if let (Some(dg_r), Some(Beside::Norm { rh, .. })) = (split.dg_r, &self.kept.beside)
                    && let Some(norm) = self.weights.norm
                {
                    let last = step + 1 == sizes.steps;
                    let at = (step - first) * G * sizes.slot();
                    self.through_norm(builder, norm.h, rh.at(step), (dg_r, at), terms_h, 1, !last);
                }
                self.send_back(builder, split, step, first, true);
            }
            Own::Reset { ds, .. } => {
                self.scan(builder, launch, &gradient(dh, width), step..step + 1, first);
                self.through_reset(builder, split, ds, step, first);
                self.send_back(builder, split, step, first, true);
            }
        }
    }

    /// dm[d] = dh[d]·W_hr.
    fn through_projection(&self, builder: &mut Builder, (dh, at): (BufferId, u32), dm: BufferId) {
        let LstmSizes { batch, hidden, width, directions, .. } = *self.sizes;
        let Some(projection) = self.weights.projection else { return };
        for d in 0..directions {
            let product = params::Matmul {
                a_offset: at + d * batch * width,
                b_offset: d * width * hidden,
                c_offset: d * batch * hidden,
                ..params::Matmul::plain(batch, hidden, width)
            };
            builder.matmul(product, dh, projection, dm);
        }
    }

    /// What the step's products send back to h'. `adds`: to what already lies there.
    fn send_back(&self, builder: &mut Builder, split: &SplitScratch, step: u32, first: u32, adds: bool) {
        let LstmSizes { batch, width, directions, .. } = *self.sizes;
        let drop = self.trace.recurrent_drop;
        // The reset gate's part goes through the mask, too.
        let begun = matches!(split.own, Own::Reset { .. });
        let to = if drop.is_some() { split.product } else { split.back };
        for direction in self.sizes.each_direction() {
            let from = self.gate_gradients(direction, step - first);
            let at = direction.index * batch * width;
            self.back_through_r(builder, direction.index, from, (to, at), begun || (drop.is_none() && adds));
        }
        let Some(drop) = drop else { return };
        let shape = [1, directions * batch, width];
        if begun {
            builder.drop_rows(self.words, shape, (to, 0), split.back, drop);
            return;
        }
        builder.drop_rows(self.words, shape, (to, 0), split.masked, drop);
        let (slot, run) = (self.sizes.h_slot(), [0, 0, 0, 1]);
        builder.copy([1, 1, 1, slot], (split.masked, 0), run, (split.back, 0), run, true);
    }

    /// From the gradients of a step's states to those of its output gate and of the cell state that it made.
    fn through_normal_state(
        &self,
        builder: &mut Builder,
        split: &SplitScratch,
        out: BufferId,
        (dh, dh_offset): (BufferId, u32),
        step: u32,
    ) {
        let (sizes, scratch) = (self.sizes, self.scratch);
        let Some(norm) = self.weights.norm else { return };
        let (c, c_out) = self.kept.c.at(step);
        let (saved, saved_offset) = self.kept.saved.at(step);
        let [zoneout_h, zoneout_c] = sizes.zoneout(true);
        let output = sizes.settings.output;
        let params = params::NormStateBackward {
            batch: sizes.batch,
            directions: sizes.directions,
            c_in: c_out - sizes.slot(),
            saved_offset,
            dh_offset,
            dc_offset: self.dc(),
            step: builder.first_step() + step,
            total_steps: sizes.steps,
            backwards: sizes.backwards as u32,
            site: self.trace.zoneout_site,
            zoneout_h: zoneout_h.chance,
            zoneout_c: zoneout_c.chance,
            alpha: output.alpha,
            beta: output.beta,
            cell_clip: sizes.settings.cell_clip,
            epsilon: EPSILON,
            first: (step + 1 == sizes.steps) as u32,
        };
        let constants = NormStateBackwardConstants {
            h: sizes.hidden,
            carries: Carries(sizes.carries()),
            kinds: sizes.settings.kinds(),
        };
        let buffers = [norm.c, c, saved, dh, self.words, scratch.sums, split.back, out];
        builder.push(&kernel::NORM_STATE_BACKWARD, None, &constants, &params, &buffers);
    }

    /// Gate gradients of some steps to those of a product before it was normalised; `add`s up what the gradients of its factors are
    /// made of.
    #[allow(clippy::too_many_arguments)] // what backward through a normalisation takes
    fn through_norm(
        &self,
        builder: &mut Builder,
        weight: BufferId,
        (x, x_offset): (BufferId, u32),
        (to, at): (BufferId, u32),
        terms: BufferId,
        steps: u32,
        add: bool,
    ) {
        let LstmSizes { batch, directions, hidden, .. } = *self.sizes;
        let params = params::NormBackward {
            rows: directions * batch,
            steps,
            features: G * hidden,
            group: batch,
            groups: directions,
            x_offset,
            dy_offset: at,
            dx_offset: at,
            epsilon: EPSILON,
        };
        builder.push(
            &kernel::NORM_BACKWARD,
            None,
            &NormBackwardConstants { add },
            &params,
            &[weight, x, self.scratch.dg, to, terms],
        );
    }

    /// The reset gate's gradient, and what goes to h' by way of s = r ⊙ h'.
    fn through_reset(&self, builder: &mut Builder, split: &SplitScratch, ds: BufferId, step: u32, first: u32) {
        let (sizes, scratch) = (self.sizes, self.scratch);
        let LstmSizes { batch, hidden, directions, .. } = *sizes;
        let Some(dr) = split.dg_r else { return };
        for direction in sizes.each_direction() {
            let d = direction.index;
            // ds = dn·R_nᵀ
            let product = params::Matmul {
                a_offset: self.gate_gradients(direction, step - first) + 2,
                a_m_lo: (G * hidden) as i32,
                a_k_lo: G as i32,
                b_offset: d * hidden * G * hidden + 2,
                b_k_lo: G as i32,
                b_n: (G * hidden) as i32,
                c_offset: d * batch * hidden,
                ..params::Matmul::plain(batch, hidden, hidden)
            };
            builder.matmul(product, scratch.dg, self.trace.r, ds);
        }
        let (history, h_out) = self.trace.h.at(step);
        let (mut h, mut back) = ((history, h_out - sizes.h_slot()), split.back);
        if let Some(drop) = self.trace.recurrent_drop {
            builder.drop_rows(self.words, [1, directions * batch, hidden], h, split.masked, drop);
            (h, back) = ((split.masked, 0), split.product);
        }
        let (saved, saved_offset) = self.kept.saved.at(step);
        let (gate, clip) = (sizes.settings.gate, sizes.settings.clip);
        let params = params::ResetBackward {
            batch,
            directions,
            hidden,
            saved_offset,
            h_offset: h.1,
            dg_offset: (step - first) * G * sizes.slot(),
            clipped: (clip < f32::MAX) as u32,
            alpha: gate.alpha,
            beta: gate.beta,
            clip,
        };
        let buffers = [ds, saved, h.0, scratch.dg, dr, back, scratch.sums];
        builder.push(&kernel::RESET_BACKWARD, None, &ResetConstants { kind: gate.kind }, &params, &buffers);
    }

    /// What follows the steps of a chunk.
    pub(super) fn after_chunk(&self, builder: &mut Builder, split: &SplitScratch, range: Range<u32>) {
        let sizes = self.sizes;
        let (Own::Norm { terms_x, .. }, Some(norm), Some(dg_x)) = (&split.own, self.weights.norm, split.dg_x) else {
            return;
        };
        let Some(Beside::Norm { xw, .. }) = &self.kept.beside else { return };
        let turns = 4 * (G * sizes.hidden).div_ceil(64) + 30; // of a step
        let most = if builder.capabilities.short_loops { (MOST_TURNS / turns).max(1) } else { u32::MAX };
        for step in range.clone().step_by(most.min(sizes.steps) as usize) {
            let steps = most.min(range.end - step);
            let add = range.end < sizes.steps || step > range.start;
            let at = (step - range.start) * G * sizes.slot();
            self.through_norm(builder, norm.x, xw.at(step), (dg_x, at), *terms_x, steps, add);
        }
    }

    /// dR_n[d] (+)= Σ over steps and rows of s[s, d, b]ᵀ·dn[s, d, b], where the reset gate comes before the product.
    pub(super) fn candidate_gradient(
        &self,
        builder: &mut Builder,
        split: &SplitScratch,
        direction: Direction,
        part: Range<u32>,
        first: u32,
        fresh: bool,
    ) {
        let (Own::Reset { dr_n, .. }, Some(Beside::Reset { s })) = (&split.own, &self.kept.beside) else { return };
        let LstmSizes { batch, hidden, .. } = *self.sizes;
        let (from, at) = s.at(part.start);
        let product = params::Matmul {
            accumulate: !fresh as u32,
            k_split: batch,
            a_offset: at + direction.index * batch * hidden,
            a_m_lo: 1,
            a_k_hi: self.sizes.slot() as i32,
            a_k_lo: hidden as i32,
            b_offset: self.gate_gradients(direction, part.start - first) + 2,
            b_k_hi: (G * self.sizes.slot()) as i32,
            b_k_lo: (G * hidden) as i32,
            b_n: G as i32,
            c_offset: direction.index * hidden * hidden,
            ..params::Matmul::plain(hidden, hidden, part.len() as u32 * batch)
        };
        builder.matmul(product, from, self.scratch.dg, *dr_n);
    }

    /// Gradients of parameters that only split steps have; `dr` is where those of the recurrent weights lie.
    pub(super) fn finish_split(&self, builder: &mut Builder, split: &SplitScratch, dr: BufferId) {
        let LstmSizes { batch, hidden, directions, .. } = *self.sizes;
        match (&split.own, self.gradients.norm) {
            (Own::Reset { dr_n, .. }, _) => {
                let from = [0, (hidden * hidden) as i32, hidden as i32, 1];
                let to = [0, (hidden * G * hidden) as i32, (G * hidden) as i32, G as i32];
                builder.copy([1, directions, hidden, hidden], (*dr_n, 0), from, (dr, 2), to, true);
            }
            (Own::Norm { out, terms_x, terms_h }, Some(gradients)) => {
                let (rows, accumulate) = (batch, builder.adds() as u32);
                let mut sum = |from: BufferId, a_offset: u32, columns: u32, to: BufferId, out_offset: u32| {
                    let params = params::ColumnSum { rows, columns, a_offset, out_offset, copies: 1, accumulate };
                    builder.push(&kernel::COLUMN_SUM, None, &NoConstants, &params, &[from, to]);
                };
                let columns = G * hidden;
                for d in 0..directions {
                    sum(*terms_x, d * batch * columns, columns, gradients.x, d * columns);
                    sum(*terms_h, d * batch * columns, columns, gradients.h, d * columns);
                    for part in 0..2 {
                        let at = ((1 + part) * directions + d) * batch * hidden;
                        sum(*out, at, hidden, gradients.c, (2 * d + part) * hidden);
                    }
                }
            }
            _ => {}
        }
    }
}
