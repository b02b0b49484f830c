//! Backward pass of a recurrent stack: steps from the last to the first, each through its stages in reverse order, for the gate
//! gradients; then dW, dR, dX and db as large products.
//!
//! Fused steps pass gate gradients to the step before. Other steps leave the gradient of the hidden state before them in a
//! slot, and the step before adds it to its output gradient.

use super::output_gradient::OutputGradient;
use super::sizes::{G, LstmSizes, Pass};
use super::stage::{SentBack, StepGradient};
use super::trace::{LayerTrace, SavedActivations};
use super::weights::LayerWeights;
use crate::cell::GATES;
use crate::error::{Error, Result};
use crate::plan::{BufferId, Role};
use crate::schedule::builder::Builder;
use crate::schedule::sequence::Sequence;
use std::ops::Range;

/// Gradient of the output, from the layer above.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// For every step, [T, B, D·K] in the order of time.
    Whole(Sequence),
    /// For the last step of each direction's scan, [1, B, D·K].
    Last(Sequence),
}

/// Gradients of the final states and buffers for those of the initial states, [D, B, K] and [STATES, D, B, H] per layer.
#[derive(Clone, Debug)]
pub struct StateGradients {
    /// Gradients of h_n and c_n.
    pub finals: Vec<(BufferId, BufferId)>,
    /// Gradients of h_0 and c_0, written.
    pub initials: Vec<(BufferId, BufferId)>,
}

/// Arguments of a stack's backward pass.
pub struct Backward<'a> {
    /// Weights of each layer.
    pub weights: &'a [LayerWeights],
    /// Gradients of the weights, written.
    pub gradients: &'a [LayerWeights],
    /// Traces of the forward pass, in training.
    pub traces: &'a [LayerTrace],
    /// Gradients of final and initial states, if the caller needs them.
    pub states: Option<&'a StateGradients>,
    /// True if the caller needs the gradient of the input.
    pub wants_dx: bool,
}

/// Plans a stack's backward pass and returns the gradient of its input if the caller needs it.
pub fn lstm(
    builder: &mut Builder,
    sizes: &LstmSizes,
    stack: &Backward,
    mut upstream: Upstream,
) -> Result<Option<Sequence>> {
    let scratch = Scratch::new(builder, sizes, stack.states.is_some())?;
    for (layer, trace) in stack.traces.iter().enumerate().rev() {
        builder.section(format!("{} layer {layer} backward", sizes.name));
        let name = format!("{}.l{layer}", sizes.name);
        let dx = if layer > 0 || stack.wants_dx {
            let shape = [sizes.steps, sizes.batch, sizes.layer_input(layer as u32)];
            Some(builder.sequence(&format!("{name}.dx"), shape, 0, Role::Scratch)?)
        } else {
            None
        };
        BackwardPass::new(builder, sizes, stack, layer, (&scratch, dx.as_ref()))?.backward(builder, &upstream);
        let Some(mut dx) = dx else { return Ok(None) };
        for (n, &drop) in trace.input_drops.iter().enumerate().rev() {
            dx = builder.dropout(&format!("{name}.dx dropped {n}"), &dx, sizes.batch, drop)?;
        }
        upstream = Upstream::Whole(dx);
    }
    match upstream {
        Upstream::Whole(dx) => Ok(Some(dx)),
        Upstream::Last(_) => Ok(None),
    }
}

/// Scratch that all layers of a stack and all of their stages share.
pub(super) struct Scratch {
    /// Gate gradients of a chunk, [steps + 1, D, B, 4H] in the order of the scan.
    pub dg: BufferId,
    /// One slot of dg, carried from a chunk to the one before it.
    pub carry: BufferId,
    /// Sums over time: gradients of the bias and of the units' further parameters, [1 + extra, D, B, 4H]; those of the states
    /// beside h, [STATES, D, B, H]; and that of the hidden state carried past the cell, or of the cell state carried past its
    /// normalisation, [D, B, H].
    pub sums: BufferId,
    /// Output gradients of a chunk in the order of the scan, [steps, D, B, K].
    pub dy: BufferId,
    /// Hidden states of a chunk under their dropout mask, [steps, D, B, K].
    pub dropped: BufferId,
    /// One zero.
    pub zero: BufferId,
}

impl Scratch {
    fn new(builder: &mut Builder, sizes: &LstmSizes, has_states: bool) -> Result<Scratch> {
        let (chunk, gates) = (builder.chunk_steps(sizes.steps) as u64, sizes.gate_slot() as u64);
        let copies_dy = !sizes.history_is_output() || has_states || !sizes.fused();
        let when = |wanted: bool, len: u64| if wanted { len } else { 1 };
        let h_chunk = chunk * sizes.h_slot() as u64;
        let sums = dc(sizes) as u64 + sizes.c_slot() as u64 + sizes.sums_past() as u64 * sizes.slot() as u64;
        let mut scratch = |kind: &str, len: u64| builder.buffer(format!("{} {kind}", sizes.name), len, Role::Scratch);
        Ok(Scratch {
            dg: scratch("gate gradients", (chunk + 1) * gates)?,
            carry: scratch("gate gradients carried", gates)?,
            sums: scratch("sums", sums)?,
            dy: scratch("dy by step", when(copies_dy, h_chunk))?,
            dropped: scratch("h dropped", when(sizes.drops.recurrent > 0.0, h_chunk))?,
            zero: scratch("zero", 1)?,
        })
    }
}

/// First element of the cell state's gradient in the sums.
fn dc(sizes: &LstmSizes) -> u32 {
    G * (1 + sizes.cell.extra as u32) * sizes.slot()
}

/// A layer's backward pass: sizes, weights, trace, and the buffers that its stages share.
pub struct BackwardPass<'a> {
    pub(super) sizes: &'a LstmSizes,
    pub(super) weights: &'a LayerWeights,
    pub(super) trace: &'a LayerTrace,
    pub(super) saved: &'a SavedActivations,
    pub(super) gradients: &'a LayerWeights,
    pub(super) scratch: &'a Scratch,
    pub(super) key_and_lengths: BufferId,
    /// Gradient of the recurrent weights after dropout, [D, K / heads, 4H].
    pub(super) dr: BufferId,
    /// Gradients of W·x of a chunk, [steps, D, B, 4H].
    pub(super) dg_x: BufferId,
    /// Gradients of R·h' of a chunk, [steps, D, B, 4H].
    pub(super) dg_r: BufferId,
    /// Gradients that steps send to the step before; `None` if steps are fused.
    sent_back: Option<SentBack>,
    pub(super) finals: Option<(BufferId, BufferId)>,
    initials: Option<(BufferId, BufferId)>,
    pub(super) dx: Option<&'a Sequence>,
}

impl<'a> BackwardPass<'a> {
    fn new(
        builder: &mut Builder,
        sizes: &'a LstmSizes,
        stack: &Backward<'a>,
        layer: usize,
        (scratch, dx): (&'a Scratch, Option<&'a Sequence>),
    ) -> Result<BackwardPass<'a>> {
        let (trace, gradients) = (&stack.traces[layer], &stack.gradients[layer]);
        let saved = trace.saved.as_ref();
        let stages = trace.stages.iter();
        Ok(BackwardPass {
            sizes,
            weights: &stack.weights[layer],
            trace,
            saved: saved.ok_or_else(|| {
                Error::Plan("backward after a forward pass in inference, which saves no activations".into())
            })?,
            gradients,
            scratch,
            key_and_lengths: builder.words(sizes.batch)?,
            dr: match trace.weight_drop {
                Some(_) => {
                    builder.buffer(format!("{}.l{layer}.dR dropped", sizes.name), sizes.r_len(), Role::Scratch)?
                }
                None => gradients.r,
            },
            dg_x: stages.clone().find_map(|stage| stage.input_gradients()).unwrap_or(scratch.dg),
            dg_r: stages.clone().find_map(|stage| stage.product_gradients()).unwrap_or(scratch.dg),
            sent_back: if sizes.fused() { None } else { Some(SentBack::new(builder, sizes)?) },
            finals: stack.states.map(|states| states.finals[layer]),
            initials: stack.states.map(|states| states.initials[layer]),
            dx,
        })
    }

    fn backward(&self, builder: &mut Builder, upstream: &Upstream) {
        let stages = &self.trace.stages;
        stages.iter().for_each(|stage| stage.begin_backward(builder, self));
        if self.sizes.cell.input_gates.len() < GATES {
            builder.fill(self.scratch.zero, 0..1, 0.0);
        }
        self.last_states(builder, upstream);
        if let (Some(dx), 2) = (self.dx, self.sizes.directions) {
            // The direction that reaches a time first depends on the chunk, so both add.
            for (k, &buffer) in dx.chunks.iter().enumerate() {
                builder.fill(buffer, 0..dx.chunk_range(k).len() as u32 * dx.step, 0.0);
            }
        }
        for chunk in (0..self.trace.h.chunks.len()).rev() {
            self.chunk(builder, upstream, self.trace.h.chunk_range(chunk));
        }
        self.parameter_gradients(builder);
        if let Some((dh_0, dc_0)) = self.initials {
            builder.copy_run(self.sizes.c_slot(), (self.scratch.sums, self.dc()), (dc_0, 0));
            stages.iter().for_each(|stage| stage.initial_gradients(builder, self, [dh_0, dc_0]));
        }
    }

    fn chunk(&self, builder: &mut Builder, upstream: &Upstream, chunk: Range<u32>) {
        let stages = &self.trace.stages;
        stages.iter().for_each(|stage| stage.begin_chunk_backward(builder, self, &chunk));
        let dy = self.output_gradients(builder, upstream, &chunk);
        let most = self.sizes.launch(Pass::Backward, &builder.capabilities).steps;
        let mut end = chunk.end;
        while end > chunk.start {
            let first = end.saturating_sub(most).max(chunk.start);
            self.steps(builder, &dy, first..end, chunk.start);
            end = first;
        }
        stages.iter().for_each(|stage| stage.end_chunk_backward(builder, self, &chunk));
        self.weight_gradients(builder, chunk);
    }

    /// Steps of one dispatch, the last one first.
    fn steps(&self, builder: &mut Builder, dy: &OutputGradient, steps: Range<u32>, chunk_start: u32) {
        let LstmSizes { batch, width, .. } = *self.sizes;
        let (slot, first) = (self.sizes.h_slot(), steps.start);
        let mut dy = dy.clone();
        if let Some(sent) = &self.sent_back {
            let dh = (self.scratch.dy, (first - chunk_start) * slot);
            if steps.end < self.sizes.steps {
                builder.add_run(slot, (sent.to_h, 0), dh);
            }
            dy = OutputGradient::of_step(dh, first, [batch, width]);
        }
        let mut step = StepGradient { steps, chunk_start, dy, sent: false, sent_before_mask: false };
        let stages = &self.trace.stages;
        stages.iter().rev().for_each(|stage| stage.backward(builder, self, &mut step));
        stages.iter().rev().for_each(|stage| stage.send_back(builder, self, &mut step));
    }

    /// First element of the cell state's gradient in the sums.
    pub(super) fn dc(&self) -> u32 {
        dc(self.sizes)
    }

    /// First element, in the sums, of the gradient carried past the cell or past the normalisation of its state.
    pub(super) fn past(&self) -> u32 {
        self.dc() + self.sizes.c_slot()
    }
}
