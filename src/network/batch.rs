//! Batches, and the purposes of plans for them.

use crate::train::{Losses, Update};

/// Purpose of a plan.
#[derive(Clone, Copy, Debug)]
pub enum Purpose<'a> {
    /// The output alone, from zero states.
    Predict,
    /// The output, from given states, which the final states overwrite.
    Stream,
    /// The output and its loss.
    Evaluate {
        /// The loss of each output.
        loss: &'a Losses,
        /// True if the host gives each row a factor, in [`PlanOutput::row_weights`](super::PlanOutput::row_weights).
        weighted: bool,
    },
    /// The loss, the gradients and the optimiser's step.
    Train {
        /// The loss of each output.
        loss: &'a Losses,
        /// The optimiser, with clipping and regularisers.
        update: &'a Update,
        /// True if the host gives each row a factor, in [`PlanOutput::row_weights`](super::PlanOutput::row_weights).
        weighted: bool,
    },
    /// The outputs from given initial states, and from gradients of the outputs, which the host gives between
    /// ([`NetworkPlan::tape`](super::NetworkPlan::tape)), the gradients of inputs, initial states and parameters.
    Pass,
    /// The outputs, and from gradients of them, which the host gives between, the optimiser's step.
    Step {
        /// The optimiser, with clipping and regularisers.
        update: &'a Update,
    },
}

impl Purpose<'_> {
    /// True if a backward pass follows the forward pass.
    pub(super) fn is_training(&self) -> bool {
        matches!(self, Purpose::Train { .. } | Purpose::Pass | Purpose::Step { .. })
    }
}

/// The sizes of a batch.
///
/// ```
/// use wgpu_lstm::network::Batch;
/// let batch = Batch::new(32, 100).ragged(true); // B = 32 sequences of up to T = 100 steps
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub(super) rows: usize,
    /// T of each input; the last is that of the inputs that follow.
    pub(super) steps: Vec<usize>,
    pub(super) ragged: bool,
    pub(super) stateful: bool,
    pub(super) segment: Option<usize>,
    pub(super) accumulate: bool,
}

impl Batch {
    /// B sequences of T steps.
    pub fn new(rows: usize, steps: usize) -> Batch {
        Batch { rows, steps: vec![steps], ragged: false, stateful: false, segment: None, accumulate: false }
    }

    /// B sequences of these steps T by input.
    pub fn of(rows: usize, steps: Vec<usize>) -> Batch {
        Batch { steps, ..Batch::new(rows, 1) }
    }

    /// Gives each sequence a length of its own, which the host writes to [`NetworkPlan::words`].
    pub fn ragged(self, ragged: bool) -> Batch {
        Batch { ragged, ..self }
    }

    /// Continues from another batch: recurrent layers begin with the states in [`NetworkPlan::states`](super::NetworkPlan::states) and leave their final states
    /// there. No gradient flows through them (Williams and Peng 1990). [`Purpose::Stream`] is always stateful.
    pub fn stateful(self, stateful: bool) -> Batch {
        Batch { stateful, ..self }
    }

    /// Sets the steps of a segment: training keeps states at the starts of segments only, and repeats the forward pass between them;
    /// see [`TimeCheckpoints`](crate::TimeCheckpoints). Segments of T steps or more are plain training.
    pub fn segment(self, steps: Option<usize>) -> Batch {
        Batch { segment: steps, ..self }
    }

    /// Adds gradients to those of other batches, which training plans then share, instead of computing them anew: the parts of a plan
    /// ([`NetworkPlan::parts`](super::NetworkPlan::parts)) are run one by one.
    pub fn accumulate(self, accumulate: bool) -> Batch {
        Batch { accumulate, ..self }
    }
}
