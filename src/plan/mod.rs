//! Plans: lists of kernel calls over named buffers, made by the scheduler and run by an executor.
//!
//! A plan knows nothing of a device. It can be checked ([`Plan::check`]), printed (its `Display` shows kernels,
//! dispatches, FLOPs, bytes, buffers and the strategy chosen) and run on either executor, in whole or in part.
//!
//! ```
//! use wgpu_lstm::{Capabilities, Lstm};
//! let plan = Lstm::new(8).layers(2).plan(3, 2, 5, &Capabilities::default())?; // I = 3, B = 2, T = 5
//! assert_eq!(plan.dispatches_of("scan_forward"), 2); // one a layer
//! println!("{plan}");
//! # Ok::<(), wgpu_lstm::Error>(())
//! ```

mod check;
mod display;
mod strategy;

use crate::kernel::Call;
pub use strategy::Strategy;

/// What the scheduler must know of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Largest buffer that a kernel can bind, in bytes. What is larger is split along time.
    pub max_binding_bytes: u64,
    /// Workgroups along one dimension of a dispatch.
    pub max_groups: u64,
    /// Threads that keep the device busy; above that, a thread may take more work to reuse what it has loaded.
    pub busy_threads: u64,
    /// Layers of up to so many hidden units run as [`Strategy::WholeSequence`], unless `strategy` says otherwise.
    pub whole_sequence_units: u32,
    /// Whether workgroup memory is faster than other memory, so that products should go through tiles in it.
    pub workgroup_tiles: bool,
    /// Whether a dispatch's loops must be short: some drivers end them after 65,535 turns, others watch the clock.
    pub short_loops: bool,
    /// How the recurrence is to run; `None`: chosen by size.
    pub strategy: Option<Strategy>,
    /// Whether time steps read the recurrent weights in f16.
    pub half_weights: bool,
    /// Memory that a plan may use in all, in bytes; `None` where the device does not say.
    pub memory_bytes: Option<u64>,
}

impl Default for Capabilities {
    /// WebGPU's default limits, which every device keeps: bindings of 128 MiB, 65,535 workgroups.
    fn default() -> Self {
        Capabilities {
            max_binding_bytes: 128 << 20,
            max_groups: 65_535,
            busy_threads: 1 << 16,
            whole_sequence_units: 128,
            workgroup_tiles: true,
            short_loops: true,
            strategy: None,
            half_weights: false,
            memory_bytes: None,
        }
    }
}

/// What a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Written by the host before a run.
    Input,
    /// Trained; shared between plans.
    Weight,
    /// Gradient of a weight.
    Gradient,
    /// The optimiser's memory; shared between plans.
    Optimiser,
    /// States of a stream; shared between plans.
    State,
    /// Read by the host after a run.
    Output,
    /// Everything else.
    Scratch,
}

/// Index of a buffer in its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub usize);

/// A buffer of f32 elements.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Name; unique in the plan.
    pub name: String,
    /// Elements.
    pub len: u64,
    /// What it is for.
    pub role: Role,
}

impl Buffer {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        4 * self.len
    }
}

/// A kernel call with its buffers.
#[derive(Clone, Debug)]
pub struct Command {
    /// Kernel, parameters, constants, cell.
    pub call: Call,
    /// In binding order.
    pub buffers: Vec<BufferId>,
    /// Index into [`Plan::sections`].
    pub section: usize,
}

/// A list of commands and the buffers they use.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What it does, for people.
    pub title: String,
    /// How the recurrence runs, and why.
    pub strategy: String,
    /// The buffers.
    pub buffers: Vec<Buffer>,
    /// The commands, in order.
    pub commands: Vec<Command>,
    /// Names of the plan's parts, for printing.
    pub sections: Vec<String>,
}

impl Plan {
    /// The buffer of that name.
    pub fn find(&self, name: &str) -> Option<BufferId> {
        self.buffers.iter().position(|buffer| buffer.name == name).map(BufferId)
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        self.buffers.iter().map(Buffer::bytes).sum()
    }

    /// Floating point operations of one run.
    pub fn flops(&self) -> u64 {
        self.commands.iter().map(|command| command.call.flops()).sum()
    }

    /// The least time that a device of these rates (FLOP/s, bytes/s) could take, in milliseconds: the larger of FLOPs over
    /// the one and bytes over the other, with every buffer moved once.
    ///
    /// ```
    /// use wgpu_lstm::{Capabilities, Lstm};
    /// let plan = Lstm::new(256).plan(256, 1, 10, &Capabilities::default())?; // I = 256, B = 1, T = 10
    /// let floor = plan.floor_ms(100e9, 20e9);
    /// assert_eq!(floor, 1e3 * plan.bytes() as f64 / 20e9); // at B = 1 the weights' traffic is the limit
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn floor_ms(&self, flops: f64, bytes: f64) -> f64 {
        1e3 * (self.flops() as f64 / flops).max(self.bytes() as f64 / bytes)
    }

    /// How often a kernel is dispatched.
    pub fn dispatches_of(&self, kernel: &str) -> usize {
        self.commands.iter().filter(|command| command.call.kernel.name == kernel).count()
    }
}
