//! Devices: a GPU or the CPU executor, behind one interface.

mod executable;
mod machine;
mod tensor;

pub(crate) use crate::gpu::Destination;
pub use executable::Executable;
pub(crate) use executable::{Place, Reading, Unsubmitted};
pub use machine::Machine;
pub(crate) use tensor::{Tensor, TensorReading};

use executable::Engine;
use tensor::Storage;

use crate::cpu::{self, CpuWeights, Threads};
use crate::error::{Error, Result, Unit};
use crate::gpu::{self, Adapter, AdapterKind, GpuOptions, Submission};
use crate::memory;
use crate::plan::{Capabilities, Plan, Strategy};
use crate::simd::Instructions;
use crate::tune::Tuner;
use crate::wait;
use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::Duration;

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
    Cpu(Capabilities, Threads, CpuWeights),
    Gpu(Arc<gpu::Context>),
}

/// Options of the CPU executor.
///
/// ```
/// use wgpu_lstm::{CpuOptions, CpuWeights, Device};
/// let device = Device::cpu_with_options(&CpuOptions { threads: 1, weights: CpuWeights::Bf16, ..CpuOptions::default() });
/// assert_eq!(device.weights(), Some(CpuWeights::Bf16));
/// ```
#[derive(Clone, Debug, Default)]
pub struct CpuOptions {
    /// Most threads of a run, as [`Device::cpu_threads`] takes them; 0 by default.
    pub threads: usize,
    /// Form in which inference reads weights of recurrent layers: fewer bytes in every step, for less accuracy.
    pub weights: CpuWeights,
    /// Strategy of the recurrence; `None`: whole sequences.
    pub strategy: Option<Strategy>,
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
        Device::cpu_with_options(&CpuOptions::default())
    }

    /// The CPU executor by options.
    ///
    /// ```
    /// use ndarray::Array3;
    /// use wgpu_lstm::{CpuOptions, CpuWeights, Device, Lstm};
    /// let x = Array3::ones((2, 5, 3));
    /// let run = |weights| {
    ///     let device = Device::cpu_with_options(&CpuOptions { weights, ..CpuOptions::default() });
    ///     Lstm::new(4).build(&device, 3, 0)?.forward(x.view(), None)
    /// };
    /// let apart = run(CpuWeights::F16)?.output - run(CpuWeights::F32)?.output;
    /// assert!(apart.iter().all(|difference| difference.abs() < 1e-3));
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn cpu_with_options(options: &CpuOptions) -> Device {
        let CpuOptions { threads, weights, strategy } = *options;
        let threads = if threads == 0 { *cpu::DEFAULT_THREADS } else { threads.min(cpu::MOST_THREADS) };
        // Offsets are 32-bit and signed where they are strides, hence 2^31 - 1 elements.
        let capabilities = Capabilities {
            max_binding_bytes: 4 * i32::MAX as u64,
            max_groups: u64::MAX,
            whole_sequence_units: u32::MAX,
            shared_terms: false,
            short_loops: false,
            busy_threads: 1,
            strategy,
            ..Capabilities::default()
        };
        Device(Executor::Cpu(capabilities, Threads::AtMost(threads), weights))
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
        Device(Executor::Cpu(Capabilities { max_groups: u64::MAX, ..capabilities }, threads, CpuWeights::F32))
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
        Device::cpu_with_options(&CpuOptions { threads, ..CpuOptions::default() })
    }

    /// The most threads that a run takes on the CPU executor, the caller's own included; `None` for a GPU.
    pub fn threads(&self) -> Option<usize> {
        match &self.0 {
            Executor::Cpu(_, Threads::AtMost(threads) | Threads::Exactly(threads), _) => Some(*threads),
            Executor::Gpu(_) => None,
        }
    }

    /// Form in which the CPU executor reads weights of recurrent layers in inference; `None` for a GPU.
    pub fn weights(&self) -> Option<CpuWeights> {
        match &self.0 {
            Executor::Cpu(_, _, weights) => Some(*weights),
            Executor::Gpu(_) => None,
        }
    }

    /// The vector instructions that the CPU executor uses, the best that the processor has: `"AVX-512"`, `"AVX2"`, `"NEON"` or
    /// `"scalar"` (no more than the compiler finds for loops); `None` for a GPU. The variable `WGPU_LSTM_SIMD` (`avx512`, `avx2`,
    /// `neon`, `scalar`), read once a process, asks for less than the best. Results have the same bits with AVX-512, AVX2 and NEON,
    /// but for exponentials and logarithms (of an sLSTM and of rare activations), which are those of the C library; with `"scalar"`
    /// products are rounded before they are added, but for aarch64, where the bits are those of NEON.
    ///
    /// ```
    /// use wgpu_lstm::Device;
    /// let device = Device::cpu();
    /// assert_eq!(device.to_string(), format!("CPU ({})", device.instructions().unwrap_or_default()));
    /// ```
    pub fn instructions(&self) -> Option<&'static str> {
        match &self.0 {
            Executor::Cpu(..) => Some(Instructions::used().title()),
            Executor::Gpu(_) => None,
        }
    }

    /// Limits that plans for this device must keep to. Choices of launches that were measured are not among them: plans that are made
    /// by these capabilities follow the model of cost. [`Device::tuned_capabilities`] has them.
    pub fn capabilities(&self) -> &Capabilities {
        match &self.0 {
            Executor::Cpu(capabilities, ..) => capabilities,
            Executor::Gpu(context) => &context.capabilities,
        }
    }

    /// The most workgroups of a grid ([`Strategy::Grid`](crate::Strategy::Grid)), or the reason why layers run without grids: nobody asked
    /// for them ([`GpuOptions::grid`]), the device has not what they need, too few workgroups run side by side, or one did not come in
    /// time.
    ///
    /// # Errors
    /// The reason, in words.
    ///
    /// ```
    /// use wgpu_lstm::Device;
    /// assert!(Device::cpu().grid().is_err());
    /// ```
    pub fn grid(&self) -> std::result::Result<u32, String> {
        match &self.0 {
            Executor::Cpu(..) => Err("the CPU executor has none".into()),
            Executor::Gpu(context) => context.grids.workgroups(),
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
            Executor::Cpu(_, threads, _) => *threads,
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

    /// Begins a timeline of at most `most` submissions (2,048 at most) by all models of this device, which [`Device::end_timeline`]
    /// returns. False where there is none: on the CPU executor, and on GPUs without timestamps.
    ///
    /// # Errors
    /// A device that failed.
    ///
    /// ```
    /// use wgpu_lstm::Device;
    /// let device = Device::cpu();
    /// assert!(!device.begin_timeline(100)?);
    /// assert!(device.end_timeline()?.is_empty());
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn begin_timeline(&self, most: usize) -> Result<bool> {
        match &self.0 {
            Executor::Cpu(..) => Ok(false),
            Executor::Gpu(context) => context.begin_timeline(most),
        }
    }

    /// Waits for the GPU, ends the timeline and returns it, in the order in which the host submitted.
    ///
    /// # Errors
    /// A device that failed.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn end_timeline(&self) -> Result<Vec<Submission>> {
        match &self.0 {
            Executor::Cpu(..) => Ok(Vec::new()),
            Executor::Gpu(context) => wait::block_on(context.end_timeline()),
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
            Executor::Cpu(_, threads, weights) => {
                let machine = Machine::new(plan.clone(), |k| match shared(k) {
                    Some(Storage::Cpu(tensor)) => Some(tensor),
                    _ => None,
                })?;
                Engine::Cpu(machine.with_threads(*threads).with_weights(*weights))
            }
            Executor::Gpu(context) => {
                let program = gpu::Program::new(context.clone(), &plan, |k| match shared(k) {
                    Some(Storage::Gpu(_, buffer)) => Some(buffer),
                    _ => None,
                });
                Engine::Gpu(context.clone(), program.await?)
            }
        };
        Ok(Executable::new(plan, engine))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Executor::Cpu(_, _, weights) => match weights.name() {
                None => write!(f, "CPU ({})", Instructions::used()),
                Some(name) => write!(f, "CPU ({}, weights in {name})", Instructions::used()),
            },
            Executor::Gpu(context) => write!(f, "{}", context.adapter),
        }
    }
}
