//! Sizes of a recurrent stack and a batch, and sizes derived from them.

use super::stage::Stage;
use super::{CELL, PRODUCT};
use crate::cell::{CellSpec, GATES, Settings};
use crate::kernel::{Carries, ScanForwardConstants};
use crate::plan::{Capabilities, Launch, Recurrence, StepWeights};
use crate::random;
use crate::schedule::sequence::Direction;
use crate::schedule::step_weights::StepMatrix;

/// Gates of a unit, and columns of its products.
pub(super) const G: u32 = GATES as u32;

/// The forward or the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Forward,
    Backward,
}

/// Dropout probabilities, from 0 to below 1. Only zoneout changes inference.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Drops {
    /// Of outputs between layers, drawn anew at every step.
    pub between: f64,
    /// Of a layer's inputs, the same at all steps of a sequence.
    pub input: f64,
    /// Of the hidden state before the recurrent product, the same at all steps of a sequence.
    pub recurrent: f64,
    /// Of recurrent weights, the same for the whole batch.
    pub weights: f64,
    /// Of updates of the hidden state.
    pub zoneout_h: f64,
    /// Of updates of the cell state.
    pub zoneout_c: f64,
}

/// Zoneout of a state.
#[derive(Clone, Copy)]
pub(super) struct Zoneout {
    /// In training, random bits below this keep the old state.
    pub threshold: u32,
    /// In inference, share of the old state in the new one.
    pub share: f32,
}

/// Sizes of a recurrent stack and a batch.
#[derive(Clone, Debug)]
pub struct LstmSizes {
    /// Prefix of the names of its buffers.
    pub name: String,
    /// The cell.
    pub cell: &'static CellSpec,
    /// Activations, clips and coupled gates of the cell.
    pub settings: Settings,
    /// T.
    pub steps: u32,
    /// B.
    pub batch: u32,
    /// I.
    pub input: u32,
    /// H.
    pub hidden: u32,
    /// K, the width of the hidden state: H, or P where it is projected.
    pub width: u32,
    /// Heads: groups of units without recurrent weights between them.
    pub heads: u32,
    /// Stages of a time step, in order.
    pub stages: Vec<&'static Stage>,
    /// L.
    pub layers: u32,
    /// D.
    pub directions: u32,
    /// Biases per gate: 0, 1 or 2.
    pub biases: u32,
    /// True if sequences have lengths, which the host writes to the plan's words.
    pub ragged: bool,
    /// True if the only direction runs from the end of time to its start.
    pub backwards: bool,
    /// True if, in that case, the output stays in the order of the scan.
    pub in_scan_order: bool,
    /// True if the output past the end of a sequence repeats the last state instead of being 0.
    pub repeats_output: bool,
    /// Dropout probabilities.
    pub drops: Drops,
}

impl LstmSizes {
    /// Input features of a layer.
    pub fn layer_input(&self, layer: u32) -> u32 {
        if layer == 0 { self.input } else { self.directions * self.width }
    }

    /// Elements of one value of every unit, [D, B, H].
    pub fn slot(&self) -> u32 {
        self.directions * self.batch * self.hidden
    }

    /// Elements of a slot of the hidden state, [D, B, K].
    pub fn h_slot(&self) -> u32 {
        self.directions * self.batch * self.width
    }

    /// Elements of a slot of the states beside h, [STATES, D, B, H].
    pub fn c_slot(&self) -> u32 {
        self.cell.states.len() as u32 * self.slot()
    }

    /// Columns of W·x and R·h', 4H.
    pub(super) fn columns(&self) -> u32 {
        G * self.hidden
    }

    /// Elements of all gates of a step, [D, B, 4H].
    pub(super) fn gate_slot(&self) -> u32 {
        G * self.slot()
    }

    /// True if a step has a recurrent product.
    pub fn has_product(&self) -> bool {
        self.stages.contains(&&PRODUCT)
    }

    /// Hidden units with recurrent weights to a unit, K / heads: rows of R.
    pub(super) fn seen(&self) -> u32 {
        if self.has_product() { self.width / self.heads } else { 0 }
    }

    /// Elements of a direction's recurrent weights, [K / heads, 4H].
    pub(super) fn r_direction(&self) -> u32 {
        self.seen() * self.columns()
    }

    /// Elements of the recurrent weights, [D, K / heads, 4H].
    pub(super) fn r_len(&self) -> u64 {
        self.directions as u64 * self.seen() as u64 * self.columns() as u64
    }

    /// The recurrent weights, or their transposed with this many units, as steps read them.
    pub(super) fn step_matrix(&self, form: StepWeights, units: u32) -> StepMatrix {
        StepMatrix { form, directions: self.directions, terms: self.seen(), units }
    }

    /// True if the hidden state is projected.
    pub(super) fn projected(&self) -> bool {
        self.width != self.hidden
    }

    /// The reason why a step is not fused to one dispatch; `None` if it is.
    pub fn unfused(&self) -> Option<&'static str> {
        self.stages.iter().find_map(|stage| stage.reason)
    }

    /// True if the scan computes a whole step, forward and backward.
    pub(super) fn fused(&self) -> bool {
        self.unfused().is_none()
    }

    /// True if the cell's kernel computes the recurrent product: no stage is between the two.
    pub(super) fn cell_multiplies(&self) -> bool {
        self.stages.windows(2).any(|pair| pair == [&PRODUCT, &CELL])
    }

    /// True if the cell's hidden state is the step's: no stage follows.
    pub(super) fn cell_is_last(&self) -> bool {
        self.stages.last() == Some(&&CELL)
    }

    /// True if the output can alias the state history (one direction, in the order of the scan).
    pub(super) fn history_is_output(&self) -> bool {
        self.directions == 1 && (!self.backwards || self.in_scan_order)
    }

    /// Reasons why states, and their gradients, may be carried past the cell: 1 rows that have ended, 2 zoneout, 3 both.
    pub(super) fn carries(&self) -> u32 {
        self.ragged as u32 | ((self.drops.zoneout_h > 0.0 || self.drops.zoneout_c > 0.0) as u32) << 1
    }

    /// The same for the cell's own kernel.
    pub(super) fn cell_carries(&self) -> u32 {
        if self.stages.iter().any(|stage| stage.carries_states) { 0 } else { self.carries() }
    }

    /// True if backward sums a gradient carried past the cell or past the normalisation of its state.
    pub(super) fn sums_past(&self) -> bool {
        self.carries() > 0 || self.stages.iter().any(|stage| stage.carries_states)
    }

    /// Zoneout of h and of c.
    pub(super) fn zoneout(&self, train: bool) -> [Zoneout; 2] {
        [self.drops.zoneout_h, self.drops.zoneout_c].map(|p| match train {
            true => Zoneout { threshold: random::threshold(p), share: 0.0 },
            false => Zoneout { threshold: 0, share: p as f32 },
        })
    }

    /// Values of a unit and step that training saves.
    pub(super) fn planes(&self) -> u32 {
        self.cell.saved as u32 + self.stages.iter().map(|stage| stage.planes).sum::<u32>()
    }

    /// Vectors of the bias's buffer: biases and further parameters.
    pub fn parameters(&self) -> u32 {
        self.biases + self.cell.extra as u32
    }

    /// Launch of the cell's kernel, forward or backward. Steps that are not fused run one at a time.
    pub(crate) fn launch(&self, pass: Pass, capabilities: &Capabilities) -> Launch {
        let what = self.recurrence(pass);
        if self.drops.recurrent > 0.0 && capabilities.grid_workgroups > 0 {
            // A grid's kernel has no place for the mask.
            return Launch::choose(&what, &Capabilities { grid_workgroups: 0, ..capabilities.clone() });
        }
        Launch::choose(&what, capabilities)
    }

    /// Constants of a step forward in inference by a launch.
    pub(super) fn forward_constants(&self, launch: &Launch) -> ScanForwardConstants {
        ScanForwardConstants {
            h: self.hidden,
            k: self.width,
            train: false,
            drop: false,
            carries: Carries(self.cell_carries()),
            kinds: self.settings.kinds(),
            rows: launch.rows,
            units: launch.units,
            span: launch.span,
            threads: launch.threads,
            terms: if self.cell_multiplies() { self.seen() } else { 0 },
            heads: self.heads,
            memory: launch.memory,
        }
    }

    /// The pass for which launches of the cell's kernel are chosen.
    pub(crate) fn recurrence(&self, pass: Pass) -> Recurrence {
        let backward = pass == Pass::Backward;
        let multiplies = if backward { self.fused() } else { self.cell_multiplies() };
        Recurrence {
            backward,
            cell: self.cell.name,
            hidden: self.hidden,
            heads: self.heads,
            terms: if multiplies { self.seen() } else { 0 },
            input: None,
            batch: self.batch,
            directions: self.directions,
            steps: self.steps,
            fused: self.fused(),
            // Units that a thread computes at once would have to be in one head.
            plain: self.carries() == 0 && self.settings == Settings::default() && self.heads == 1,
        }
    }

    /// The directions of a layer.
    pub fn each_direction(&self) -> impl Iterator<Item = Direction> {
        let (steps, backwards) = (self.steps, self.backwards);
        (0..self.directions).map(move |index| Direction { index, reverse: index == 1 || backwards, steps })
    }

    /// The order in which outputs of a direction are stored.
    pub(super) fn output_order(&self, direction: Direction) -> Direction {
        Direction { reverse: direction.reverse && !self.in_scan_order, ..direction }
    }

    /// Elements of the tensors that a step needs, with their names; the largest decides how time is split.
    pub fn per_step(&self, train: bool) -> Vec<(String, u64)> {
        let LstmSizes { name, directions, batch, hidden, input, .. } = self;
        let slot = *directions as u64 * *batch as u64 * *hidden as u64;
        let mut tensors = vec![
            (format!("{name} W·x [D, B, 4H] = [{directions}, {batch}, {}]", G * hidden), G as u64 * slot),
            (format!("{name} input [B, I] = [{batch}, {input}]"), *batch as u64 * *input as u64),
        ];
        if train {
            tensors.push((format!("{name} values kept for backward"), self.planes() as u64 * slot));
        }
        tensors
    }
}
