//! A stage of a time step: its description for layers, and the commands that it emits.

use super::backward::BackwardPass;
use super::forward::ForwardPass;
use super::output_gradient::OutputGradient;
use super::sizes::LstmSizes;
use crate::error::Result;
use crate::plan::{BufferId, Role};
use crate::schedule::builder::Builder;
use crate::schedule::sequence::{Direction, Sequence};
use std::fmt::Debug;
use std::ops::Range;

/// Plans a stage for a layer.
type PlanStage = fn(&mut Builder, &ForwardPass) -> Result<Box<dyn Emit>>;

/// A stage of a time step: its properties before it is planned.
#[derive(Debug)]
pub struct Stage {
    /// Name.
    pub name: &'static str,
    /// The reason why a step with this stage cannot be one dispatch, for a plan's text; `None` if it can.
    pub reason: Option<&'static str>,
    /// Values of a unit and step that it saves for backward, in addition to the cell's.
    pub planes: u32,
    /// True if backward through it needs R·h' of every step.
    pub reads_product: bool,
    /// True if it carries states past the cell, so that the cell's kernel does not.
    pub carries_states: bool,
    /// Declares its buffers in a layer: scratch, saved values and, in training, scratch of its gradient.
    pub plan: PlanStage,
}

/// Stages are equal if their names are.
impl PartialEq for Stage {
    fn eq(&self, other: &Stage) -> bool {
        self.name == other.name
    }
}

impl Stage {
    /// A stage that can be fused and has no weights.
    pub const fn new(name: &'static str, plan: PlanStage) -> Stage {
        Stage { name, reason: None, planes: 0, reads_product: false, carries_states: false, plan }
    }
}

/// Steps of one dispatch forward: one, or many if steps are fused.
pub struct Step {
    /// Steps of the scan.
    pub steps: Range<u32>,
    /// First step of their chunk.
    pub chunk_start: u32,
    /// Index of the dispatch in the sequence.
    pub dispatch: u32,
}

/// Steps of one dispatch backward, with the gradient between two stages.
pub struct StepGradient {
    /// Steps of the scan.
    pub steps: Range<u32>,
    /// First step of their chunk.
    pub chunk_start: u32,
    /// Gradient of the output of the stage that goes backward next.
    pub dy: OutputGradient,
    /// True if [`SentBack::to_h`] already has a gradient.
    pub sent: bool,
    /// True if the buffer of [`SentBack::before_mask`] already has a gradient.
    pub sent_before_mask: bool,
}

impl StepGradient {
    /// Steps from the chunk's start to the first one.
    pub fn local(&self) -> u32 {
        self.steps.start - self.chunk_start
    }
}

/// Steps whose gate gradients are summed to gradients of weights.
pub struct GradientPart {
    /// The direction.
    pub direction: Direction,
    /// Steps of the scan; they lie in one chunk of all tensors.
    pub steps: Range<u32>,
    /// First step of their chunk.
    pub chunk_start: u32,
    /// True for the first part of a pass.
    pub first: bool,
}

/// Commands of a stage, planned for one layer.
pub trait Emit: Debug {
    /// Address of W·x of the chunk that begins with a step, if the stage changes it before the cell reads it.
    fn input_product(&self, _chunk_start: u32) -> Option<(BufferId, u32)> {
        None
    }

    /// Runs after the input product of a chunk.
    fn begin_chunk(&self, _builder: &mut Builder, _pass: &ForwardPass, _chunk: &Range<u32>) {}

    /// Runs forward through a step.
    fn forward(&self, builder: &mut Builder, pass: &ForwardPass, step: &Step);

    /// Runs before the backward pass of a layer.
    fn begin_backward(&self, _builder: &mut Builder, _pass: &BackwardPass) {}

    /// Runs before the backward pass of a chunk's steps.
    fn begin_chunk_backward(&self, _builder: &mut Builder, _pass: &BackwardPass, _chunk: &Range<u32>) {}

    /// Runs backward through a step: from the gradient of the stage's output to that of its input.
    fn backward(&self, _builder: &mut Builder, _pass: &BackwardPass, _step: &mut StepGradient) {}

    /// Adds gradients of the states before the step, after all stages have run backward.
    fn send_back(&self, _builder: &mut Builder, _pass: &BackwardPass, _step: &mut StepGradient) {}

    /// Runs after the backward pass of a chunk's steps.
    fn end_chunk_backward(&self, _builder: &mut Builder, _pass: &BackwardPass, _chunk: &Range<u32>) {}

    /// Gradients of W·x of a chunk, [steps, D, B, 4H], if they differ from those of the gates.
    fn input_gradients(&self) -> Option<BufferId> {
        None
    }

    /// Gradients of R·h' of a chunk, [steps, D, B, 4H], if they differ from those of the gates.
    fn product_gradients(&self) -> Option<BufferId> {
        None
    }

    /// Adds the part of some steps to the gradients of the stage's weights.
    fn weight_gradients(&self, _builder: &mut Builder, _pass: &BackwardPass, _part: &GradientPart) {}

    /// Sums the terms of the gradients of a direction's vectors of weights.
    fn vector_gradients(&self, _builder: &mut Builder, _pass: &BackwardPass, _direction: u32) {}

    /// Runs after the backward pass of all steps.
    fn end_backward(&self, _builder: &mut Builder, _pass: &BackwardPass) {}

    /// Adds the stage's part to the gradients of h_0 [D, B, K] and c_0 [D, B, H].
    fn initial_gradients(&self, _builder: &mut Builder, _pass: &BackwardPass, _states: [BufferId; 2]) {}
}

/// A tensor of every step, or of the current step alone.
#[derive(Clone, Debug)]
pub enum StepTensor {
    /// Saved for backward.
    Every(Sequence),
    /// Overwritten by each step.
    One(BufferId),
}

impl StepTensor {
    /// Address of a step's elements.
    pub fn at(&self, step: u32) -> (BufferId, u32) {
        match self {
            StepTensor::Every(sequence) => sequence.at(step),
            StepTensor::One(buffer) => (*buffer, 0),
        }
    }
}

/// Scratch for the gradients of the hidden state before a step, for steps that run stage by stage.
#[derive(Clone, Copy, Debug)]
pub struct SentBack {
    /// The sum, [D, B, K].
    pub to_h: BufferId,
    /// Gradient of the masked hidden state, [D, B, K]; one element if there is no mask.
    before_mask: BufferId,
    /// Masked hidden states or gradients, [D, B, K]; one element if there is no mask.
    pub masked: BufferId,
}

impl SentBack {
    /// Scratch that all layers of a stack share.
    pub fn new(builder: &mut Builder, sizes: &LstmSizes) -> Result<SentBack> {
        let masked = if sizes.drops.recurrent > 0.0 { sizes.h_slot() as u64 } else { 1 };
        Ok(SentBack {
            to_h: sizes.scratch(builder, "sent back", sizes.h_slot() as u64)?,
            before_mask: sizes.scratch(builder, "sent back before the mask", masked)?,
            masked: sizes.scratch(builder, "h masked", masked)?,
        })
    }

    /// Buffer for gradients of h' before they go through the mask, if there is one.
    pub fn before_mask(&self, masks: bool) -> BufferId {
        if masks { self.before_mask } else { self.to_h }
    }
}

impl LstmSizes {
    /// Scratch that all layers of a stack share.
    pub(super) fn scratch(&self, builder: &mut Builder, kind: &str, len: u64) -> Result<BufferId> {
        builder.shared(format!("{} {kind}", self.name), len, Role::Scratch)
    }
}
