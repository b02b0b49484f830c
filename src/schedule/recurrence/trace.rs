//! Trace of a forward pass: the states and activations that the backward pass and readers need.

use super::sizes::LstmSizes;
use super::stage::Emit;
use crate::error::Result;
use crate::plan::{BufferId, Role};
use crate::schedule::builder::{Builder, DropoutMask};
use crate::schedule::sequence::Sequence;

/// Trace of a layer's forward pass.
#[derive(Debug)]
pub struct LayerTrace {
    /// Input of the product with W, in the order of time.
    pub x: Sequence,
    /// Hidden states [D, B, K] a step, in the order of the scan, one slot of lead.
    pub h: Sequence,
    /// Activations that backward needs; `None` in inference.
    pub saved: Option<SavedActivations>,
    /// Last slot of h.
    pub h_last: (BufferId, u32),
    /// Last slot of c.
    pub c_last: (BufferId, u32),
    /// The layer's output in the order of time: a view of `h` for one direction.
    pub y: Option<Sequence>,
    /// Recurrent weights after dropout.
    pub r: BufferId,
    /// Stages of a step, in order.
    pub(super) stages: Vec<Box<dyn Emit>>,
    /// Dropout of the input, from the layer below upward.
    pub(super) input_drops: Vec<DropoutMask>,
    /// Dropout of the hidden state before the product.
    pub(super) recurrent_drop: Option<DropoutMask>,
    /// Dropout of recurrent weights.
    pub(super) weight_drop: Option<DropoutMask>,
    /// Stream of zoneout's random bits.
    pub(super) zoneout_stream: u32,
}

/// Activations of every step that training saves.
#[derive(Clone, Debug)]
pub struct SavedActivations {
    /// States beside h, [STATES, D, B, H] a step, in the order of the scan, one slot of lead.
    pub c: Sequence,
    /// The cell's values [SAVED, D, B, H] a step, in the order of the scan; then those of other stages, each [D, B, H].
    pub values: Sequence,
}

/// Buffers of the cell states and of the activations that steps save.
pub(super) enum CellStates {
    /// A slot for every step.
    Training(SavedActivations),
    /// Two alternating slots of c; `unused` is bound in place of the saved values.
    Inference { c: BufferId, unused: BufferId },
}

/// Addresses of a step's cell states.
pub(super) struct CellState {
    pub buffer: BufferId,
    /// First element of c'.
    pub before: u32,
    /// First element of c.
    pub after: u32,
}

impl CellStates {
    pub fn new(builder: &mut Builder, sizes: &LstmSizes, name: &str, train: bool) -> Result<CellStates> {
        let [steps, batch, units] = [sizes.steps, sizes.batch, sizes.directions * sizes.hidden];
        if !train {
            // The cell leaves the hidden state before its projection there.
            let unused = if sizes.projected() { sizes.slot() as u64 } else { 1 };
            return Ok(CellStates::Inference {
                c: builder.buffer(format!("{name}.c"), 2 * sizes.c_slot() as u64, Role::Scratch)?,
                unused: builder.buffer(format!("{name}.saved"), unused, Role::Scratch)?,
            });
        }
        let states = [steps, batch, sizes.c_slot() / batch];
        let values = [steps, batch, sizes.planes() * units];
        Ok(CellStates::Training(SavedActivations {
            c: builder.sequence(&format!("{name}.c"), states, 1, Role::Scratch)?,
            values: builder.sequence(&format!("{name}.saved"), values, 0, Role::Scratch)?,
        }))
    }

    /// Slots of c' and c of a step, the first of a dispatch.
    pub fn at(&self, step: u32, dispatch: u32, slot: u32) -> CellState {
        match self {
            CellStates::Training(saved) => {
                let (buffer, after) = saved.c.at(step);
                CellState { buffer, before: after - slot, after }
            }
            CellStates::Inference { c, .. } => {
                CellState { buffer: *c, before: dispatch % 2 * slot, after: (dispatch + 1) % 2 * slot }
            }
        }
    }

    /// Address of a step's saved values.
    pub fn saved(&self, step: u32) -> (BufferId, u32) {
        match self {
            CellStates::Training(saved) => saved.values.at(step),
            CellStates::Inference { unused, .. } => (*unused, 0),
        }
    }
}
