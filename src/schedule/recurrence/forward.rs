//! Forward pass of a recurrent stack: the algorithm.
//!
//! For each layer: W·x for all steps of a chunk of time in one product, then the steps, stage by stage or in dispatches
//! of one or many fused steps (see `strategy.rs`). The hidden and cell states of all steps are in histories in the order of
//! the scan, with the initial state in front, so that a step reads one slot and writes the next.

use super::fused_step;
use super::output::Reader;
use super::product::RecurrentProduct;
use super::sizes::{Drops, LstmSizes, Pass};
use super::stack;
use super::stage::{Emit, Step, StepTensor};
use super::trace::{CellStates, LayerTrace};
use super::weights::{LayerWeights, Norms};
use crate::error::{Error, Result};
use crate::kernel;
use crate::plan::{BufferId, Launch, Role};
use crate::schedule::builder::{Builder, DropoutMask};
use crate::schedule::sequence::{Direction, Sequence};
use std::ops::Range;

/// States before the first step; one pair (h, c) of [D, B, K] and [STATES, D, B, H] a layer.
#[derive(Clone, Debug)]
pub enum Initial {
    /// Zero.
    Zero,
    /// Addresses in buffers.
    States(Vec<[(BufferId, u32); 2]>),
}

impl Initial {
    fn is_zero(&self) -> bool {
        matches!(self, Initial::Zero)
    }
}

/// Arguments of a stack's forward pass.
pub struct Forward<'a> {
    /// Weights of each layer.
    pub weights: &'a [LayerWeights],
    /// Input [T, B, I].
    pub x: &'a Sequence,
    /// States before the first step.
    pub initial: &'a Initial,
    /// True in training.
    pub train: bool,
    /// True if the last layer's output is read at every step.
    pub whole: bool,
}

/// Plans a stack's forward pass.
pub fn lstm(builder: &mut Builder, sizes: &LstmSizes, stack: &Forward) -> Result<Vec<LayerTrace>> {
    if let (false, Some(launch)) = (stack.train, sizes.stack_step(&builder.capabilities))
        && builder.chunk_steps(sizes.steps) == sizes.steps
    {
        return stack::lstm(builder, sizes, stack, launch);
    }
    let mut traces: Vec<LayerTrace> = Vec::new();
    for (layer, weights) in stack.weights.iter().enumerate() {
        builder.section(format!("{} layer {layer} forward", sizes.name));
        let below = traces.last().and_then(|below| below.y.as_ref()).unwrap_or(stack.x);
        let (x, input_drops) = dropped_input(builder, sizes, layer, below, stack.train)?;
        let start = match stack.initial {
            Initial::Zero => [None; 2],
            Initial::States(states) => states[layer].map(Some),
        };
        let reader = match (layer as u32 + 1 == sizes.layers, stack.whole) {
            (true, false) => Reader::LastStates,
            (true, true) => Reader::User,
            (false, _) => Reader::NextLayer,
        };
        let fused =
            if stack.train || stack.initial.is_zero() { None } else { sizes.fused_step(layer, &builder.capabilities) };
        let pass = ForwardPass::new(builder, sizes, weights, layer, stack.train, fused)?;
        let trace = pass.forward(builder, x, start, reader)?;
        traces.push(LayerTrace { input_drops, ..trace });
    }
    Ok(traces)
}

/// A layer's input under its dropout.
fn dropped_input(
    builder: &mut Builder,
    sizes: &LstmSizes,
    layer: usize,
    x: &Sequence,
    train: bool,
) -> Result<(Sequence, Vec<DropoutMask>)> {
    let (mut x, mut drops) = (x.clone(), Vec::new());
    let Drops { between, input, .. } = sizes.drops;
    for (probability, shared) in [(if layer > 0 { between } else { 0.0 }, false), (input, true)] {
        if train && probability > 0.0 {
            let drop = DropoutMask { probability, rng_stream: builder.rng_stream(), shared };
            let kind = if shared { "dropped" } else { "dropped by step" };
            x = builder.dropout(&format!("{}.l{layer}.x {kind}", sizes.name), &x, sizes.batch, drop)?;
            drops.push(drop);
        }
    }
    Ok((x, drops))
}

/// A layer's forward pass: sizes, weights, and the buffers that its stages share.
pub struct ForwardPass<'a> {
    pub(super) sizes: &'a LstmSizes,
    /// Prefix of the layer's buffers.
    pub(super) name: String,
    pub(super) weights: &'a LayerWeights,
    pub(super) train: bool,
    /// W·x of a chunk, [steps, D, B, 4H] in the order of the scan.
    pub(super) xw: BufferId,
    pub(super) key_and_lengths: BufferId,
    /// Hidden states, with one slot of lead.
    pub(super) h: Sequence,
    pub(super) states: CellStates,
    /// Recurrent weights after dropout, [D, K / heads, 4H].
    pub(super) r: BufferId,
    weight_drop: Option<DropoutMask>,
    /// Factors of the hidden state before the product, [D, B, K].
    pub(super) mask: Option<BufferId>,
    pub(super) recurrent_drop: Option<DropoutMask>,
    /// Stream of zoneout's random bits.
    pub(super) zoneout_stream: u32,
    /// The recurrent product, if the cell does not compute it.
    pub(super) product: Option<RecurrentProduct>,
    /// The launch of a single step from its input, without a product before it.
    fused: Option<Launch>,
}

impl<'a> ForwardPass<'a> {
    fn new(
        builder: &mut Builder,
        sizes: &'a LstmSizes,
        weights: &'a LayerWeights,
        layer: usize,
        train: bool,
        fused: Option<Launch>,
    ) -> Result<ForwardPass<'a>> {
        let name = format!("{}.l{layer}", sizes.name);
        let chunk = builder.chunk_steps(sizes.steps) as u64;
        let state = [sizes.steps, sizes.batch, sizes.directions * sizes.width];
        let mut pass = ForwardPass {
            xw: sizes.scratch(builder, "W·x", if fused.is_some() { 1 } else { chunk * sizes.gate_slot() as u64 })?,
            key_and_lengths: builder.words(sizes.batch)?,
            h: builder.sequence(&format!("{name}.h"), state, if fused.is_some() { 0 } else { 1 }, Role::Scratch)?,
            states: CellStates::new(builder, sizes, &name, train)?,
            r: weights.r,
            weight_drop: None,
            mask: None,
            recurrent_drop: None,
            zoneout_stream: 0,
            product: None,
            fused,
            sizes,
            name,
            weights,
            train,
        };
        if train {
            pass.drop_weights(builder)?;
            pass.drop_hidden(builder)?;
        } else {
            [Some(weights.w), Some(weights.r), weights.projection]
                .into_iter()
                .flatten()
                .for_each(|id| builder.rounds(id));
        }
        pass.zoneout_stream = builder.rng_stream();
        pass.product = RecurrentProduct::new(builder, &pass)?;
        Ok(pass)
    }

    /// Makes buffers for gradients; `None` in inference.
    pub(super) fn in_training<T>(&self, make: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        self.train.then(make).transpose()
    }

    /// A scratch buffer of the layer.
    pub(super) fn buffer(&self, builder: &mut Builder, kind: &str, len: u64) -> Result<BufferId> {
        builder.buffer(format!("{}.{kind}", self.name), len, Role::Scratch)
    }

    /// A tensor [D, B, features] of every step, saved for backward.
    pub(super) fn every_step(&self, builder: &mut Builder, kind: &str, features: u32) -> Result<StepTensor> {
        let shape = [self.sizes.steps, self.sizes.batch, self.sizes.directions * features];
        builder.sequence(&format!("{}.{kind}", self.name), shape, 0, Role::Scratch).map(StepTensor::Every)
    }

    /// Address of W·x of a step, [D, B, 4H].
    pub(super) fn xw_of(&self, step: &Step) -> (BufferId, u32) {
        (self.xw, (step.steps.start - step.chunk_start) * self.sizes.gate_slot())
    }

    /// The recurrent product that a stage reads.
    pub(super) fn product(&self) -> Result<&RecurrentProduct> {
        self.product.as_ref().ok_or_else(|| Error::Plan("a stage reads a product that the cell makes".into()))
    }

    /// Weights of the normalisations.
    pub(super) fn norms(&self) -> Result<Norms> {
        self.weights.norm.ok_or_else(|| Error::Plan("a normalisation without weights".into()))
    }

    /// Address of h' of a step.
    pub(super) fn h_before(&self, step: u32) -> (BufferId, u32) {
        let (h, at) = self.h.at(step);
        (h, at - self.sizes.h_slot())
    }

    /// Applies dropout to the recurrent weights.
    fn drop_weights(&mut self, builder: &mut Builder) -> Result<()> {
        let (sizes, probability) = (self.sizes, self.sizes.drops.weights);
        if probability > 0.0 {
            let drop = DropoutMask { probability, rng_stream: builder.rng_stream(), shared: true };
            let dropped = self.buffer(builder, "R dropped", sizes.r_len())?;
            let shape = [1, sizes.directions * sizes.seen(), sizes.columns()];
            builder.drop_rows(self.key_and_lengths, shape, (self.r, 0), dropped, drop);
            (self.r, self.weight_drop) = (dropped, Some(drop));
        }
        Ok(())
    }

    /// Draws the dropout mask of the hidden state before the product.
    fn drop_hidden(&mut self, builder: &mut Builder) -> Result<()> {
        let (sizes, probability) = (self.sizes, self.sizes.drops.recurrent);
        if probability > 0.0 {
            let drop = DropoutMask { probability, rng_stream: builder.rng_stream(), shared: true };
            let slot = sizes.h_slot();
            let ones = self.buffer(builder, "ones", slot as u64)?;
            let mask = self.buffer(builder, "mask", slot as u64)?;
            builder.fill(ones, 0..slot, 1.0);
            builder.drop_rows(
                self.key_and_lengths,
                [1, sizes.directions * sizes.batch, sizes.width],
                (ones, 0),
                mask,
                drop,
            );
            (self.mask, self.recurrent_drop) = (Some(mask), Some(drop));
        }
        Ok(())
    }

    fn forward(
        self,
        builder: &mut Builder,
        x: Sequence,
        start: [Option<(BufferId, u32)>; 2],
        reader: Reader,
    ) -> Result<LayerTrace> {
        let (stages, c_last) = match (self.fused, start) {
            (Some(launch), [Some(h), Some(c)]) => (Vec::new(), fused_step::step(builder, &self, launch, &x, [h, c])?),
            _ => {
                let stages: Vec<Box<dyn Emit>> =
                    self.sizes.stages.iter().map(|stage| (stage.plan)(builder, &self)).collect::<Result<_>>()?;
                let c_last = self.chunks(builder, &stages, &x, start);
                (stages, c_last)
            }
        };
        let y = match reader {
            Reader::LastStates => None,
            _ => Some(self.output(builder, reader)?),
        };
        Ok(LayerTrace {
            x,
            h_last: self.h.at(self.sizes.steps - 1),
            c_last,
            h: self.h,
            saved: match self.states {
                CellStates::Training(saved) => Some(saved),
                CellStates::Inference { .. } => None,
            },
            y,
            r: self.r,
            stages,
            input_drops: Vec::new(),
            recurrent_drop: self.recurrent_drop,
            weight_drop: self.weight_drop,
            zoneout_stream: self.zoneout_stream,
        })
    }

    /// Runs all chunks of time; returns the address of the last c.
    fn chunks(
        &self,
        builder: &mut Builder,
        stages: &[Box<dyn Emit>],
        x: &Sequence,
        start: [Option<(BufferId, u32)>; 2],
    ) -> (BufferId, u32) {
        let (sizes, slot) = (self.sizes, self.sizes.c_slot());
        let most = sizes.launch(Pass::Forward, &builder.capabilities).steps;
        let (mut dispatch, mut c_last) = (0, (self.states.at(0, 0, slot).buffer, 0));
        for chunk in 0..self.h.chunks.len() {
            let range = self.h.chunk_range(chunk);
            self.states_before(builder, chunk, start);
            let xw = stages.iter().find_map(|stage| stage.input_product(range.start)).unwrap_or((self.xw, 0));
            for direction in sizes.each_direction() {
                for part in direction.segments(range.clone(), x.chunk_steps) {
                    input_product(builder, sizes, self.weights.w, x, direction, part, (xw.0, xw.1, range.start));
                }
            }
            stages.iter().for_each(|stage| stage.begin_chunk(builder, self, &range));
            for first in range.clone().step_by(most as usize) {
                let end = range.end.min(first.saturating_add(most));
                let step = Step { steps: first..end, chunk_start: range.start, dispatch };
                stages.iter().for_each(|stage| stage.forward(builder, self, &step));
                let c = self.states.at(first, dispatch, slot);
                c_last = (c.buffer, c.after + if self.train { (end - first - 1) * slot } else { 0 });
                dispatch += 1;
            }
        }
        c_last
    }

    /// Copies the states before a chunk's first step to the slots in front of it.
    fn states_before(&self, builder: &mut Builder, chunk: usize, start: [Option<(BufferId, u32)>; 2]) {
        let (sizes, first) = (self.sizes, self.h.chunk_range(chunk).start);
        if first > 0 {
            builder.copy_run(sizes.h_slot(), self.h.at(first - 1), (self.h.chunks[chunk], 0));
            if let CellStates::Training(saved) = &self.states {
                builder.copy_run(sizes.c_slot(), saved.c.at(first - 1), (saved.c.chunks[chunk], 0));
            }
            return;
        }
        let histories = [self.h.chunks[0], self.states.at(0, 0, sizes.c_slot()).buffer];
        for ((state, history), len) in start.into_iter().zip(histories).zip([sizes.h_slot(), sizes.c_slot()]) {
            match state {
                Some(state) => builder.copy_run(len, state, (history, 0)),
                None => builder.fill(history, 0..len, 0.0),
            }
        }
    }
}

/// Computes W·x [s, d] = x[time of s]·W[d] for some steps.
pub(super) fn input_product(
    builder: &mut Builder,
    sizes: &LstmSizes,
    w: BufferId,
    x: &Sequence,
    direction: Direction,
    part: Range<u32>,
    (to, c_first, chunk_start): (BufferId, u32, u32),
) {
    let (d, input, columns) = (direction.index, x.features, sizes.columns());
    let (x_buffer, a_offset) = x.at(direction.time(part.start));
    let rows = part.len() as u32 * sizes.batch;
    let product = kernel::Matmul {
        m_split: sizes.batch,
        a_offset,
        a_m_hi: direction.stride(x.step),
        a_m_lo: x.row as i32,
        b_offset: d * input * columns,
        c_offset: c_first + ((part.start - chunk_start) * sizes.directions + d) * sizes.batch * columns,
        c_m_hi: (sizes.directions * sizes.batch * columns) as i32,
        ..kernel::Matmul::plain(rows, columns, input)
    };
    builder.rounded_matmul(product, x_buffer, w, to);
}
