//! An open device: buffers, pipelines, and what went wrong.

use super::adapter::{self, Adapter, AdapterKind, GpuOptions, Grid};
use super::grid::{self, Grids};
use super::guard::{Guarded, guarded, guarded_future, one_line};
#[cfg(not(target_arch = "wasm32"))]
use super::poller::Poller;
use super::staging::Pool;
use super::timeline::Recording;
use crate::error::{Cause, Error, Result, Unit};
use crate::kernel::{Access, Call};
use crate::lock::lock;
use crate::plan::{Capabilities, Matrices, Plan, StepWeights};
use crate::tune::Tuner;
#[cfg(not(target_arch = "wasm32"))]
use crate::wait;
use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

/// A buffer on the device.
pub(crate) type GpuBuffer = Guarded<wgpu::Buffer>;
/// A compiled kernel.
pub(super) type Pipeline = Arc<Guarded<wgpu::ComputePipeline>>;
/// The layouts of a kernel's bindings and of its pipelines.
pub(super) type Layouts = (Guarded<wgpu::BindGroupLayout>, Guarded<wgpu::PipelineLayout>);

/// Key of a compiled pipeline.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PipelineKey {
    kernel: &'static str,
    cell: Option<&'static str>,
    constants: Vec<u32>,
    /// True if every index and loop is checked.
    checked: bool,
}

impl PipelineKey {
    fn of(call: &Call, checked: bool) -> PipelineKey {
        let (kernel, cell) = (call.kernel.name, call.cell.map(|cell| cell.name));
        PipelineKey { kernel, cell, constants: call.constants.clone(), checked }
    }
}

/// Why a device cannot be used any more.
#[derive(Debug)]
struct Failure {
    reason: String,
    cause: Option<Cause>,
}

type Failures = Arc<Mutex<Option<Failure>>>;

const READING: &str = "reading results back";

/// Result of a map: done, or why not.
pub(super) type Mapped = std::result::Result<(), String>;

/// The callback's end of what somebody awaits. The first result counts.
pub(super) type Sender = futures_intrusive::channel::shared::OneshotSender<Mapped>;

/// A map that somebody awaits.
struct Mapping {
    sender: Arc<Sender>,
    receiver: futures_intrusive::channel::shared::OneshotReceiver<Mapped>,
}

/// Results on their way to the host, in a staging buffer.
pub(crate) struct Readback {
    pub(super) staging: GpuBuffer,
    bytes: u64,
    /// Words behind the results that count repairs of grids.
    repairs: u64,
    submitted: Option<(Mapping, wgpu::SubmissionIndex)>,
}

impl Readback {
    /// Room for so many elements.
    pub fn new(context: &Context, len: u64) -> Result<Readback> {
        Readback::with_repairs(context, len, 0)
    }

    /// The same with as many words behind them that count repairs of grids.
    pub(super) fn with_repairs(context: &Context, len: u64, repairs: u64) -> Result<Readback> {
        let staging = context.readback(4 * (len + repairs))?;
        Ok(Readback { staging, bytes: 4 * len, repairs, submitted: None })
    }

    /// Asks for the map after the submission that fills it. Inside the guard.
    pub(super) fn submitted(self, after: wgpu::SubmissionIndex) -> Readback {
        let bytes = self.bytes + 4 * self.repairs;
        if bytes == 0 {
            return self;
        }
        let (sender, receiver) = futures_intrusive::channel::shared::oneshot_channel();
        let sender = Arc::new(sender);
        let mapped = sender.clone();
        self.staging.slice(..bytes).map_async(wgpu::MapMode::Read, move |result| {
            // Nobody waits any more if the future was dropped.
            let _ = mapped.send(result.map_err(|error| error.to_string()));
        });
        Readback { submitted: Some((Mapping { sender, receiver }, after)), ..self }
    }

    /// Waits for the results as numbers of four bytes.
    pub async fn numbers<N: bytemuck::AnyBitPattern>(self, context: &Context) -> Result<Vec<N>> {
        let see = |bytes: &[u8]| {
            let numbers = bytes.chunks_exact(size_of::<N>()).map(bytemuck::pod_read_unaligned);
            crate::memory::collect(numbers.len(), numbers, "a copy of a buffer")
        };
        self.see(context, see).await?
    }

    /// Waits for the results and shows them.
    pub async fn see<R>(self, context: &Context, see: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let Readback { staging, bytes: own, repairs, submitted } = self;
        let bytes = own + 4 * repairs;
        if bytes == 0 {
            return Ok(see(&[]));
        }
        if let Some((mapping, after)) = submitted {
            context.mapped(mapping, after).await?;
        }
        let view = context.call(READING, |_, _| staging.slice(..bytes).get_mapped_range().map(Guarded::new))?;
        let view = view.map_err(|error| Error::DeviceFailed {
            during: READING.into(),
            reason: "the results could not be mapped".into(),
            cause: Some(Cause::new(error)),
        })?;
        let (results, counts) = view.split_at(own as usize);
        counts.chunks_exact(4).for_each(|count| context.grids.repaired(bytemuck::pod_read_unaligned(count)));
        let result = see(results);
        context.call(READING, |_, _| {
            drop(view);
            staging.unmap();
        })?;
        context.return_readback(staging);
        Ok(result)
    }
}

/// An open device with its queue and its compiled pipelines. wgpu is called through [`Context::call`] alone.
#[derive(Debug)]
pub(crate) struct Context {
    device: Guarded<wgpu::Device>,
    queue: Guarded<wgpu::Queue>,
    pub adapter: Adapter,
    pub capabilities: Capabilities,
    pub tuner: Tuner,
    pub grids: Grids,
    pub uniform_alignment: u64,
    /// True if the device has timestamps.
    pub timestamps: bool,
    max_buffer_bytes: u64,
    checked_shaders: bool,
    pipelines: Mutex<HashMap<PipelineKey, Pipeline>>,
    layouts: Mutex<HashMap<&'static str, Layouts>>,
    failure: Failures,
    pages: Mutex<Pool>,
    readbacks: Mutex<Pool>,
    /// Nanoseconds for which runs have waited for the device.
    waited: AtomicU64,
    /// The timeline that goes on.
    pub(super) timeline: Mutex<Option<Arc<Recording>>>,
    #[cfg(not(target_arch = "wasm32"))]
    poller: Poller,
}

/// Keeps the first failure: what comes after it is its consequence.
fn note(failures: &Failures, reason: String, cause: Option<Cause>) {
    match &cause {
        Some(cause) => log::error!("{reason}: {}", one_line(&cause.to_string())),
        None => log::error!("{reason}"),
    }
    lock(failures).get_or_insert(Failure { reason, cause });
}

/// An error of wgpu as a cause. In browsers it cannot go to another thread, and its words have to do.
pub(super) fn cause(error: wgpu::Error) -> Option<Cause> {
    #[cfg(not(target_arch = "wasm32"))]
    return Some(Cause::new(error));
    #[cfg(target_arch = "wasm32")]
    return Some(Cause::new(std::io::Error::other(error.to_string())));
}

/// Kind of an error, in words.
fn kind(error: &wgpu::Error) -> &'static str {
    match error {
        wgpu::Error::OutOfMemory { .. } => "it has no memory left",
        wgpu::Error::Validation { .. } => "wgpu refused a call",
        wgpu::Error::Internal { .. } => "wgpu or the driver reports an error of its own",
    }
}

impl Context {
    /// Opens the best adapter that the options allow, with all limits it offers.
    pub async fn open(options: &GpuOptions) -> Result<Context> {
        let (adapter, description) = adapter::choose(options).await?;
        let refused = |reason: &str, cause: Option<Cause>| Error::DeviceRefused {
            adapter: description.name.clone(),
            reason: reason.into(),
            cause,
        };
        let panicked = |message: String| refused(&format!("its driver failed ({message})"), None);
        let (limits, features, known) =
            guarded(|| (adapter.limits(), adapter.features(), adapter.get_downlevel_capabilities().flags))
                .map_err(panicked)?;
        if options.step_weights == StepWeights::F16 && !known.contains(wgpu::DownlevelFlags::SHADER_F16_IN_F32) {
            return Err(refused(
                "step weights in f16 were asked for, and it does not convert between f16 and f32",
                None,
            ));
        }
        let mut wanted = wgpu::Features::TIMESTAMP_QUERY;
        if options.grid != Grid::Off {
            wanted |= grid::feature();
        }
        let cooperative = description.cooperative.filter(|_| options.matrices == Matrices::Cooperative);
        if options.matrices == Matrices::Cooperative && cooperative.is_none() {
            log::warn!("{description} has no cooperative matrices of f16 with sums in f32; products are in f32");
        }
        let (matrices, experimental_features) = experimental(cooperative.is_some());
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("wgpu-lstm"),
            required_features: features & wanted | matrices,
            required_limits: limits.clone(),
            experimental_features,
            ..wgpu::DeviceDescriptor::default()
        };
        // The request itself opens the device where there is no browser to ask.
        let request = guarded(|| adapter.request_device(&descriptor)).map_err(panicked)?;
        let (device, queue) = guarded_future(request)
            .await
            .map_err(panicked)?
            .map_err(|error| refused("its driver did not open it", Some(Cause::new(error))))?;
        let (device, queue) = (Guarded::new(device), Guarded::new(queue));
        let failure = Failures::default();
        let uncaptured = failure.clone();
        let lost = failure.clone();
        guarded(|| {
            device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
                note(&uncaptured, kind(&error).into(), cause(error));
            }));
            device.set_device_lost_callback(move |reason, message| {
                if reason != wgpu::DeviceLostReason::Destroyed {
                    note(&lost, format!("the GPU or its driver gave up ({})", one_line(&message)), None);
                }
            });
        })
        .map_err(panicked)?;
        // The first submission makes a semaphore that all others use. Where that fails, wgpu-hal 30 frees another one twice
        // when the queue is dropped, which ends the process: such a queue is never dropped.
        let first = guarded(|| {
            queue.submit([]);
        });
        let failed = lock(&failure).take().map(|failure| failure.reason);
        if let Some(reason) = first.err().or(failed) {
            std::mem::forget(queue);
            return Err(refused(&format!("its first submission failed: {reason}"), None));
        }
        let grids = Grids::new(options.grid, &description, descriptor.required_features, &limits, (&device, &queue));
        let max_binding_bytes = adapter::binding_bytes(&limits).min(options.max_binding_bytes.unwrap_or(u64::MAX));
        let hardware = options.schedule_as.unwrap_or(description.kind) != AdapterKind::Software;
        let capabilities = Capabilities {
            max_binding_bytes,
            max_groups: limits.max_compute_workgroups_per_dimension as u64,
            // A large GPU holds some hundred thousand threads, a software adapter a few.
            busy_threads: if hardware { 1 << 16 } else { 32 },
            workgroup_tiles: hardware,
            shared_terms: hardware,
            workgroup_threads: limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x),
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            strategy: options.strategy,
            grid_workgroups: grids.workgroups().unwrap_or(0),
            step_weights: options.step_weights,
            cooperative,
            ..Capabilities::default()
        };
        let tuner = Tuner::new(options, &description, &capabilities)?;
        log::info!("using {description}");
        Ok(Context {
            uniform_alignment: limits.min_uniform_buffer_offset_alignment as u64,
            timestamps: descriptor.required_features.contains(wgpu::Features::TIMESTAMP_QUERY),
            max_buffer_bytes: limits.max_buffer_size,
            checked_shaders: options.checked_shaders,
            device,
            queue,
            adapter: description,
            capabilities,
            tuner,
            grids,
            pipelines: Mutex::default(),
            layouts: Mutex::default(),
            failure,
            pages: Mutex::default(),
            readbacks: Mutex::default(),
            waited: AtomicU64::new(0),
            timeline: Mutex::default(),
            #[cfg(not(target_arch = "wasm32"))]
            poller: Poller::default(),
        })
    }

    /// Runs calls into wgpu inside the guard. A device that has failed is not called again.
    pub fn call<R>(&self, during: &str, calls: impl FnOnce(&wgpu::Device, &wgpu::Queue) -> R) -> Result<R> {
        self.check(during)?;
        match guarded(|| calls(&self.device, &self.queue)) {
            Err(message) => note(&self.failure, format!("wgpu stopped ({message})"), None),
            Ok(result) if lock(&self.failure).is_none() => return Ok(result),
            Ok(result) => {
                // It may hold objects of the device that has just failed.
                if let Err(message) = guarded(move || drop(result)) {
                    log::error!("after a failure during {during}: {message}");
                }
            }
        }
        Err(self.failed(during))
    }

    /// The failure since the device was opened, as an error.
    fn check(&self, during: &str) -> Result<()> {
        if lock(&self.failure).is_none() { Ok(()) } else { Err(self.failed(during)) }
    }

    fn failed(&self, during: &str) -> Error {
        let failure = lock(&self.failure);
        let (reason, cause) = match &*failure {
            Some(Failure { reason, cause }) => (reason.clone(), cause.clone()),
            None => ("it does not answer".into(), None),
        };
        Error::DeviceFailed { during: during.into(), reason, cause }
    }

    /// A zeroed storage buffer of `len` elements; 16 bytes are the least that a shader's array of vec4 may bind.
    pub async fn buffer(&self, name: &str, len: u64) -> Result<GpuBuffer> {
        use wgpu::BufferUsages as Use;
        self.allocate(name, (4 * len).max(16), Use::STORAGE | Use::COPY_SRC | Use::COPY_DST).await
    }

    /// Any buffer; running out of memory is an error of its own.
    pub async fn allocate(&self, name: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<GpuBuffer> {
        let (buffer, scope) = self.scoped_buffer(name, bytes, usage, false)?;
        self.checked(name, bytes, buffer, scope.await)
    }

    /// [`Context::allocate`] without waiting for the error, which only browsers have to wait for; there it is one of the device.
    pub(super) fn allocate_now(
        &self,
        name: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
        mapped: bool,
    ) -> Result<GpuBuffer> {
        let (buffer, scope) = self.scoped_buffer(name, bytes, usage, mapped)?;
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match pin!(scope).poll(&mut context) {
            Poll::Ready(error) => self.checked(name, bytes, buffer, error),
            Poll::Pending => Ok(buffer),
        }
    }

    /// A buffer, and its error of memory.
    fn scoped_buffer(
        &self,
        name: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
        mapped: bool,
    ) -> Result<(GpuBuffer, impl Future<Output = Option<wgpu::Error>> + use<>)> {
        if bytes > self.max_buffer_bytes {
            return Err(Error::TooLarge {
                what: name.into(),
                needed: bytes,
                available: self.max_buffer_bytes,
                unit: Unit::Bytes,
                advice: "use a smaller batch or sequence, or Device::cpu()".into(),
            });
        }
        self.call("allocating", |device, _| {
            let scope = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
            let buffer = Guarded::new(device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(name),
                size: bytes,
                usage,
                mapped_at_creation: mapped,
            }));
            (buffer, scope.pop())
        })
    }

    fn checked(&self, name: &str, bytes: u64, buffer: GpuBuffer, error: Option<wgpu::Error>) -> Result<GpuBuffer> {
        match error {
            Some(error) => Err(Error::OutOfMemory { what: name.into(), needed: bytes, cause: cause(error) }),
            None => Ok(buffer),
        }
    }

    /// Staging buffers for what goes to the device.
    pub(super) fn pages(&self) -> MutexGuard<'_, Pool> {
        lock(&self.pages)
    }

    /// Staging buffers for what comes back.
    pub(super) fn readbacks(&self) -> MutexGuard<'_, Pool> {
        lock(&self.readbacks)
    }

    /// Time for which runs have waited for the device.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Ordering::Relaxed))
    }

    /// Overwrites part of a buffer, from element `at`.
    pub fn write(&self, buffer: &GpuBuffer, at: u64, values: &[f32]) -> Result<()> {
        self.call("writing", |_, queue| queue.write_buffer(buffer, 4 * at, bytemuck::cast_slice(values)))
    }

    /// Copies elements between buffers on the device.
    pub fn copy(&self, from: (&GpuBuffer, u64), to: (&GpuBuffer, u64), len: u64) -> Result<()> {
        self.call("copying", |device, queue| {
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(from.0, 4 * from.1, to.0, 4 * to.1, 4 * len);
            queue.submit([encoder.finish()]);
        })
    }

    /// Reads `len` numbers of four bytes from element `at`, after everything submitted so far.
    pub async fn read_as<N: bytemuck::AnyBitPattern>(&self, buffer: &GpuBuffer, at: u64, len: u64) -> Result<Vec<N>> {
        self.begin_read(buffer, at, len)?.numbers(self).await
    }

    /// Has `len` elements from element `at` sent to the host, after everything submitted so far.
    pub fn begin_read(&self, buffer: &GpuBuffer, at: u64, len: u64) -> Result<Readback> {
        let copies = Readback::new(self, len)?;
        self.call(READING, |device, queue| {
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(buffer, 4 * at, &copies.staging, 0, 4 * len);
            copies.submitted(queue.submit([encoder.finish()]))
        })
    }

    /// Waits until a buffer is mapped, which comes after a submission.
    async fn mapped(&self, mapping: Mapping, after: wgpu::SubmissionIndex) -> Result<()> {
        let failed = |reason: &str, cause: Option<Cause>| Error::DeviceFailed {
            during: READING.into(),
            reason: reason.into(),
            cause,
        };
        let Mapping { sender, receiver } = mapping;
        // Browsers have no such clock.
        #[cfg(not(target_arch = "wasm32"))]
        let begun = std::time::Instant::now();
        if !self.is_polled(&sender, &after).await {
            // In browsers this does nothing and the page's event loop drives the map.
            let wait = wgpu::PollType::Wait { submission_index: Some(after), timeout: None };
            let polled = self.call(READING, |device, _| device.poll(wait))?;
            polled.map_err(|error| failed("the host could not wait for it", Some(Cause::new(error))))?;
        }
        // From here on the callback alone has it.
        drop(sender);
        let mapped = receiver.receive().await.ok_or_else(|| failed("the map was cancelled", None))?;
        #[cfg(not(target_arch = "wasm32"))]
        self.waited.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        if let Err(message) = mapped {
            note(&self.failure, format!("the results could not be mapped ({})", one_line(&message)), None);
            return Err(self.failed(READING));
        }
        Ok(())
    }

    /// True if something else than this call drives the map: the poller, where this thread must not block.
    #[cfg(not(target_arch = "wasm32"))]
    async fn is_polled(&self, sender: &Arc<Sender>, after: &wgpu::SubmissionIndex) -> bool {
        !wait::is_blocking().await && self.poller.poll(&self.device, sender, after.clone())
    }

    #[cfg(target_arch = "wasm32")]
    async fn is_polled<T>(&self, _: &T, _: &wgpu::SubmissionIndex) -> bool {
        false
    }

    /// Compiles the kernels of a plan ahead where that must not block, on a thread of its own.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn compile(self: &Arc<Self>, plan: &Plan) -> Result<()> {
        const DURING: &str = "compiling a plan";
        if wait::is_blocking().await {
            return Ok(());
        }
        let trusted = plan.is_trusted();
        let mut calls: HashMap<PipelineKey, Call> = HashMap::new();
        {
            let (known, checked) = (lock(&self.pipelines), self.checked_shaders || !trusted);
            let all = plan.commands.iter().map(|command| (PipelineKey::of(&command.call, checked), &command.call));
            for (key, call) in all.filter(|(key, _)| !known.contains_key(key)) {
                calls.entry(key).or_insert_with(|| call.clone());
            }
        }
        if calls.is_empty() {
            return Ok(());
        }
        let context = self.clone();
        let compile = move || {
            // Scopes of errors belong to threads.
            let scope = context.call(DURING, |device, _| device.push_error_scope(wgpu::ErrorFilter::Validation))?;
            let compiled = calls.values().try_for_each(|call| context.pipeline(call, trusted).map(drop));
            let refused =
                |reason: String, cause: Option<Cause>| Error::DeviceFailed { during: DURING.into(), reason, cause };
            match guarded(|| wait::block_on(scope.pop())) {
                Ok(None) => compiled,
                Ok(Some(error)) => Err(refused("wgpu refused a kernel".into(), cause(error))),
                Err(message) => compiled.and(Err(refused(format!("wgpu stopped ({message})"), None))),
            }
        };
        wait::blocking(compile).await
    }

    /// Layouts of a kernel: parameters with a dynamic offset at binding 0, then its storage buffers.
    pub fn layout(&self, call: &Call) -> Result<Layouts> {
        let kernel = call.kernel;
        if let Some(layouts) = lock(&self.layouts).get(kernel.name) {
            return Ok(layouts.clone());
        }
        let layouts = self.call("compiling a plan", |device, _| {
            let entry = |binding: u32, ty| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: binding == 0, min_binding_size: None },
                count: None,
            };
            let storage = kernel.bindings.iter().zip(1..).map(|(binding, index)| {
                entry(index, wgpu::BufferBindingType::Storage { read_only: binding.access == Access::Read })
            });
            let entries: Vec<_> = [entry(0, wgpu::BufferBindingType::Uniform)].into_iter().chain(storage).collect();
            let group = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(kernel.name),
                entries: &entries,
            });
            let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(kernel.name),
                bind_group_layouts: &[Some(&group)],
                immediate_size: 0,
            });
            (Guarded::new(group), Guarded::new(pipeline))
        })?;
        Ok(lock(&self.layouts).entry(kernel.name).or_insert(layouts).clone())
    }

    /// The pipeline of a call, compiled once for each kernel, cell and set of constants. `trusted`: the call is of a plan that
    /// the scheduler made ([`Plan::is_trusted`](crate::plan::Plan::is_trusted)).
    pub fn pipeline(&self, call: &Call, trusted: bool) -> Result<Pipeline> {
        let kernel = call.kernel;
        let checked = self.checked_shaders || !trusted;
        let key = PipelineKey::of(call, checked);
        if let Some(pipeline) = lock(&self.pipelines).get(&key) {
            return Ok(pipeline.clone());
        }
        let (_, layout) = self.layout(call)?;
        let pipeline = self.call("compiling a plan", |device, _| {
            let source = wgpu::ShaderSource::Wgsl(kernel.source(call.cell).into());
            let module = module(device, wgpu::ShaderModuleDescriptor { label: Some(kernel.name), source }, checked);
            let constants: Vec<(&str, f64)> =
                kernel.constants.iter().zip(&call.constants).map(|(&name, &value)| (name, f64::from(value))).collect();
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(kernel.name),
                layout: Some(&layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &constants,
                    // Every kernel writes its workgroup memory before it reads it.
                    zero_initialize_workgroup_memory: checked,
                },
                cache: None,
            })
        })?;
        let pipeline = Arc::new(Guarded::new(pipeline));
        lock(&self.pipelines).insert(key, pipeline.clone());
        Ok(pipeline)
    }
}

/// The features for cooperative matrices, and wgpu's leave to ask for them.
#[allow(unsafe_code)]
fn experimental(cooperative: bool) -> (wgpu::Features, wgpu::ExperimentalFeatures) {
    if !cooperative {
        return (wgpu::Features::empty(), wgpu::ExperimentalFeatures::disabled());
    }
    // SAFETY: wgpu's terms are that its experimental parts may have bugs that lead to undefined behaviour, and that these are
    // reported. The user has asked for cooperative matrices, and the option says that they are experimental. What wgpu does not check
    // of them, we keep: all loads and stores of matrices are in workgroup memory, inside its arrays and at multiples of 16 bytes, for
    // all values of the constants that `Matmul::cooperative` gives; they stand in control flow that is the same for the whole
    // workgroup, of four full subgroups or more; sizes and types are among those that the adapter lists. wgpu takes the token for a
    // device, but no other kernel has such a type, and modules without one are translated as ever.
    (adapter::COOPERATIVE, unsafe { wgpu::ExperimentalFeatures::enabled() })
}

#[allow(unsafe_code)]
fn module(device: &wgpu::Device, descriptor: wgpu::ShaderModuleDescriptor, checked: bool) -> wgpu::ShaderModule {
    if checked {
        return device.create_shader_module(descriptor);
    }
    // SAFETY: The shader is the crate's own, since no other crate can make a `Kernel` or a `CellSpec`. Its constants and
    // parameters are those of a trusted plan: the scheduler made them and nobody has changed them since, or the caller of
    // `Plan::trust` has promised as much. The plan's check has held what each command touches with them
    // (`touches` of its kernel) against its buffers. What buffers hold decides about no address beyond that: an embedding's
    // index is bounded in the shader. Loops end: all count up to a parameter or a constant.
    unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}
