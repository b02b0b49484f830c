//! Plans made ready for a device, and the results that they leave.

use super::machine::Machine;
use super::tensor::{Storage, Tensor};
use crate::cpu::{self, Threads};
use crate::error::{Error, Result};
use crate::gpu::{self, CopyAfter, Destination};
use crate::kernel::Access;
use crate::memory;
use crate::plan::{BufferId, Command, Plan, Role};
use crate::wait;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

/// Time for which a task runs before it lets others run, and dispatches of a GPU between two looks at that.
const SLICE: (Duration, usize) = (Duration::from_millis(1), 4096);

/// A plan made ready for a device.
#[derive(Debug)]
pub struct Executable {
    plan: Arc<Plan>,
    engine: Engine,
    /// See [`Executable::traceless`].
    traceless: OnceLock<usize>,
    /// See [`Executable::prepares`].
    prepares: OnceLock<usize>,
    /// Version of the weights for which the commands that prepare them ran last, plus 1.
    prepared_for: AtomicU64,
    /// Tells it from others.
    mark: Arc<()>,
}

#[derive(Debug)]
pub(super) enum Engine {
    Cpu(Machine<f32>),
    Gpu(Arc<gpu::Context>, gpu::Program),
}

impl Executable {
    /// A plan on an engine that has its buffers.
    pub(super) fn new(plan: Arc<Plan>, engine: Engine) -> Executable {
        let (traceless, prepares) = (OnceLock::new(), OnceLock::new());
        Executable { plan, engine, traceless, prepares, prepared_for: AtomicU64::new(0), mark: Arc::default() }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs everything. On a GPU the host does not wait; reading does.
    ///
    /// # Errors
    /// A device that failed.
    pub fn run(&self) -> Result<()> {
        self.run_range(0..self.plan.commands.len())
    }

    /// Runs the commands of a range: a plan can be run in part on one device and go on, with its buffers carried
    /// over, on another.
    ///
    /// # Errors
    /// A range beyond the plan; a device that failed.
    pub fn run_range(&self, range: Range<usize>) -> Result<()> {
        let count = self.plan.commands.len();
        if range.start > range.end || range.end > count {
            return Err(Error::Config(format!("commands {range:?} were asked for; the plan has 0..{count}")));
        }
        match &self.engine {
            Engine::Cpu(machine) => machine.run(range),
            Engine::Gpu(_, program) => program.run(range, &[]),
        }
    }

    /// [`Executable::run_range`] for commands that are in the plan, with a copy of elements into a tensor after them.
    pub(crate) fn run_copying(
        &self,
        range: Range<usize>,
        from: (BufferId, u64),
        to: (&Tensor, u64),
        len: u64,
    ) -> Result<()> {
        match (&self.engine, &to.0.storage) {
            (Engine::Cpu(machine), _) => {
                machine.run(range)?;
                machine.read_with(from, len, |values| to.0.write(to.1, values));
                Ok(())
            }
            (Engine::Gpu(_, program), Storage::Gpu(_, buffer)) => {
                program.run(range, &[CopyAfter { from, to: (buffer, to.1), len }])
            }
            (Engine::Gpu(..), Storage::Cpu(_)) => Err(Error::Plan("a tensor of another device".into())),
        }
    }

    /// [`Executable::run_range`] for commands that are in the plan, with what is then to be read: on a GPU it is on its way to the host
    /// from here on, all of it by one wait.
    pub(crate) fn run_reading(&self, range: Range<usize>, places: Vec<Place>) -> Result<Reading<'_>> {
        for &(id, at, len) in &places {
            self.check((id, at), len)?;
        }
        let readback = match &self.engine {
            Engine::Cpu(machine) => {
                if !range.is_empty() {
                    machine.run(range)?;
                }
                None
            }
            Engine::Gpu(_, program) => Some(program.run_reading(range, &places)?),
        };
        Ok(Reading { executable: self, places, readback })
    }

    /// Runs everything, letting an executor's other tasks run in between.
    pub(crate) async fn run_async(&self) -> Result<()> {
        let all = self.plan.commands.len();
        let done = self.run_slices(0..all).await?;
        self.run_range(done..all)
    }

    /// Runs commands of a range, letting an executor's other tasks run in between. Gives the first that was not run: that of the range
    /// where the thread may block, for one run is faster than several.
    pub(crate) async fn run_slices(&self, range: Range<usize>) -> Result<usize> {
        let Range { start, end } = range;
        if wait::is_blocking().await {
            return Ok(start);
        }
        let commands = match self.engine {
            Engine::Cpu(_) => 1,
            Engine::Gpu(..) => SLICE.1,
        };
        let (mut done, mut begun) = (start, Instant::now());
        while done < end {
            let next = end.min(done + commands);
            self.run_range(done..next)?;
            done = next;
            if begun.elapsed() > SLICE.0 {
                wait::yield_now().await;
                begun = Instant::now();
            }
        }
        Ok(done)
    }

    /// Runs what a run from command `first` does not have to do at its end, letting an executor's other tasks run in between, and gives the
    /// first command that is left: a GPU's last ones go with what is then to be read, since another submission may have to wait for the
    /// one before.
    pub(crate) async fn run_beginning(&self, first: usize) -> Result<usize> {
        let all = self.plan.commands.len();
        let left = match self.engine {
            Engine::Cpu(_) => 0,
            Engine::Gpu(..) => SLICE.1.min(all - first),
        };
        self.run_slices(first..all - left).await
    }

    /// Commands before the first that changes what is kept from run to run: weights, the optimiser's memory, carried states. A
    /// run that ends before it has left no trace.
    pub(crate) fn traceless(&self) -> usize {
        let kept = |id: BufferId| matches!(self.plan.buffers[id.0].role, Role::Weight | Role::Optimiser | Role::State);
        let changes = |command: &Command| bound(command).any(|(id, access)| access != Access::Read && kept(id));
        *self.traceless.get_or_init(|| self.plan.commands.iter().position(changes).unwrap_or(self.plan.commands.len()))
    }

    /// The first command that a run must run with this version of the weights: what those before it make of weights alone is there since
    /// the last run.
    pub(crate) fn first_for(&self, weights: u64) -> usize {
        if self.prepared_for.load(Ordering::Relaxed) == weights.wrapping_add(1) { self.prepares() } else { 0 }
    }

    /// Notes that a run began with its first command, or with [`Executable::first_for`] this version of the weights.
    pub(crate) fn ran_for(&self, weights: u64) {
        self.prepared_for.store(weights.wrapping_add(1), Ordering::Relaxed);
    }

    /// Number of commands in front that make something of weights alone: another form, copies side by side. What they read and write is
    /// written by no other command.
    fn prepares(&self) -> usize {
        let commands = &self.plan.commands;
        let prepares = |command: &&Command| {
            let role = |id: BufferId| self.plan.buffers[id.0].role;
            let reads = || bound(command).filter(|&(_, access)| access == Access::Read);
            let mut writes = bound(command).filter(|&(_, access)| access != Access::Read);
            reads().next().is_some()
                && reads().all(|(id, _)| role(id) == Role::Weight)
                && writes.all(|(id, _)| role(id) == Role::Scratch)
        };
        *self.prepares.get_or_init(|| {
            let mut count = commands.iter().take_while(prepares).count();
            loop {
                let others = commands[count..].iter().flat_map(bound).filter(|&(_, access)| access != Access::Read);
                let written: HashSet<BufferId> = others.map(|(id, _)| id).collect();
                let changes = |command: &Command| bound(command).any(|(id, _)| written.contains(&id));
                match commands[..count].iter().position(changes) {
                    Some(first) => count = first,
                    None => return count,
                }
            }
        })
    }

    /// Runs everything and gives the milliseconds that the GPU took by its own clock, copies to and from it left out;
    /// nothing on the CPU executor and on GPUs without timestamps.
    ///
    /// # Errors
    /// A device that failed.
    ///
    /// ```
    /// use wgpu_lstm::{Device, plan::Role, schedule::Builder};
    /// let mut plan = Builder::new("fill", Device::cpu().capabilities().clone());
    /// let ones = plan.buffer("ones", 4, Role::Output)?;
    /// plan.fill(ones, 0..4, 1.0);
    /// let executable = Device::cpu().compile(plan.finish()?)?;
    /// assert_eq!(executable.gpu_milliseconds()?, None);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn gpu_milliseconds(&self) -> Result<Option<f64>> {
        wait::block_on(self.gpu_milliseconds_async())
    }

    /// [`Executable::gpu_milliseconds`] for places that cannot block; a GPU without timestamps runs nothing.
    pub(crate) async fn gpu_milliseconds_async(&self) -> Result<Option<f64>> {
        match &self.engine {
            Engine::Cpu(_) => self.run().map(|()| None),
            Engine::Gpu(_, program) => program.milliseconds().await,
        }
    }

    /// Overwrites a buffer from element `at`.
    ///
    /// # Errors
    /// A place outside the plan's buffers; a device that failed.
    pub fn write(&self, place: (BufferId, u64), values: &[f32]) -> Result<()> {
        self.write_with(place, values.len() as u64, |mut to, _| to.put(values))
    }

    /// Has `fill` write `len` elements of a buffer from element `at`, where they lie or on their way to the GPU; it may use the threads that
    /// it is told.
    pub(crate) fn write_with<R>(
        &self,
        (id, at): (BufferId, u64),
        len: u64,
        fill: impl FnOnce(Destination<'_>, Threads) -> R,
    ) -> Result<R> {
        self.check((id, at), len)?;
        match &self.engine {
            Engine::Cpu(machine) => {
                let threads = machine.threads();
                Ok(machine.write_with((id, at), len, |own| fill(Destination::Host(own), threads)))
            }
            Engine::Gpu(_, program) => {
                program.write_with((id, at), len, |to| fill(to, Threads::AtMost(*cpu::DEFAULT_THREADS)))
            }
        }
    }

    /// True if the device would make another plan by now: grids of this one have failed.
    pub(crate) fn is_outdated(&self) -> bool {
        matches!(&self.engine, Engine::Gpu(_, program) if program.has_failed_grids())
    }

    /// Its mark among others while it lives.
    pub(crate) fn mark(&self) -> Weak<()> {
        Arc::downgrade(&self.mark)
    }

    /// True if it has this mark.
    pub(crate) fn is(&self, mark: &Weak<()>) -> bool {
        mark.as_ptr() == Arc::as_ptr(&self.mark)
    }

    /// This moment between submissions to a GPU; `None` on the CPU, where writes are done at once.
    pub(crate) fn unsubmitted(&self) -> Option<Unsubmitted> {
        match &self.engine {
            Engine::Cpu(_) => None,
            Engine::Gpu(_, program) => Some(Unsubmitted { of: self.mark(), submissions: program.submissions() }),
        }
    }

    /// True if nothing was submitted since.
    pub(crate) fn is_unsubmitted(&self, since: &Unsubmitted) -> bool {
        self.is(&since.of) && self.unsubmitted().is_some_and(|now| now.submissions == since.submissions)
    }

    /// A buffer as a tensor, which it stays a buffer of.
    pub(crate) fn tensor(&self, id: BufferId) -> Tensor {
        let storage = match &self.engine {
            Engine::Cpu(machine) => Storage::Cpu(machine.shared(id)),
            Engine::Gpu(context, program) => Storage::Gpu(context.clone(), program.buffer(id).clone()),
        };
        Tensor { len: self.plan.buffers[id.0].len, storage }
    }

    /// Sends what was written to a GPU without waiting for the next run.
    pub(crate) fn flush(&self) -> Result<()> {
        match &self.engine {
            Engine::Cpu(_) => Ok(()),
            Engine::Gpu(_, program) => program.flush(),
        }
    }

    /// Refuses what lies outside a buffer.
    fn check(&self, (id, at): (BufferId, u64), len: u64) -> Result<()> {
        let held = self.plan.buffers.get(id.0).map_or(0, |buffer| buffer.len);
        match at.checked_add(len) {
            Some(end) if end <= held => Ok(()),
            _ => Err(Error::Shape(format!("{len} elements from {at} of buffer {}, which holds {held}", id.0))),
        }
    }

    /// Reads `len` elements of a buffer from element `at`, after everything that was run.
    ///
    /// # Errors
    /// A place outside the plan's buffers; a device that failed.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read(&self, place: (BufferId, u64), len: u64) -> Result<Vec<f32>> {
        wait::block_on(self.read_async(place, len))
    }

    /// [`Executable::read`] for places that cannot block.
    pub async fn read_async(&self, (id, at): (BufferId, u64), len: u64) -> Result<Vec<f32>> {
        self.read_with((id, at), len, |values| memory::copy(values, "a copy of a buffer")).await?
    }

    /// Shows `len` elements of a buffer from element `at`.
    pub(crate) async fn read_with<R>(
        &self,
        (id, at): (BufferId, u64),
        len: u64,
        see: impl FnOnce(&[f32]) -> R,
    ) -> Result<R> {
        let mut see = Some(see);
        let mut result = None;
        let reading = self.run_reading(0..0, vec![(id, at, len)])?;
        reading.see(|_, values, _| result = see.take().map(|see| see(values))).await?;
        // There is one place, which was shown.
        result.ok_or_else(|| Error::Plan("nothing was read".into()))
    }
}

/// The buffers that a command binds, and its access to them.
fn bound(command: &Command) -> impl Iterator<Item = (BufferId, Access)> {
    command.buffers.iter().copied().zip(command.call.kernel.bindings.iter().map(|binding| binding.access))
}

/// A moment between two submissions of an executable.
#[derive(Clone, Debug)]
pub(crate) struct Unsubmitted {
    of: Weak<()>,
    submissions: u64,
}

/// Elements of a buffer: from one on, and how many.
pub(crate) type Place = (BufferId, u64, u64);

/// Elements of a plan's buffers that are to be read after a run.
#[must_use]
pub(crate) struct Reading<'e> {
    executable: &'e Executable,
    places: Vec<Place>,
    readback: Option<gpu::Readback>,
}

impl Reading<'_> {
    /// True if the elements come to a place of their own, so that the plan may run again before they are seen.
    pub fn is_on_its_way(&self) -> bool {
        self.readback.is_some()
    }

    /// Waits for the elements and shows those of each place, by its index, with the threads that may be used.
    pub async fn see(self, mut see: impl FnMut(usize, &[f32], Threads)) -> Result<()> {
        match (&self.executable.engine, self.readback) {
            (Engine::Gpu(context, _), Some(readback)) => {
                let threads = Threads::AtMost(*cpu::DEFAULT_THREADS);
                let mut show = |mut all: &[f32]| {
                    for (k, &(.., len)) in self.places.iter().enumerate() {
                        let (own, rest) = all.split_at(len as usize);
                        see(k, own, threads);
                        all = rest;
                    }
                };
                let shown = readback.see(context, |bytes| match bytemuck::try_cast_slice(bytes) {
                    Ok(all) => {
                        show(all);
                        Ok(())
                    }
                    // Copies that browsers make are not aligned.
                    Err(_) => {
                        let all = bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned);
                        memory::collect(all.len(), all, "a copy of a buffer").map(|all| show(&all))
                    }
                });
                shown.await?
            }
            (Engine::Cpu(machine), _) => {
                let threads = machine.threads();
                for (k, &(id, at, len)) in self.places.iter().enumerate() {
                    machine.read_with((id, at), len, |values| see(k, values, threads));
                }
                Ok(())
            }
            (Engine::Gpu(..), None) => Err(Error::Plan("nothing was read".into())),
        }
    }
}
