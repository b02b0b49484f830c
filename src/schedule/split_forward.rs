//! Time steps that are more than one dispatch, forward: what comes between the products and the cell, or after it.

use super::builder::Builder;
use super::forward::{Beside, EPSILON, Kept, Layer, LstmSizes, Memory, Norms, Split, Steps};
use super::sequence::Sequence;
use crate::cell::GATES;
use crate::error::Result;
use crate::kernel::{
    self, Carries, NoConstants, NormForwardConstants, NormStateForwardConstants, ResetConstants, params,
};
use crate::plan::{BufferId, Role};

const G: u32 = GATES as u32;

/// Buffers of a layer's split steps.
pub(super) enum SplitSteps {
    /// The projection's weights; room for h' [D, B, K], where rows may have ended.
    Projection { weights: BufferId, before: Option<BufferId> },
    /// W·x and R·h' before they are normalised: of all steps in training, else W·x of a chunk and R·h' of a step.
    Norm { weights: Norms, xw: Place, rh: Place, masked: Option<BufferId> },
    /// R·h' [D, B, 4H] of a step; s = r ⊙ h' of all steps in training, else of one; R·s of the gate n [D, B, H].
    Reset { rh: BufferId, s: Place, rs: BufferId, masked: Option<BufferId> },
}

/// A tensor of every step, or of the one at hand.
pub(super) enum Place {
    Every(Sequence),
    One(BufferId),
}

impl Place {
    fn at(&self, step: u32) -> (BufferId, u32) {
        match self {
            Place::Every(sequence) => sequence.at(step),
            Place::One(buffer) => (*buffer, 0),
        }
    }
}

impl SplitSteps {
    /// Where W·x of the chunk that begins with a step goes; `xw` is where the cell reads it.
    pub fn input_product(&self, xw: BufferId, first: u32) -> (BufferId, u32) {
        match self {
            SplitSteps::Norm { xw, .. } => xw.at(first),
            _ => (xw, 0),
        }
    }
}

impl Layer<'_> {
    /// What training keeps beside the plain step's values.
    pub(super) fn beside(&self, builder: &mut Builder) -> Result<Option<Beside>> {
        let LstmSizes { steps, batch, directions, hidden, .. } = *self.sizes;
        let mut every = |kind: &str, features: u32| {
            builder.sequence(&format!("{}.{kind}", self.name), [steps, batch, directions * features], 0, Role::Scratch)
        };
        Ok(match self.sizes.split {
            Some(Split::Norm) => Some(Beside::Norm { xw: every("W·x", G * hidden)?, rh: every("R·h", G * hidden)? }),
            Some(Split::Reset) => Some(Beside::Reset { s: every("r·h", hidden)? }),
            Some(Split::Projection) | None => None,
        })
    }

    /// Room for split steps; nothing where they are whole.
    pub(super) fn split(&self, builder: &mut Builder, run: &Steps) -> Result<Option<SplitSteps>> {
        let Some(split) = self.sizes.split else { return Ok(None) };
        let (sizes, slot, h_slot) = (self.sizes, self.sizes.slot() as u64, self.sizes.h_slot() as u64);
        let chunk = builder.chunk_steps(sizes.steps) as u64;
        let beside = match &run.memory {
            Memory::Training(Kept { beside, .. }) => beside.clone(),
            Memory::Inference { .. } => None,
        };
        let mut room = |kind: &str, len: u64| builder.buffer(format!("{}.{kind}", self.name), len, Role::Scratch);
        let masked = match (split, run.recurrent_drop) {
            (Split::Norm | Split::Reset, Some(_)) => Some(room("h masked", h_slot)?),
            _ => None,
        };
        Ok(Some(match (split, beside, self.weights.projection, self.weights.norm) {
            (Split::Norm, Some(Beside::Norm { xw, rh }), _, Some(weights)) => {
                SplitSteps::Norm { weights, xw: Place::Every(xw), rh: Place::Every(rh), masked }
            }
            (Split::Norm, _, _, Some(weights)) => SplitSteps::Norm {
                weights,
                xw: Place::One(room("W·x", chunk * G as u64 * slot)?),
                rh: Place::One(room("R·h", G as u64 * slot)?),
                masked,
            },
            (Split::Reset, beside, _, _) => SplitSteps::Reset {
                rh: room("R·h", G as u64 * slot)?,
                rs: room("R·s", slot)?,
                s: match beside {
                    Some(Beside::Reset { s }) => Place::Every(s),
                    _ => Place::One(room("r·h", slot)?),
                },
                masked,
            },
            (_, _, Some(weights), _) => {
                let before = if sizes.ragged { Some(room("h before", h_slot)?) } else { None };
                SplitSteps::Projection { weights, before }
            }
            (_, _, None, _) => return Ok(None),
        }))
    }

    /// What follows the input product of a chunk.
    pub(super) fn before_chunk(
        &self,
        builder: &mut Builder,
        split: &SplitSteps,
        (from, x_offset): (BufferId, u32),
        steps: u32,
    ) {
        if let SplitSteps::Norm { weights, .. } = split {
            self.normalise(builder, weights.x, (from, x_offset), (self.xw, 0), steps, false);
        }
    }

    /// Puts normalised products [steps, D, B, 4H] in the place of W·x, or adds them to it.
    fn normalise(
        &self,
        builder: &mut Builder,
        weight: BufferId,
        (from, x_offset): (BufferId, u32),
        (to, y_offset): (BufferId, u32),
        steps: u32,
        add: bool,
    ) {
        let LstmSizes { batch, directions, hidden, .. } = *self.sizes;
        let params = params::NormForward {
            rows: steps * directions * batch,
            features: G * hidden,
            group: batch,
            groups: directions,
            x_offset,
            y_offset,
            epsilon: EPSILON,
        };
        let unused = builder.unused();
        builder.push(
            &kernel::NORM_FORWARD,
            None,
            &NormForwardConstants { bias: false, add },
            &params,
            &[weight, unused, from, to],
        );
    }

    /// One step; `first` is the first step of its chunk.
    pub(super) fn split_step(
        &self,
        builder: &mut Builder,
        run: &Steps,
        split: &SplitSteps,
        step: u32,
        turn: u32,
        first: u32,
    ) {
        let sizes = self.sizes;
        let slot = sizes.slot();
        let xw = (self.xw, (step - first) * G * slot);
        match split {
            SplitSteps::Projection { weights, before } => {
                self.scan(builder, run, step..step + 1, turn, first);
                let (saved, saved_offset) = run.memory.saved(step);
                let planes = if self.train { sizes.cell.saved as u32 } else { 0 };
                let (h, h_out) = run.h.at(step);
                self.project(builder, (saved, saved_offset + planes * slot), *weights, (h, h_out));
                if let Some(before) = *before {
                    builder.copy_run(sizes.h_slot(), (h, h_out - sizes.h_slot()), (before, 0));
                    sizes.carry(builder, run.words, step, (before, 0), (h, h_out), false);
                }
            }
            SplitSteps::Norm { weights, rh, masked, .. } => {
                let rh = rh.at(step);
                self.recurrent_product(builder, run, *masked, step, rh);
                self.normalise(builder, weights.h, rh, xw, 1, true);
                self.scan(builder, run, step..step + 1, turn, first);
                self.normal_state(builder, run, weights.c, step, turn);
            }
            SplitSteps::Reset { rh, s, rs, masked } => {
                let h = self.recurrent_product(builder, run, *masked, step, (*rh, 0));
                let s = s.at(step);
                self.reset(builder, *rh, h, xw, s);
                self.candidate_product(builder, run.used, s, *rs);
                let [rows, units] = [sizes.directions * sizes.batch, sizes.hidden];
                let (from, to) = ([0, 0, units as i32, 1], [0, 0, (G * units) as i32, G as i32]);
                builder.copy([1, 1, rows, units], (*rs, 0), from, (xw.0, xw.1 + 2), to, true); // the gate n
                self.scan(builder, run, step..step + 1, turn, first);
            }
        }
    }

    /// h[d] = m[d]·W_hrᵀ of a step.
    fn project(
        &self,
        builder: &mut Builder,
        (from, a_offset): (BufferId, u32),
        projection: BufferId,
        (to, c_offset): (BufferId, u32),
    ) {
        let LstmSizes { batch, hidden, width, .. } = *self.sizes;
        for d in 0..self.sizes.directions {
            let product = params::Matmul {
                a_offset: a_offset + d * batch * hidden,
                b_offset: d * width * hidden,
                b_k_lo: 1,
                b_n: hidden as i32,
                c_offset: c_offset + d * batch * width,
                ..params::Matmul::plain(batch, width, hidden)
            };
            builder.matmul(product, from, projection, to);
        }
    }

    /// R·h' of a step, of all columns, with h' under its mask; returns where that h' lies.
    fn recurrent_product(
        &self,
        builder: &mut Builder,
        run: &Steps,
        masked: Option<BufferId>,
        step: u32,
        (to, c_offset): (BufferId, u32),
    ) -> (BufferId, u32) {
        let LstmSizes { batch, hidden, width, directions, .. } = *self.sizes;
        let (buffer, h_out) = run.h.at(step);
        let mut h = (buffer, h_out - self.sizes.h_slot());
        if let (Some(masked), Some(drop)) = (masked, run.recurrent_drop) {
            builder.drop_rows(run.words, [1, directions * batch, width], h, masked, drop);
            h = (masked, 0);
        }
        for d in 0..directions {
            let product = params::Matmul {
                a_offset: h.1 + d * batch * width,
                b_offset: d * width * G * hidden,
                c_offset: c_offset + d * batch * G * hidden,
                ..params::Matmul::plain(batch, G * hidden, width)
            };
            builder.matmul(product, h.0, run.used, to);
        }
        h
    }

    /// The hidden state of a step, from its output gate and its cell state.
    fn normal_state(&self, builder: &mut Builder, run: &Steps, weights: BufferId, step: u32, turn: u32) {
        let sizes = self.sizes;
        let (h, h_out) = run.h.at(step);
        let (c, c_in, c_out) = run.memory.c(step, turn, sizes.slot());
        let [zoneout_h, zoneout_c] = sizes.zoneout(self.train);
        let output = sizes.settings.output;
        let params = params::NormStateForward {
            batch: sizes.batch,
            directions: sizes.directions,
            h_in: h_out - sizes.h_slot(),
            c_in,
            c_out,
            step: builder.first_step() + step,
            total_steps: sizes.steps,
            backwards: sizes.backwards as u32,
            site: run.zoneout_site,
            zoneout_h: zoneout_h.chance,
            zoneout_c: zoneout_c.chance,
            keep_h: zoneout_h.share,
            keep_c: zoneout_c.share,
            alpha: output.alpha,
            beta: output.beta,
            epsilon: EPSILON,
        };
        let constants = NormStateForwardConstants {
            h: sizes.hidden,
            train: self.train,
            carries: Carries(sizes.carries()),
            kind: output.kind,
        };
        builder.push(&kernel::NORM_STATE_FORWARD, None, &constants, &params, &[weights, h, c, run.words]);
    }

    /// The reset gate, and s = r ⊙ h'.
    fn reset(
        &self,
        builder: &mut Builder,
        rh: BufferId,
        (h, h_offset): (BufferId, u32),
        (xw, xw_offset): (BufferId, u32),
        (s, s_offset): (BufferId, u32),
    ) {
        let sizes = self.sizes;
        let gate = sizes.settings.gate;
        let params = params::ResetForward {
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
        builder.push(
            &kernel::RESET_FORWARD,
            None,
            &ResetConstants { kind: gate.kind },
            &params,
            &[rh, self.weights.bias, h, xw, s],
        );
    }

    /// R·s of the gate n.
    fn candidate_product(&self, builder: &mut Builder, r: BufferId, (s, a_offset): (BufferId, u32), to: BufferId) {
        let LstmSizes { batch, hidden, directions, .. } = *self.sizes;
        for d in 0..directions {
            let product = params::Matmul {
                a_offset: a_offset + d * batch * hidden,
                b_offset: d * hidden * G * hidden + 2,
                b_k_lo: (G * hidden) as i32,
                b_n: G as i32,
                c_offset: d * batch * hidden,
                ..params::Matmul::plain(batch, hidden, hidden)
            };
            builder.matmul(product, s, r, to);
        }
    }
}

impl LstmSizes {
    /// States [D, B, K], or their gradients, of rows whose sequence does not hold the time of a step.
    pub(super) fn carry(
        &self,
        builder: &mut Builder,
        words: BufferId,
        step: u32,
        (from, src_offset): (BufferId, u32),
        (to, dst_offset): (BufferId, u32),
        add: bool,
    ) {
        let params = params::Carry {
            batch: self.batch,
            directions: self.directions,
            features: self.width,
            src_offset,
            dst_offset,
            step: builder.first_step() + step,
            total_steps: self.steps,
            backwards: self.backwards as u32,
            add: add as u32,
        };
        builder.push(&kernel::CARRY, None, &NoConstants, &params, &[words, from, to]);
    }
}
