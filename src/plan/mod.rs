//! Plans: lists of kernel calls over named buffers, made by the scheduler and run by an executor.
//!
//! A plan is independent of a device. It can be checked ([`Plan::check`]), printed (its `Display` shows kernels,
//! dispatches, FLOPs, bytes, buffers and the strategy chosen) and run on either executor, in whole or in part.
//!
//! ```
//! use wgpu_lstm::{Capabilities, Lstm};
//! let plan = Lstm::new(8).layers(2).plan(3, 2, 5, &Capabilities::default())?; // I = 3, B = 2, T = 5
//! assert_eq!(plan.dispatches_of("sequence_forward"), 2); // one a layer
//! println!("{plan}");
//! # Ok::<(), wgpu_lstm::Error>(())
//! ```

mod check;
mod choices;
mod display;
mod launch;
mod matrices;
pub(crate) mod product;
mod step_weights;
mod strategy;

use crate::kernel::Call;
pub use choices::Choices;
pub(crate) use choices::{Tunable, TunedLaunch};
pub(crate) use launch::{Launch, Recurrence};
pub use matrices::{CooperativeMatrices, Matrices};
use std::ops::{Deref, DerefMut};
pub use step_weights::StepWeights;
pub use strategy::Strategy;

/// Limits and properties of a device, as the scheduler needs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Largest buffer that a kernel can bind, in bytes. Larger tensors are split along time.
    pub max_binding_bytes: u64,
    /// Workgroups along one dimension of a dispatch.
    pub max_groups: u64,
    /// Threads that keep the device busy; with more, a thread may take more work to reuse its loads.
    pub busy_threads: u64,
    /// Most hidden units of a layer that runs as [`Strategy::WholeSequence`], unless `strategy` says otherwise or terms are shared.
    pub whole_sequence_units: u32,
    /// True if workgroup memory is faster than other memory, so that products should go through tiles in it.
    pub workgroup_tiles: bool,
    /// True if the device has many more threads than a step of few rows has hidden units, so that several share the terms of a unit's
    /// recurrent product.
    pub shared_terms: bool,
    /// Threads of a workgroup.
    pub workgroup_threads: u32,
    /// Memory of a workgroup, in bytes.
    pub workgroup_bytes: u32,
    /// True if a dispatch's loops must be short: some drivers end them after 65,535 iterations, others have a watchdog.
    pub short_loops: bool,
    /// Strategy of the recurrence; `None`: chosen by size.
    pub strategy: Option<Strategy>,
    /// Most workgroups that run side by side and may wait for each other ([`Strategy::Grid`]); 0 where none do, or nobody asked
    /// ([`GpuOptions::grid`](crate::GpuOptions::grid)).
    pub grid_workgroups: u32,
    /// Form in which time steps read the recurrent weights.
    pub step_weights: StepWeights,
    /// Cooperative matrices for large products of forward passes; `None`: all products are in f32.
    pub cooperative: Option<CooperativeMatrices>,
    /// Memory that a plan may use, in bytes; `None` if it is unknown.
    pub memory_bytes: Option<u64>,
    /// Launches that were measured; without one, the scheduler chooses by its model of cost.
    pub choices: Choices,
}

impl Default for Capabilities {
    /// WebGPU's default limits, which every device keeps: bindings of 128 MiB, 65,535 workgroups of 256 threads and 16 KiB.
    fn default() -> Self {
        Capabilities {
            max_binding_bytes: 128 << 20,
            max_groups: 65_535,
            busy_threads: 1 << 16,
            whole_sequence_units: 128,
            workgroup_tiles: true,
            shared_terms: true,
            workgroup_threads: 256,
            workgroup_bytes: 16 << 10,
            short_loops: true,
            strategy: None,
            grid_workgroups: 0,
            step_weights: StepWeights::F32,
            cooperative: None,
            memory_bytes: None,
            choices: Choices::default(),
        }
    }
}

/// The use of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
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
    /// Its use.
    pub role: Role,
    /// True for weights that the plan's products may read in another form ([`CpuOptions::weights`](crate::CpuOptions::weights)): those of
    /// recurrent layers, in inference.
    pub rounds: bool,
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
    /// Index into [`PlanContents::sections`].
    pub section: usize,
}

/// A list of commands and the buffers they use. It reads like [`PlanContents`].
///
/// The scheduler's own plans are *trusted*: GPUs run them without wgpu's checks of every index and loop, since
/// [`Plan::check`] has compared the elements that each command touches with its buffers. They are computed from the command's
/// parameters, by formulas that hold for the parameters that the scheduler chooses. Hence a plan is no longer trusted after
/// mutable access to its contents, and a plan of a [`Builder`](crate::schedule::Builder) never is.
///
/// ```
/// use wgpu_lstm::{Capabilities, Lstm};
/// let mut plan = Lstm::new(8).plan(3, 2, 5, &Capabilities::default())?; // I = 3, B = 2, T = 5
/// assert!(plan.is_trusted());
/// plan.commands[0].call.params[0] += 1;
/// assert!(!plan.is_trusted());
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Plan {
    contents: PlanContents,
    trusted: bool,
}

/// Contents of a [`Plan`].
#[derive(Clone, Debug, Default)]
pub struct PlanContents {
    /// A line on its purpose.
    pub title: String,
    /// The strategy of the recurrence, and the reason for it.
    pub strategy: String,
    /// The buffers.
    pub buffers: Vec<Buffer>,
    /// The commands, in order.
    pub commands: Vec<Command>,
    /// Names of the plan's parts, for printing.
    pub sections: Vec<String>,
}

impl Deref for Plan {
    type Target = PlanContents;

    fn deref(&self) -> &PlanContents {
        &self.contents
    }
}

impl DerefMut for Plan {
    /// Mutable access; the plan is no longer trusted.
    fn deref_mut(&mut self) -> &mut PlanContents {
        self.trusted = false;
        &mut self.contents
    }
}

impl Plan {
    /// True if the scheduler made the plan and it is unchanged. GPUs run other plans with checks of every index, which cost time.
    pub fn is_trusted(&self) -> bool {
        self.trusted
    }

    pub(crate) fn set_trusted(&mut self, trusted: bool) {
        self.trusted = trusted;
    }

    /// Trusts the plan: it runs without checks of indices and loops, like one of the scheduler. For tests and measurements of
    /// kernels.
    ///
    /// # Safety
    /// Every command's constants and parameters must be as the scheduler chooses them for buffers of these lengths. Otherwise a
    /// kernel may read and write memory outside of its buffers.
    ///
    /// ```
    /// use wgpu_lstm::{Capabilities, plan::Role, schedule::Builder};
    /// let mut plan = Builder::new("fill", Capabilities::default());
    /// let ones = plan.buffer("ones", 4, Role::Output)?;
    /// plan.fill(ones, 0..4, 1.0);
    /// let plan = plan.finish()?;
    /// assert!(!plan.is_trusted());
    /// // SAFETY: the four elements that are filled are those of the buffer.
    /// let plan = unsafe { plan.trust() };
    /// assert!(plan.is_trusted());
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[allow(unsafe_code)]
    pub unsafe fn trust(self) -> Plan {
        Plan { trusted: true, ..self }
    }

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

    /// Number of dispatches of a kernel.
    pub fn dispatches_of(&self, kernel: &str) -> usize {
        self.commands.iter().filter(|command| command.call.kernel.name == kernel).count()
    }
}
