//! Collects the commands and buffers of a plan.

use super::sequence::Sequence;
use crate::cell::CellSpec;
use crate::error::{Error, Result, Unit};
use crate::kernel::{self, Access, Call, Constants, Kernel, NoConstants, Params};
use crate::memory;
use crate::plan::{Buffer, BufferId, Capabilities, Command, Plan, Role};
use crate::random;
use std::ops::Range;

/// A random mask: 0 with a probability, else the reciprocal of the probability to stay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DropoutMask {
    /// Probability that an element is dropped, from 0 to below 1.
    pub probability: f64,
    /// Stream of random bits.
    pub rng_stream: u32,
    /// True if all time steps of a sequence share the mask.
    pub shared: bool,
}

impl DropoutMask {
    /// Random bits below this drop an element.
    pub fn threshold(&self) -> u32 {
        random::threshold(self.probability)
    }

    /// Factor of the other elements, which keeps the expected value.
    pub fn scale(&self) -> f32 {
        (1.0 / (1.0 - self.probability)) as f32
    }
}

/// A segment of time, for plans that go through time in segments: sequences then hold the steps of one segment, and buffers and
/// sections of the same name are used again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Segment {
    /// First step.
    pub first: u32,
    /// True if gradients are added to those of other segments.
    pub adds: bool,
    /// True if the forward pass is repeated, for backward.
    pub again: bool,
}

/// Builder of a plan. Offsets and sizes count f32 elements.
#[derive(Debug)]
pub struct Builder {
    plan: Plan,
    /// The device's limits.
    pub capabilities: Capabilities,
    /// Steps of a chunk, the same for all tensors; see [`Builder::chunk_by`].
    chunk_steps: u32,
    /// Number of streams of random bits in use.
    rng_streams: u32,
    /// Index of the section that commands belong to.
    section: usize,
    segment: Option<Segment>,
    /// Time axis of the node that is planned.
    axis: usize,
    /// True if gradients are added to those of another use of the same weights.
    adds: bool,
    /// True if gradients are added to those of other batches.
    accumulates: bool,
    /// The error after which commands are no longer added.
    lacking: Option<Error>,
    /// True if the scheduler makes all of the plan, so that it may run without checks of indices.
    trusted: bool,
    /// Number of commands of [`Builder::push_early`] in front.
    early: usize,
}

/// Memory of a command in a plan, with its parameters, twice for a list that grows by doubling.
const BYTES_OF_A_COMMAND: u64 = 1024;

impl Builder {
    /// An empty plan. GPUs run the result with wgpu's checks of every index
    /// ([`Plan::is_trusted`](crate::plan::Plan::is_trusted)).
    pub fn new(title: impl Into<String>, capabilities: Capabilities) -> Builder {
        let mut plan = Plan::default();
        plan.title = title.into();
        plan.sections = vec!["start".into()];
        Builder {
            plan,
            capabilities,
            chunk_steps: u32::MAX,
            rng_streams: 0,
            section: 0,
            segment: None,
            axis: 0,
            adds: false,
            accumulates: false,
            lacking: None,
            trusted: false,
            early: 0,
        }
    }

    /// An empty plan to which the scheduler alone adds commands. It must not leave the crate before it is finished.
    pub(crate) fn trusted(title: impl Into<String>, capabilities: Capabilities) -> Builder {
        Builder { trusted: true, ..Builder::new(title, capabilities) }
    }

    /// Checks the plan and returns it.
    pub fn finish(mut self) -> Result<Plan> {
        if let Some(error) = self.lacking {
            return Err(error);
        }
        self.plan.check(&self.capabilities)?;
        self.plan.set_trusted(self.trusted);
        Ok(self.plan)
    }

    /// Sets the plan's text on how the recurrence runs, and why.
    pub fn strategy(&mut self, strategy: impl Into<String>) {
        self.plan.strategy = strategy.into();
    }

    /// Starts a named section of the plan.
    pub fn section(&mut self, name: impl Into<String>) {
        let mut name = name.into();
        if let Some(Segment { again, .. }) = self.segment {
            if again && name.ends_with(" forward") {
                name += " again";
            }
            if let Some(known) = self.plan.sections.iter().position(|section| *section == name) {
                self.section = known;
                return;
            }
        }
        if self.plan.sections.last().is_some_and(|last| *last == name) {
            return;
        }
        self.plan.sections.push(name);
        self.section = self.plan.sections.len() - 1;
    }

    /// Starts a segment of time, to which the following commands belong. Streams of random bits are numbered from the first again.
    pub(crate) fn begin_segment(&mut self, segment: Segment) {
        self.segment = Some(segment);
        self.rng_streams = 0;
    }

    /// Ends the last segment; the following commands are for all of time.
    pub(crate) fn end_segments(&mut self) {
        self.segment = None;
    }

    /// Number of commands so far.
    pub(crate) fn count(&self) -> usize {
        self.plan.commands.len()
    }

    /// Number of commands of [`Builder::push_early`], by which the others move back.
    pub(crate) fn early(&self) -> usize {
        self.early
    }

    /// The first step of the segment.
    pub(crate) fn first_step(&self) -> u32 {
        self.segment.map_or(0, |segment| segment.first)
    }

    /// True if gradients are added to those of other segments or batches, or of another use of the same weights.
    pub(crate) fn adds(&self) -> bool {
        self.adds || self.accumulates || self.segment.is_some_and(|segment| segment.adds)
    }

    /// Has gradients added to those of another use of the same weights, or not.
    pub(crate) fn set_adds(&mut self, adds: bool) {
        self.adds = adds;
    }

    /// Has gradients added to those of other batches.
    pub(crate) fn accumulate(&mut self) {
        self.accumulates = true;
    }

    /// Sets the time axis of the node that is planned next.
    pub(crate) fn set_axis(&mut self, axis: usize) {
        self.axis = axis;
    }

    /// Makes chunks of time hold whole segments of `steps`, which must be no longer than a chunk.
    pub(crate) fn chunk_by_segments(&mut self, steps: u32) {
        self.chunk_steps = (self.chunk_steps / steps).max(1) * steps;
    }

    /// Elements of the largest tensor that can be bound. Offsets are 32-bit and strides signed.
    fn most_elements(&self) -> u64 {
        (self.capabilities.max_binding_bytes / 4).min(i32::MAX as u64)
    }

    /// Shortens chunks of time, if necessary, so that a tensor of `per_step` elements a step can be bound, with
    /// one step more for the state before the chunk.
    pub fn chunk_by(&mut self, what: &str, per_step: u64) -> Result<()> {
        let steps = (self.most_elements() / per_step.max(1)).saturating_sub(1);
        if steps == 0 {
            return Err(Error::TooLarge {
                what: format!("one time step of {what}, {per_step} elements, with the step before it"),
                needed: 8 * per_step,
                available: self.capabilities.max_binding_bytes,
                unit: Unit::Bytes,
                advice: "use a smaller batch or fewer hidden units, or Device::cpu()".into(),
            });
        }
        self.chunk_steps = self.chunk_steps.min(steps.min(u32::MAX as u64) as u32);
        Ok(())
    }

    /// Steps of a chunk of a sequence of `steps`.
    pub fn chunk_steps(&self, steps: u32) -> u32 {
        self.chunk_steps.min(steps)
    }

    /// Adds a buffer of `len` elements (at least one is allocated).
    pub fn buffer(&mut self, name: impl Into<String>, len: u64, role: Role) -> Result<BufferId> {
        self.declare(name.into(), len, role, self.segment.is_some())
    }

    /// The buffer of that name, added if there is none.
    pub(super) fn shared(&mut self, name: impl Into<String>, len: u64, role: Role) -> Result<BufferId> {
        self.declare(name.into(), len, role, true)
    }

    /// Adds a buffer; with `again`, returns an existing one of that name, grown to `len`.
    fn declare(&mut self, name: String, len: u64, role: Role, again: bool) -> Result<BufferId> {
        let len = len.max(1);
        if len > self.most_elements() {
            return Err(Error::TooLarge {
                what: name,
                needed: 4 * len,
                available: 4 * self.most_elements(),
                unit: Unit::Bytes,
                advice: "use a smaller model or batch, or Device::cpu()".into(),
            });
        }
        if let (true, Some(id)) = (again, self.plan.find(&name)) {
            let held = &mut self.plan.buffers[id.0].len;
            *held = len.max(*held);
            return Ok(id);
        }
        self.plan.buffers.push(Buffer { name, len, role, rounds: false });
        Ok(BufferId(self.plan.buffers.len() - 1))
    }

    /// Adds a sequence [steps, batch, features], in chunks, with `lead` slots of [batch, features] before each chunk.
    pub fn sequence(
        &mut self,
        name: &str,
        [steps, batch, features]: [u32; 3],
        lead: u32,
        role: Role,
    ) -> Result<Sequence> {
        let slot = batch as u64 * features as u64;
        let chunk_steps = self.chunk_steps(steps);
        let count = steps.div_ceil(chunk_steps);
        let chunks = (0..count)
            .map(|k| {
                let held = chunk_steps.min(steps - k * chunk_steps) as u64;
                let name = if count == 1 { name.to_string() } else { format!("{name}[{k}]") };
                self.buffer(name, (held + lead as u64) * slot, role)
            })
            .collect::<Result<_>>()?;
        let slot = slot as u32;
        Ok(Sequence { chunks, steps, chunk_steps, lead: lead * slot, step: slot, row: features, features })
    }

    /// Adds a command.
    pub fn push(
        &mut self,
        kernel: &'static Kernel,
        cell: Option<&'static CellSpec>,
        constants: &impl Constants,
        params: &impl Params,
        buffers: &[BufferId],
    ) {
        self.push_words(kernel, cell, &constants.values(), bytemuck::cast_slice(bytemuck::bytes_of(params)), buffers);
    }

    /// Adds a command, in front of all others but those added so before, if it reads weights of the model alone.
    pub(super) fn push_early(
        &mut self,
        kernel: &'static Kernel,
        constants: &impl Constants,
        params: &impl Params,
        buffers: &[BufferId],
    ) {
        let count = self.count();
        self.push(kernel, None, constants, params, buffers);
        let writes = |k: usize| kernel.bindings[k].access != Access::Read;
        let alone = (0..buffers.len()).all(|k| writes(k) || self.plan.buffers[buffers[k].0].role == Role::Weight);
        if alone && self.segment.is_none() && self.count() > count {
            self.plan.commands[self.early..].rotate_right(1);
            self.early += 1;
        }
    }

    /// Adds a command whose constants and parameter block are given as 32-bit words.
    pub fn push_words(
        &mut self,
        kernel: &'static Kernel,
        cell: Option<&'static CellSpec>,
        constants: &[u32],
        params: &[u32],
        buffers: &[BufferId],
    ) {
        // Checked when the list is about to grow, which it does by doubling. More commands than there is memory for cannot run.
        let held = self.plan.commands.len();
        if self.lacking.is_none() && held == self.plan.commands.capacity() {
            self.lacking = memory::probe(held as u64 * BYTES_OF_A_COMMAND, format_args!("{held} commands")).err();
        }
        if self.lacking.is_some() {
            return;
        }
        let call = Call { kernel, cell, constants: constants.to_vec(), params: params.to_vec() };
        self.plan.commands.push(Command { call, buffers: buffers.to_vec(), section: self.section });
    }

    /// Sets a range to a value.
    pub fn fill(&mut self, buffer: BufferId, range: Range<u32>, value: f32) {
        let params = kernel::Fill { offset: range.start, n: range.end - range.start, value };
        self.push(&kernel::FILL, None, &NoConstants, &params, &[buffer]);
    }

    /// Copies `n` elements from one buffer to another.
    pub fn copy_run(&mut self, n: u32, src: (BufferId, u32), dst: (BufferId, u32)) {
        self.copy([1, 1, 1, n], src, [0, 0, 0, 1], dst, [0, 0, 0, 1], false);
    }

    /// [`Builder::copy_run`] in front of all other commands but those that come first, if it copies weights of the model.
    pub(super) fn copy_run_early(&mut self, n: u32, src: (BufferId, u32), dst: (BufferId, u32)) {
        let params = strided_copy([1, 1, 1, n], src.1, [0, 0, 0, 1], dst.1, [0, 0, 0, 1], false);
        self.push_early(&kernel::COPY, &NoConstants, &params, &[src.0, dst.0]);
    }

    /// Adds `n` elements to others in another buffer.
    pub(crate) fn add_run(&mut self, n: u32, src: (BufferId, u32), dst: (BufferId, u32)) {
        self.copy([1, 1, 1, n], src, [0, 0, 0, 1], dst, [0, 0, 0, 1], true);
    }

    /// Copies, or adds, a block with strides.
    pub fn copy(
        &mut self,
        size: [u32; 4],
        src: (BufferId, u32),
        src_strides: [i32; 4],
        dst: (BufferId, u32),
        dst_strides: [i32; 4],
        add: bool,
    ) {
        let params = strided_copy(size, src.1, src_strides, dst.1, dst_strides, add);
        self.push(&kernel::COPY, None, &NoConstants, &params, &[src.0, dst.0]);
    }

    /// Copies, or adds, a sequence [T, B, F] to another of that shape.
    pub(crate) fn copy_sequence(&mut self, from: &Sequence, to: &Sequence, batch: u32, add: bool) {
        for part in from.parts(to) {
            self.copy(
                [1, part.len() as u32, batch, to.features],
                from.at(part.start),
                [0, from.step as i32, from.row as i32, 1],
                to.at(part.start),
                [0, to.step as i32, to.row as i32, 1],
                add,
            );
        }
    }

    /// A new stream of random bits, different from all others of the plan.
    pub(crate) fn rng_stream(&mut self) -> u32 {
        self.rng_streams += 1;
        self.rng_streams - 1
    }

    /// The buffer of 32-bit words that the host writes for a run of `batch` rows: a key for random bits (2), then the lengths
    /// of the sequences, along the time axis of the node that is planned.
    pub fn words(&mut self, batch: u32) -> Result<BufferId> {
        self.words_of(self.axis, batch)
    }

    /// [`Builder::words`] of a time axis.
    pub(crate) fn words_of(&mut self, axis: usize, batch: u32) -> Result<BufferId> {
        let name = words_name(axis);
        match self.plan.find(&name) {
            Some(id) => Ok(id),
            None => self.buffer(name, 2 + batch as u64, Role::Input),
        }
    }

    /// A buffer for bindings that a call does not use; a call may bind it only once.
    pub(crate) fn unused(&mut self) -> BufferId {
        const NAME: &str = "unused";
        self.plan.find(NAME).unwrap_or_else(|| {
            self.plan.buffers.push(Buffer { name: NAME.into(), len: 1, role: Role::Scratch, rounds: false });
            BufferId(self.plan.buffers.len() - 1)
        })
    }

    /// A sequence under a dropout mask.
    pub(crate) fn dropout(&mut self, name: &str, x: &Sequence, batch: u32, drop: DropoutMask) -> Result<Sequence> {
        let key_and_lengths = self.words(batch)?;
        let y = self.sequence(name, [x.steps, batch, x.features], 0, Role::Scratch)?;
        let step = batch * x.features;
        let before = self.first_step();
        for part in x.parts(&y) {
            let ((from, src_offset), (to, dst_offset)) = (x.at(part.start), y.at(part.start));
            let params = kernel::Dropout {
                steps: part.len() as u32,
                rows: batch,
                features: x.features,
                src_offset,
                src_step: x.step,
                src_row: x.row,
                dst_offset,
                dst_step: y.step,
                dst_row: y.row,
                index: if drop.shared { 0 } else { (before + part.start).wrapping_mul(step) },
                index_step: if drop.shared { 0 } else { step },
                site: drop.rng_stream,
                threshold: drop.threshold(),
                scale: drop.scale(),
            };
            self.push(&kernel::DROPOUT, None, &NoConstants, &params, &[key_and_lengths, from, to]);
        }
        Ok(y)
    }

    /// Multiplies contiguous rows [steps, rows, features] by a mask, the same in each step.
    pub(crate) fn drop_rows(
        &mut self,
        key_and_lengths: BufferId,
        [steps, rows, features]: [u32; 3],
        (from, src_offset): (BufferId, u32),
        to: BufferId,
        drop: DropoutMask,
    ) {
        let params = kernel::Dropout {
            steps,
            rows,
            features,
            src_offset,
            src_step: rows * features,
            src_row: features,
            dst_offset: 0,
            dst_step: rows * features,
            dst_row: features,
            index: 0,
            index_step: 0,
            site: drop.rng_stream,
            threshold: drop.threshold(),
            scale: drop.scale(),
        };
        self.push(&kernel::DROPOUT, None, &NoConstants, &params, &[key_and_lengths, from, to]);
    }

    /// The buffer for the partial sums of all products, as long as the longest needs.
    pub(super) fn partial_sums(&mut self, len: u64) -> BufferId {
        const NAME: &str = "partial sums";
        let id = self.plan.find(NAME).unwrap_or_else(|| {
            self.plan.buffers.push(Buffer { name: NAME.into(), len, role: Role::Scratch, rounds: false });
            BufferId(self.plan.buffers.len() - 1)
        });
        let held = &mut self.plan.buffers[id.0].len;
        *held = len.max(*held);
        id
    }

    /// Lets products read weights in another form.
    pub(super) fn rounds(&mut self, weights: BufferId) {
        self.plan.buffers[weights.0].rounds = true;
    }

    /// True if a buffer holds states of a stream, which its steps may overwrite.
    pub(super) fn is_state(&self, buffer: BufferId) -> bool {
        self.plan.buffers[buffer.0].role == Role::State
    }

    /// The buffer of that name.
    pub fn find(&self, name: &str) -> Option<BufferId> {
        self.plan.find(name)
    }
}

/// Parameters of a copy, or addition, of a block.
fn strided_copy(
    size: [u32; 4],
    src_offset: u32,
    src: [i32; 4],
    dst_offset: u32,
    dst: [i32; 4],
    add: bool,
) -> kernel::StridedCopy {
    kernel::StridedCopy {
        n0: size[0],
        n1: size[1],
        n2: size[2],
        n3: size[3],
        src_offset,
        src_0: src[0],
        src_1: src[1],
        src_2: src[2],
        src_3: src[3],
        dst_offset,
        dst_0: dst[0],
        dst_1: dst[1],
        dst_2: dst[2],
        dst_3: dst[3],
        add: add as u32,
    }
}

/// Name of the buffer of [`Builder::words`] along a time axis.
pub(crate) fn words_name(axis: usize) -> String {
    if axis == 0 { "words".into() } else { format!("words {axis}") }
}
