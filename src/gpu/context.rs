//! An open device: buffers, pipelines, and what went wrong.

use super::adapter::{self, Adapter, AdapterKind, GpuOptions};
#[cfg(not(target_arch = "wasm32"))]
use super::poller::Poller;
use crate::error::{Error, Result};
use crate::kernel::{Access, Call};
use crate::plan::{Capabilities, Plan};
#[cfg(not(target_arch = "wasm32"))]
use crate::wait;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A buffer on the device.
pub(crate) type GpuBuffer = wgpu::Buffer;

/// What a pipeline is compiled for.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PipelineKey {
    kernel: &'static str,
    cell: Option<&'static str>,
    constants: Vec<u32>,
}

impl PipelineKey {
    fn of(call: &Call) -> PipelineKey {
        let (kernel, cell) = (call.kernel.name, call.cell.map(|cell| cell.name));
        PipelineKey { kernel, cell, constants: call.constants.clone() }
    }
}

/// An open device with its queue and its compiled pipelines.
#[derive(Debug)]
pub(crate) struct Context {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub adapter: Adapter,
    pub capabilities: Capabilities,
    pub uniform_alignment: u64,
    checked_shaders: bool,
    pipelines: Mutex<HashMap<PipelineKey, Arc<wgpu::ComputePipeline>>>,
    layouts: Mutex<HashMap<&'static str, (wgpu::BindGroupLayout, wgpu::PipelineLayout)>>,
    failure: Arc<Mutex<Option<String>>>,
    #[cfg(not(target_arch = "wasm32"))]
    poller: Poller,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A poisoned cache is still a cache: entries are inserted whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    /// Opens the best adapter that the options allow, with all limits it offers.
    pub async fn open(options: &GpuOptions) -> Result<Context> {
        let (adapter, description) = adapter::choose(options).await?;
        let limits = adapter.limits();
        let known = adapter.get_downlevel_capabilities().flags;
        if options.half_weights && !known.contains(wgpu::DownlevelFlags::SHADER_F16_IN_F32) {
            let reason = "half_weights was asked for, and it does not convert between f16 and f32".into();
            return Err(Error::DeviceRefused { adapter: description.name, reason });
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("wgpu-lstm"),
            required_features: adapter.features() & wgpu::Features::TIMESTAMP_QUERY,
            required_limits: limits.clone(),
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|error| Error::DeviceRefused { adapter: description.name.clone(), reason: error.to_string() })?;
        let failure = Arc::new(Mutex::new(None));
        let note = |failure: &Arc<Mutex<Option<String>>>| {
            let failure = failure.clone();
            move |reason: String| {
                log::error!("{reason}");
                lock(&failure).get_or_insert(reason);
            }
        };
        let uncaptured = note(&failure);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| uncaptured(error.to_string())));
        let lost = note(&failure);
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                lost(format!("device lost: {message}"));
            }
        });
        let max_binding_bytes = adapter::binding_bytes(&limits).min(options.max_binding_bytes.unwrap_or(u64::MAX));
        let capabilities = Capabilities {
            max_binding_bytes,
            max_groups: limits.max_compute_workgroups_per_dimension as u64,
            // A large GPU holds some hundred thousand threads, a software adapter a few.
            busy_threads: if description.kind == AdapterKind::Software { 32 } else { 1 << 16 },
            workgroup_tiles: description.kind != AdapterKind::Software,
            strategy: options.strategy,
            half_weights: options.half_weights,
            ..Capabilities::default()
        };
        log::info!("using {description}");
        Ok(Context {
            uniform_alignment: limits.min_uniform_buffer_offset_alignment as u64,
            checked_shaders: options.checked_shaders,
            device,
            queue,
            adapter: description,
            capabilities,
            pipelines: Mutex::default(),
            layouts: Mutex::default(),
            failure,
            #[cfg(not(target_arch = "wasm32"))]
            poller: Poller::default(),
        })
    }

    /// What went wrong since the device was opened, as an error.
    pub fn check(&self, during: &str) -> Result<()> {
        match &*lock(&self.failure) {
            Some(reason) => Err(Error::DeviceFailed { during: during.into(), reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// A zeroed storage buffer of `len` elements; 16 bytes are the least that a shader's array of vec4 may bind.
    pub async fn buffer(&self, name: &str, len: u64) -> Result<GpuBuffer> {
        use wgpu::BufferUsages as Use;
        self.allocate(name, (4 * len).max(16), Use::STORAGE | Use::COPY_SRC | Use::COPY_DST).await
    }

    /// Any buffer; running out of memory is an error of its own.
    pub async fn allocate(&self, name: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<GpuBuffer> {
        if bytes > self.device.limits().max_buffer_size {
            return Err(Error::TooLarge {
                what: name.into(),
                needed: bytes,
                available: self.device.limits().max_buffer_size,
                advice: "use a smaller batch or sequence, or Device::cpu()".into(),
            });
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(name),
            size: bytes,
            usage,
            mapped_at_creation: false,
        });
        match scope.pop().await {
            Some(_) => Err(Error::OutOfMemory { what: name.into(), needed: bytes }),
            None => Ok(buffer),
        }
    }

    /// Overwrites part of a buffer, from element `at`.
    pub fn write(&self, buffer: &GpuBuffer, at: u64, values: &[f32]) {
        self.queue.write_buffer(buffer, 4 * at, bytemuck::cast_slice(values));
    }

    /// Copies elements between buffers on the device.
    pub fn copy(&self, from: (&GpuBuffer, u64), to: (&GpuBuffer, u64), len: u64) -> wgpu::SubmissionIndex {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(from.0, 4 * from.1, to.0, 4 * to.1, 4 * len);
        self.queue.submit([encoder.finish()])
    }

    /// Reads `len` elements from element `at`, after everything submitted so far.
    pub async fn read(&self, buffer: &GpuBuffer, at: u64, len: u64) -> Result<Vec<f32>> {
        self.read_as(buffer, at, len).await
    }

    /// The same for any numbers of four bytes.
    pub async fn read_as<N: bytemuck::AnyBitPattern>(&self, buffer: &GpuBuffer, at: u64, len: u64) -> Result<Vec<N>> {
        const DURING: &str = "reading results back";
        use wgpu::BufferUsages as Use;
        let staging = self.allocate("readback", 4 * len, Use::MAP_READ | Use::COPY_DST).await?;
        let copied = self.copy((buffer, at), (&staging, 0), len);
        let (sender, receiver) = futures_intrusive::channel::shared::oneshot_channel();
        let sender = Arc::new(sender);
        let mapped = sender.clone();
        staging.slice(..).map_async(wgpu::MapMode::Read, move |result| {
            // Nobody waits any more if the future was dropped.
            let _ = mapped.send(result.map_err(|error| error.to_string()));
        });
        let failed = |reason: String| Error::DeviceFailed { during: DURING.into(), reason };
        if !self.is_polled(&sender, &copied).await {
            // In browsers this does nothing and the page's event loop drives the map.
            let wait = wgpu::PollType::Wait { submission_index: Some(copied), timeout: None };
            self.device.poll(wait).map_err(|error| failed(error.to_string()))?;
        }
        // From here on the callback alone has it.
        drop(sender);
        let mapped = receiver.receive().await;
        self.check(DURING)?;
        mapped.ok_or_else(|| failed("the map was cancelled".into()))?.map_err(failed)?;
        let view = staging.slice(..).get_mapped_range().map_err(|error| failed(error.to_string()))?;
        let numbers = view.chunks_exact(size_of::<N>()).map(bytemuck::pod_read_unaligned);
        let values = crate::memory::collect(numbers.len(), numbers, "a copy of a buffer");
        drop(view);
        staging.unmap();
        values
    }

    /// True if something else than this call drives the map: the poller, where this thread must not block.
    #[cfg(not(target_arch = "wasm32"))]
    async fn is_polled(&self, sender: &Arc<super::poller::Sender>, after: &wgpu::SubmissionIndex) -> bool {
        !wait::is_blocking().await && self.poller.poll(&self.device, sender, after.clone())
    }

    #[cfg(target_arch = "wasm32")]
    async fn is_polled<T>(&self, _: &T, _: &wgpu::SubmissionIndex) -> bool {
        false
    }

    /// Compiles the kernels of a plan ahead where that must not block, on a thread of its own.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn compile(self: &Arc<Self>, plan: &Plan) -> Result<()> {
        if wait::is_blocking().await {
            return Ok(());
        }
        let mut calls: HashMap<PipelineKey, Call> = HashMap::new();
        {
            let known = lock(&self.pipelines);
            let all = plan.commands.iter().map(|command| (PipelineKey::of(&command.call), &command.call));
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
            let scope = context.device.push_error_scope(wgpu::ErrorFilter::Validation);
            calls.values().for_each(|call| drop(context.pipeline(call)));
            wait::block_on(scope.pop())
        };
        match wait::blocking(compile).await {
            Some(error) => Err(Error::DeviceFailed { during: "compiling a plan".into(), reason: error.to_string() }),
            None => Ok(()),
        }
    }

    /// Layouts of a kernel: parameters with a dynamic offset at binding 0, then its storage buffers.
    pub fn layout(&self, call: &Call) -> (wgpu::BindGroupLayout, wgpu::PipelineLayout) {
        let kernel = call.kernel;
        let make = || {
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
            let group = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(kernel.name),
                entries: &entries,
            });
            let pipeline = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(kernel.name),
                bind_group_layouts: &[Some(&group)],
                immediate_size: 0,
            });
            (group, pipeline)
        };
        lock(&self.layouts).entry(kernel.name).or_insert_with(make).clone()
    }

    /// The pipeline of a call, compiled once for each kernel, cell and set of constants.
    pub fn pipeline(&self, call: &Call) -> Arc<wgpu::ComputePipeline> {
        let kernel = call.kernel;
        let key = PipelineKey::of(call);
        if let Some(pipeline) = lock(&self.pipelines).get(&key) {
            return pipeline.clone();
        }
        let (_, layout) = self.layout(call);
        let module = self.module(wgpu::ShaderModuleDescriptor {
            label: Some(kernel.name),
            source: wgpu::ShaderSource::Wgsl(kernel.source(call.cell).into()),
        });
        let constants: Vec<(&str, f64)> =
            kernel.constants.iter().zip(&call.constants).map(|(&name, &value)| (name, f64::from(value))).collect();
        let pipeline = Arc::new(self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                // Every kernel writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        }));
        lock(&self.pipelines).insert(key, pipeline.clone());
        pipeline
    }

    #[allow(unsafe_code)]
    fn module(&self, descriptor: wgpu::ShaderModuleDescriptor) -> wgpu::ShaderModule {
        if self.checked_shaders {
            return self.device.create_shader_module(descriptor);
        }
        // SAFETY: kernels are the crate's own, and run only by plans whose check has held what each command touches
        // (`kernel/params.rs`) against its buffers. Their loops end: all count up to a parameter or a constant.
        unsafe { self.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
    }
}
