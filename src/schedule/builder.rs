//! Collects the commands and buffers of a plan.

use super::sequence::Sequence;
use super::update::Trained;
use crate::cell::CellSpec;
use crate::error::{Error, Result};
use crate::kernel::{self, Call, Kernel, params};
use crate::plan::{Buffer, BufferId, Capabilities, Command, Plan, Role};
use std::ops::Range;

/// Steps of the inner loop of a product that one dispatch may run: some drivers end a loop after 65,535 turns (the
/// shader takes 16 terms a turn), and a dispatch must end well before a driver's watchdog.
const MOST_TERMS: u32 = 1 << 19;

/// Makes a plan. Offsets and sizes count f32 elements.
#[derive(Debug)]
pub struct Builder {
    plan: Plan,
    /// The device's limits.
    pub capabilities: Capabilities,
    /// Steps of every chunked tensor's chunk; see [`Builder::chunk_by`].
    chunk_steps: u32,
}

impl Builder {
    /// An empty plan.
    pub fn new(title: impl Into<String>, capabilities: Capabilities) -> Builder {
        let plan = Plan { title: title.into(), sections: vec!["start".into()], ..Plan::default() };
        Builder { plan, capabilities, chunk_steps: u32::MAX }
    }

    /// Checks the plan and hands it over.
    pub fn finish(self) -> Result<Plan> {
        self.plan.check(&self.capabilities)?;
        Ok(self.plan)
    }

    /// Says how the recurrence runs, and why.
    pub fn strategy(&mut self, strategy: impl Into<String>) {
        self.plan.strategy = strategy.into();
    }

    /// Starts a named part of the plan.
    pub fn section(&mut self, name: impl Into<String>) {
        self.plan.sections.push(name.into());
    }

    /// Elements of the largest tensor that can be bound. Offsets are 32-bit and strides signed.
    fn most_elements(&self) -> u64 {
        (self.capabilities.max_binding_bytes / 4).min(i32::MAX as u64)
    }

    /// Makes sure that chunks of time are short enough for a tensor of `per_step` elements a step to be bound, with
    /// one step more for the state before the chunk.
    pub fn chunk_by(&mut self, what: &str, per_step: u64) -> Result<()> {
        let steps = (self.most_elements() / per_step.max(1)).saturating_sub(1);
        if steps == 0 {
            return Err(Error::TooLarge {
                what: format!("one time step of {what}, {per_step} elements, with the step before it"),
                needed: 8 * per_step,
                available: self.capabilities.max_binding_bytes,
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
        let (name, len) = (name.into(), len.max(1));
        if len > self.most_elements() {
            return Err(Error::TooLarge {
                what: name,
                needed: 4 * len,
                available: 4 * self.most_elements(),
                advice: "use a smaller model or batch, or Device::cpu()".into(),
            });
        }
        self.plan.buffers.push(Buffer { name, len, role });
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

    /// Steps of a batch of `batch` rows that one product may take as its rows or terms.
    pub fn most_steps(&self, batch: u32) -> u32 {
        let rows = self.capabilities.max_groups.min(u32::MAX as u64 / params::Matmul::TILE as u64) as u32
            * params::Matmul::TILE;
        rows.min(MOST_TERMS) / batch.max(1)
    }

    /// Adds a command.
    pub fn push(
        &mut self,
        kernel: &'static Kernel,
        cell: Option<&'static CellSpec>,
        constants: &[u32],
        params: &impl bytemuck::NoUninit,
        buffers: &[BufferId],
    ) {
        self.push_words(kernel, cell, constants, bytemuck::cast_slice(bytemuck::bytes_of(params)), buffers);
    }

    /// Adds a command whose parameter block is given as words.
    pub fn push_words(
        &mut self,
        kernel: &'static Kernel,
        cell: Option<&'static CellSpec>,
        constants: &[u32],
        params: &[u32],
        buffers: &[BufferId],
    ) {
        let call = Call { kernel, cell, constants: constants.to_vec(), params: params.to_vec() };
        let section = self.plan.sections.len() - 1;
        self.plan.commands.push(Command { call, buffers: buffers.to_vec(), section });
    }

    /// Sets a range to a value.
    pub fn fill(&mut self, buffer: BufferId, range: Range<u32>, value: f32) {
        let params = params::Fill { offset: range.start, n: range.end - range.start, value };
        self.push(&kernel::FILL, None, &[], &params, &[buffer]);
    }

    /// Copies `n` elements; the two places must lie in different buffers.
    pub fn copy_run(&mut self, n: u32, src: (BufferId, u32), dst: (BufferId, u32)) {
        self.copy([1, 1, 1, n], src, [0, 0, 0, 1], dst, [0, 0, 0, 1], false);
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
        let params = params::Copy {
            n0: size[0],
            n1: size[1],
            n2: size[2],
            n3: size[3],
            src_offset: src.1,
            src_0: src_strides[0],
            src_1: src_strides[1],
            src_2: src_strides[2],
            src_3: src_strides[3],
            dst_offset: dst.1,
            dst_0: dst_strides[0],
            dst_1: dst_strides[1],
            dst_2: dst_strides[2],
            dst_3: dst_strides[3],
            add: add as u32,
        };
        self.push(&kernel::COPY, None, &[], &params, &[src.0, dst.0]);
    }

    /// Adds a matrix product; see [`params::Matmul`].
    pub fn matmul(&mut self, params: params::Matmul, a: BufferId, b: BufferId, c: BufferId) {
        self.push(&kernel::MATMUL, None, &[], &params, &[a, b, c]);
    }

    /// The buffer of that name.
    pub fn find(&self, name: &str) -> Option<BufferId> {
        self.plan.find(name)
    }

    /// A weight and its gradient, with the length and name that the plan knows.
    pub(super) fn trained(&self, weight: BufferId, gradient: BufferId) -> Trained {
        let buffer = &self.plan.buffers[weight.0];
        Trained { weight, gradient, len: buffer.len as u32, name: buffer.name.clone() }
    }
}
