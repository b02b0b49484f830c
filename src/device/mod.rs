//! Devices: a GPU or the CPU executor, behind one interface.

mod machine;

pub(crate) use crate::gpu::Destination;
pub use machine::Machine;

use crate::cpu::{self, Threads};
use crate::error::{Error, Result, Unit};
use crate::gpu::{self, Adapter, AdapterKind, CopyAfter, GpuOptions};
use crate::kernel::{Access, HALF, INT8};
use crate::lock::{read, write};
use crate::memory;
use crate::plan::{BufferId, Capabilities, Command, Plan, Role};
use crate::tune::Tuner;
use crate::wait;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock, Weak};
use std::time::{Duration, Instant};

/// Something that runs plans. Cheap to clone; clones are the same device.
///
/// ```
/// use wgpu_lstm::Device;
/// let device = Device::auto();
/// println!("running on {device}");
/// ```
#[derive(Clone, Debug)]
pub struct Device(Executor);

#[derive(Clone, Debug)]
enum Executor {
    Cpu(Capabilities, Threads),
    Gpu(Arc<gpu::Context>),
}

impl Device {
    /// The best hardware GPU, else the CPU executor; says which in the log.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn auto() -> Device {
        wait::block_on(Device::auto_async())
    }

    /// [`Device::auto`] for places that cannot block.
    pub async fn auto_async() -> Device {
        match Device::gpu_async(&GpuOptions::default()).await {
            Ok(device) => device,
            Err(reason) => {
                log::info!("using the CPU executor: {reason}");
                Device::cpu()
            }
        }
    }

    /// A GPU, by the options' backend, name and leave to use software.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] where none fits, [`Error::DeviceRefused`] where one fits but does not open or offers too
    /// little. Both say what to do.
    ///
    /// A GPU that fails later makes every call for it end in [`Error::DeviceFailed`]. wgpu panics in some of these cases. The
    /// crate catches such panics and keeps them off standard error by a panic hook that it puts before the program's, when
    /// the first GPU is looked for; a hook that is set later and does not call the one before it sees them. In programs that
    /// are compiled with `panic = "abort"` they end the process.
    ///
    /// ```
    /// use wgpu_lstm::{Device, GpuOptions, Software};
    /// let device = Device::gpu(&GpuOptions { software: Software::Fallback, ..GpuOptions::default() })
    ///     .unwrap_or_else(|_| Device::cpu());
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn gpu(options: &GpuOptions) -> Result<Device> {
        wait::block_on(Device::gpu_async(options))
    }

    /// [`Device::gpu`] for places that cannot block.
    pub async fn gpu_async(options: &GpuOptions) -> Result<Device> {
        #[cfg(not(target_arch = "wasm32"))]
        let context = {
            // Drivers take their time.
            let options = options.clone();
            wait::blocking(move || wait::block_on(gpu::Context::open(&options))).await?
        };
        #[cfg(target_arch = "wasm32")]
        let context = gpu::Context::open(options).await?;
        Ok(Device(Executor::Gpu(Arc::new(context))))
    }

    /// The CPU executor: the same plans, run by the kernels' Rust twins, on as many threads as [`Device::cpu_threads`] has by
    /// default.
    pub fn cpu() -> Device {
        // Offsets are 32-bit and signed where they are strides, hence 2^31 - 1 elements.
        Device::cpu_with(Capabilities {
            max_binding_bytes: 4 * i32::MAX as u64,
            whole_sequence_units: u32::MAX,
            shared_terms: false,
            short_loops: false,
            busy_threads: 1,
            ..Capabilities::default()
        })
    }

    /// The CPU executor under given limits, to see how a plan would be split on a smaller device.
    ///
    /// ```
    /// use wgpu_lstm::{Capabilities, Device};
    /// let device = Device::cpu_with(Capabilities { max_binding_bytes: 1 << 20, ..Capabilities::default() });
    /// assert_eq!(device.capabilities().max_binding_bytes, 1 << 20);
    /// ```
    pub fn cpu_with(capabilities: Capabilities) -> Device {
        let threads = Threads::AtMost(*cpu::DEFAULT_THREADS);
        Device(Executor::Cpu(Capabilities { max_groups: u64::MAX, ..capabilities }, threads))
    }

    /// The CPU executor on at most `threads` threads, the caller's own included: with 1, everything runs on the thread that
    /// calls. 0 is the default: `WGPU_LSTM_THREADS`, read once a process, or, where that is not set, one for every processor
    /// that the process may use ([`available_parallelism`](std::thread::available_parallelism)). More than 1,024 are 1,024.
    ///
    /// A run takes fewer where its work is little or other processes have the processors; it shares its number with other runs of
    /// the process, so that calls from several threads do not get in each other's way, and on a thread of a rayon pool it stays
    /// on that thread. Results are the same bits on any number.
    ///
    /// ```
    /// use ndarray::Array3;
    /// use wgpu_lstm::{Device, Lstm};
    /// let device = Device::cpu_threads(1);
    /// assert_eq!(device.threads(), Some(1));
    /// assert_eq!(Device::cpu_threads(0).threads(), Device::cpu().threads());
    /// let x = Array3::ones((2, 5, 3));
    /// let run = |device| Lstm::new(4).build(device, 3, 0)?.forward(x.view(), None);
    /// assert_eq!(run(&device)?, run(&Device::cpu())?);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn cpu_threads(threads: usize) -> Device {
        let threads = if threads == 0 { *cpu::DEFAULT_THREADS } else { threads.min(cpu::MOST_THREADS) };
        match Device::cpu().0 {
            Executor::Cpu(capabilities, _) => Device(Executor::Cpu(capabilities, Threads::AtMost(threads))),
            gpu @ Executor::Gpu(_) => Device(gpu),
        }
    }

    /// The most threads that a run takes on the CPU executor, the caller's own included; `None` for a GPU.
    pub fn threads(&self) -> Option<usize> {
        match &self.0 {
            Executor::Cpu(_, Threads::AtMost(threads) | Threads::Exactly(threads)) => Some(*threads),
            Executor::Gpu(_) => None,
        }
    }

    /// Limits that plans for this device must keep to. Choices of launches that were measured are not among them: plans that are made
    /// by these capabilities follow the model of cost.
    pub fn capabilities(&self) -> &Capabilities {
        match &self.0 {
            Executor::Cpu(capabilities, _) => capabilities,
            Executor::Gpu(context) => &context.capabilities,
        }
    }

    /// The adapter, where the device is a GPU.
    pub fn adapter(&self) -> Option<&Adapter> {
        match &self.0 {
            Executor::Cpu(..) => None,
            Executor::Gpu(context) => Some(&context.adapter),
        }
    }

    /// Threads of the host for work on data: those of runs on the CPU executor.
    pub(crate) fn host_threads(&self) -> Threads {
        match &self.0 {
            Executor::Cpu(_, threads) => *threads,
            Executor::Gpu(_) => Threads::AtMost(*cpu::DEFAULT_THREADS),
        }
    }

    /// Time for which all runs so far have waited for the GPU; 0 on the CPU executor. What else a run takes is the host's: what goes in
    /// and out, and what is recorded and submitted.
    ///
    /// ```
    /// use wgpu_lstm::Device;
    /// assert!(Device::cpu().waited().is_zero());
    /// ```
    pub fn waited(&self) -> Duration {
        match &self.0 {
            Executor::Cpu(..) => Duration::ZERO,
            Executor::Gpu(context) => context.waited(),
        }
    }

    /// The choices of a GPU.
    pub(crate) fn tuner(&self) -> Option<&Tuner> {
        match &self.0 {
            Executor::Cpu(..) => None,
            Executor::Gpu(context) => Some(&context.tuner),
        }
    }

    /// True if it runs on graphics hardware.
    pub fn is_hardware(&self) -> bool {
        self.adapter().is_some_and(|adapter| adapter.kind != AdapterKind::Software)
    }

    /// A tensor of zeros that plans can share.
    pub(crate) async fn tensor(&self, name: &str, len: u64) -> Result<Tensor> {
        let limit = self.capabilities().max_binding_bytes;
        if 4 * len > limit {
            return Err(Error::TooLarge {
                what: name.into(),
                needed: 4 * len,
                available: limit,
                unit: Unit::Bytes,
                advice: "use a smaller model or batch, or Device::cpu()".into(),
            });
        }
        let storage = match &self.0 {
            Executor::Cpu(..) => Storage::Cpu(Arc::new(RwLock::new(memory::zeros(len as usize, name)?.into()))),
            Executor::Gpu(context) => Storage::Gpu(context.clone(), context.buffer(name, len.max(1)).await?),
        };
        Ok(Tensor { len, storage })
    }

    /// A copy of a tensor, made on the device.
    pub(crate) async fn copied(&self, name: &str, tensor: &Tensor) -> Result<Tensor> {
        let copy = self.tensor(name, tensor.len).await?;
        match (&tensor.storage, &copy.storage) {
            (Storage::Gpu(context, from), Storage::Gpu(_, to)) => {
                context.copy((from, 0), (to, 0), tensor.len)?;
            }
            _ => copy.write(0, &tensor.read_all().await?),
        }
        Ok(copy)
    }

    /// Makes a plan ready to run, with buffers of its own, zeroed.
    ///
    /// # Errors
    /// A plan that breaks its rules or the device's limits; a device that failed or has no memory left.
    ///
    /// ```
    /// use wgpu_lstm::{Device, plan::Role, schedule::Builder};
    /// let device = Device::cpu();
    /// let mut plan = Builder::new("fill", device.capabilities().clone());
    /// let ones = plan.buffer("ones", 4, Role::Output)?;
    /// plan.fill(ones, 0..4, 1.0);
    /// let executable = device.compile(plan.finish()?)?;
    /// executable.run()?;
    /// assert_eq!(executable.read((ones, 0), 4)?, [1.0; 4]);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn compile(&self, plan: Plan) -> Result<Executable> {
        plan.check(self.capabilities())?;
        wait::block_on(self.compile_with(plan, |_| None))
    }

    /// Makes a checked plan ready to run; `shared` provides tensors by buffer name, the rest is allocated and zeroed.
    pub(crate) async fn compile_with(&self, plan: Plan, shared: impl Fn(&str) -> Option<Tensor>) -> Result<Executable> {
        let plan = Arc::new(plan);
        for buffer in &plan.buffers {
            match shared(&buffer.name) {
                Some(tensor) if tensor.len.max(1) != buffer.len => {
                    return Err(Error::Plan(format!(
                        "{} has {} elements, its tensor {}",
                        buffer.name, buffer.len, tensor.len
                    )));
                }
                _ => {}
            }
        }
        let shared = |k: usize| shared(&plan.buffers[k].name).map(|tensor| tensor.storage);
        let engine = match &self.0 {
            Executor::Cpu(_, threads) => {
                let machine = Machine::new(plan.clone(), |k| match shared(k) {
                    Some(Storage::Cpu(tensor)) => Some(tensor),
                    _ => None,
                })?;
                Engine::Cpu(machine.with_threads(*threads))
            }
            Executor::Gpu(context) => {
                let program = gpu::Program::new(context.clone(), &plan, |k| match shared(k) {
                    Some(Storage::Gpu(_, buffer)) => Some(buffer),
                    _ => None,
                });
                Engine::Gpu(context.clone(), program.await?)
            }
        };
        Ok(Executable {
            plan,
            engine,
            traceless: OnceLock::new(),
            converted_for: AtomicU64::new(0),
            mark: Arc::default(),
        })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Executor::Cpu(..) => write!(f, "CPU"),
            Executor::Gpu(context) => write!(f, "{}", context.adapter),
        }
    }
}

/// Numbers on a device that several plans share.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub len: u64,
    storage: Storage,
}

#[derive(Clone, Debug)]
enum Storage {
    Cpu(cpu::Shared<f32>),
    Gpu(Arc<gpu::Context>, gpu::GpuBuffer),
}

impl Tensor {
    /// Overwrites elements from `at`.
    pub fn write(&self, at: u64, values: &[f32]) {
        match &self.storage {
            Storage::Cpu(tensor) => write(tensor)[at as usize..][..values.len()].copy_from_slice(values),
            // A device that failed says so to whoever runs or reads next.
            Storage::Gpu(context, buffer) => drop(context.write(buffer, at, values)),
        }
    }

    /// Has `fill` write `len` elements from `at`; it may use the threads that it is told.
    pub fn write_with<R>(&self, at: u64, len: u64, fill: impl FnOnce(Destination<'_>, Threads) -> R) -> Result<R> {
        match &self.storage {
            Storage::Cpu(tensor) => {
                let own = &mut write(tensor)[at as usize..][..len as usize];
                Ok(fill(Destination::Host(own), Threads::AtMost(1)))
            }
            Storage::Gpu(context, buffer) => {
                context.upload(buffer, at, len, |to| fill(to, Threads::AtMost(*cpu::DEFAULT_THREADS)))
            }
        }
    }

    /// Sets all elements to 0.
    pub fn clear(&self) {
        const PART: usize = 1 << 16;
        match &self.storage {
            Storage::Cpu(tensor) => write(tensor).fill(0.0),
            Storage::Gpu(context, buffer) => {
                let zeros = vec![0.0; PART.min(self.len as usize)];
                for at in (0..self.len).step_by(PART) {
                    // As in `write`
                    drop(context.write(buffer, at, &zeros[..zeros.len().min((self.len - at) as usize)]));
                }
            }
        }
    }

    /// Reads elements of a range.
    pub async fn read(&self, range: Range<u64>) -> Result<Vec<f32>> {
        match &self.storage {
            Storage::Cpu(tensor) => {
                memory::copy(&read(tensor)[range.start as usize..range.end as usize], "a copy of a tensor")
            }
            Storage::Gpu(context, buffer) => context.read(buffer, range.start, range.end - range.start).await,
        }
    }

    /// Reads everything.
    pub async fn read_all(&self) -> Result<Vec<f32>> {
        self.read(0..self.len).await
    }
}

/// Time for which a task runs before it lets others run, and dispatches of a GPU between two looks at that.
const SLICE: (Duration, usize) = (Duration::from_millis(1), 4096);

/// A plan made ready for a device.
#[derive(Debug)]
pub struct Executable {
    plan: Arc<Plan>,
    engine: Engine,
    /// See [`Executable::traceless`].
    traceless: OnceLock<usize>,
    /// Version of the weights for which [`Executable::converted`] commands ran last, plus 1.
    converted_for: AtomicU64,
    /// Tells it from others.
    mark: Arc<()>,
}

#[derive(Debug)]
enum Engine {
    Cpu(Machine<f32>),
    Gpu(Arc<gpu::Context>, gpu::Program),
}

impl Executable {
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

    /// Runs what a run does not have to do at its end, letting an executor's other tasks run in between, and gives the first command that is
    /// left: a GPU's last ones go with what is then to be read, since another submission may have to wait for the one before.
    pub(crate) async fn run_beginning(&self) -> Result<usize> {
        let all = self.plan.commands.len();
        let left = match self.engine {
            Engine::Cpu(_) => 0,
            Engine::Gpu(..) => SLICE.1.min(all),
        };
        self.run_slices(0..all - left).await
    }

    /// Commands before the first that changes what is kept from run to run: weights, the optimiser's memory, carried states. A
    /// run that ends before it has left no trace.
    pub(crate) fn traceless(&self) -> usize {
        let kept = |id: &BufferId| matches!(self.plan.buffers[id.0].role, Role::Weight | Role::Optimiser | Role::State);
        let changes = |command: &Command| {
            let bindings = command.buffers.iter().zip(command.call.kernel.bindings);
            bindings.into_iter().any(|(id, binding)| binding.access != Access::Read && kept(id))
        };
        *self.traceless.get_or_init(|| self.plan.commands.iter().position(changes).unwrap_or(self.plan.commands.len()))
    }

    /// The first command that a run must run with this version of the weights: those before it convert weights, and have done so in the
    /// last run.
    pub(crate) fn first_for(&self, weights: u64) -> usize {
        if self.converted_for.load(Ordering::Relaxed) == weights.wrapping_add(1) { self.converted() } else { 0 }
    }

    /// Notes that a run began with its first command, or with [`Executable::first_for`] this version of the weights.
    pub(crate) fn ran_for(&self, weights: u64) {
        self.converted_for.store(weights.wrapping_add(1), Ordering::Relaxed);
    }

    /// Commands in front that convert weights of the model alone.
    fn converted(&self) -> usize {
        let weight = |command: &Command| self.plan.buffers[command.buffers[0].0].role == Role::Weight;
        let converts =
            |command: &&Command| [HALF.name, INT8.name].contains(&command.call.kernel.name) && weight(command);
        self.plan.commands.iter().take_while(converts).count()
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

    /// What tells it from others while it lives.
    pub(crate) fn mark(&self) -> Weak<()> {
        Arc::downgrade(&self.mark)
    }

    /// True if it has this mark.
    pub(crate) fn is(&self, mark: &Weak<()>) -> bool {
        mark.as_ptr() == Arc::as_ptr(&self.mark)
    }

    /// What tells if something was submitted to a GPU since; `None` on the CPU, where writes are done at once.
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
