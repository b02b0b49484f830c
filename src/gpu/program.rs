//! A plan made ready for the GPU, and its execution.

use super::context::{Context, GpuBuffer, Pipeline, cause};
use super::guard::Guarded;
use crate::error::{Error, Result};
use crate::plan::{BufferId, Plan};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Dispatches of one submission. A driver's watchdog looks at submissions, so a long sequence is sent in several.
const DISPATCHES_A_SUBMIT: usize = 4096;

/// A command with everything it binds.
#[derive(Debug)]
struct Dispatch {
    pipeline: Pipeline,
    bindings: Arc<Guarded<wgpu::BindGroup>>,
    params: u32,
    groups: [u32; 3],
}

/// A plan's buffers, pipelines and bind groups, made once.
#[derive(Debug)]
pub(crate) struct Program {
    context: Arc<Context>,
    buffers: Vec<GpuBuffer>,
    dispatches: Vec<Dispatch>,
}

impl Program {
    /// Allocates and compiles what a plan needs; `shared` provides buffers by index.
    pub async fn new(
        context: Arc<Context>,
        plan: &Plan,
        shared: impl Fn(usize) -> Option<GpuBuffer>,
    ) -> Result<Program> {
        let mut buffers = Vec::new();
        for (k, buffer) in plan.buffers.iter().enumerate() {
            buffers.push(match shared(k) {
                Some(buffer) => buffer,
                None => context.buffer(&buffer.name, buffer.len).await?,
            });
        }
        let (params, offsets) = params(&context, plan).await?;
        #[cfg(not(target_arch = "wasm32"))]
        context.compile(plan).await?;
        const DURING: &str = "compiling a plan";
        let (dispatches, scope) = context.call(DURING, |device, _| {
            let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
            (dispatches(&context, device, plan, &buffers, &params, &offsets), scope.pop())
        })?;
        if let Some(error) = scope.await {
            let reason = "wgpu refused a kernel or its buffers".into();
            return Err(Error::DeviceFailed { during: DURING.into(), reason, cause: cause(error) });
        }
        let dispatches = dispatches?;
        Ok(Program { context, buffers, dispatches })
    }

    /// Submits the commands of a range; the host does not wait.
    pub fn run(&self, range: Range<usize>) -> Result<()> {
        self.submit(range, None)
    }

    /// Runs everything and gives the milliseconds that the device took, where it can tell.
    pub async fn milliseconds(&self) -> Result<Option<f64>> {
        use wgpu::BufferUsages as Use;
        const DURING: &str = "taking the time of a plan";
        let context = &self.context;
        if !context.timestamps || self.dispatches.is_empty() {
            return Ok(None);
        }
        let passes = self.dispatches.len().div_ceil(DISPATCHES_A_SUBMIT) as u32;
        let queries = context.call(DURING, |device, _| {
            Guarded::new(device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("time"),
                ty: wgpu::QueryType::Timestamp,
                count: 2 * passes,
            }))
        })?;
        self.submit(0..self.dispatches.len(), Some(&queries))?;
        let bytes = 16 * passes as u64;
        let ticks = context.allocate("time", bytes, Use::QUERY_RESOLVE | Use::COPY_SRC).await?;
        let period = context.call(DURING, |device, queue| {
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.resolve_query_set(&queries, 0..2 * passes, &ticks, 0);
            queue.submit([encoder.finish()]);
            queue.get_timestamp_period()
        })?;
        let words: Vec<u32> = context.read_as(&ticks, 0, bytes / 4).await?;
        let ticks: Vec<u64> = words.chunks_exact(2).map(|pair| pair[0] as u64 | (pair[1] as u64) << 32).collect();
        let (first, last) = (ticks[0], ticks[ticks.len() - 1]);
        Ok(Some(last.saturating_sub(first) as f64 * period as f64 / 1e6))
    }

    /// Submits the commands of a range, in passes that write their times where `queries` are given.
    fn submit(&self, range: Range<usize>, queries: Option<&wgpu::QuerySet>) -> Result<()> {
        for (index, part) in self.dispatches[range].chunks(DISPATCHES_A_SUBMIT).enumerate() {
            self.context.call("running a plan", |device, queue| {
                let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                {
                    let timestamp_writes = queries.map(|query_set| wgpu::ComputePassTimestampWrites {
                        query_set,
                        beginning_of_pass_write_index: Some(2 * index as u32),
                        end_of_pass_write_index: Some(2 * index as u32 + 1),
                    });
                    let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
                    let mut pass = encoder.begin_compute_pass(&descriptor);
                    let mut current: Option<&Pipeline> = None;
                    for dispatch in part {
                        if !current.is_some_and(|pipeline| Arc::ptr_eq(pipeline, &dispatch.pipeline)) {
                            pass.set_pipeline(&dispatch.pipeline);
                            current = Some(&dispatch.pipeline);
                        }
                        pass.set_bind_group(0, &**dispatch.bindings, &[dispatch.params]);
                        let [x, y, z] = dispatch.groups;
                        pass.dispatch_workgroups(x, y, z);
                    }
                }
                queue.submit([encoder.finish()]);
            })?;
        }
        Ok(())
    }

    /// The device buffer of a plan's buffer.
    pub fn buffer(&self, id: BufferId) -> &GpuBuffer {
        &self.buffers[id.0]
    }
}

/// Every command with its pipeline, and a bind group for each set of buffers.
fn dispatches(
    context: &Context,
    device: &wgpu::Device,
    plan: &Plan,
    buffers: &[GpuBuffer],
    params: &GpuBuffer,
    offsets: &[u32],
) -> Result<Vec<Dispatch>> {
    let mut groups: HashMap<(&str, &[BufferId]), Arc<Guarded<wgpu::BindGroup>>> = HashMap::new();
    let mut dispatches = Vec::with_capacity(plan.commands.len());
    for (command, &offset) in plan.commands.iter().zip(offsets) {
        let call = &command.call;
        let pipeline = context.pipeline(call, plan.is_trusted())?;
        let (layout, _) = context.layout(call)?;
        let make = || {
            let block = wgpu::BufferBinding {
                buffer: params,
                offset: 0,
                size: wgpu::BufferSize::new(block_bytes(call.params.len())),
            };
            let storage = command.buffers.iter().map(|id| buffers[id.0].as_entire_binding());
            let entries: Vec<_> = [wgpu::BindingResource::Buffer(block)]
                .into_iter()
                .chain(storage)
                .zip(0..)
                .map(|(resource, binding)| wgpu::BindGroupEntry { binding, resource })
                .collect();
            Arc::new(Guarded::new(device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(call.kernel.name),
                layout: &layout,
                entries: &entries,
            })))
        };
        dispatches.push(Dispatch {
            pipeline,
            bindings: groups.entry((call.kernel.name, &command.buffers)).or_insert_with(make).clone(),
            params: offset,
            // The plan's check has held them against the device's limit, which is 32-bit.
            groups: call.groups().map(|groups| groups as u32),
        });
    }
    Ok(dispatches)
}

/// Bytes of a parameter block as bound.
fn block_bytes(words: usize) -> u64 {
    (4 * words as u64).next_multiple_of(16)
}

/// One uniform buffer with every distinct parameter block, and each command's offset in it.
async fn params(context: &Context, plan: &Plan) -> Result<(GpuBuffer, Vec<u32>)> {
    let stride = plan.commands.iter().map(|command| block_bytes(command.call.params.len())).max().unwrap_or(16);
    let stride = stride.next_multiple_of(context.uniform_alignment);
    let mut known: HashMap<&[u32], u32> = HashMap::new();
    let mut bytes: Vec<u8> = Vec::new();
    let mut offsets = Vec::with_capacity(plan.commands.len());
    for command in &plan.commands {
        let words = command.call.params.as_slice();
        let offset = *known.entry(words).or_insert_with(|| {
            let offset = bytes.len();
            bytes.extend_from_slice(bytemuck::cast_slice(words));
            bytes.resize(offset + stride as usize, 0);
            offset as u32
        });
        offsets.push(offset);
    }
    bytes.resize(bytes.len().max(stride as usize), 0);
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
    let buffer = context.allocate("parameters", bytes.len() as u64, usage).await?;
    context.call("writing", |_, queue| queue.write_buffer(&buffer, 0, &bytes))?;
    Ok((buffer, offsets))
}
