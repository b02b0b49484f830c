//! A plan made ready for the GPU, and its execution.

use super::adapter::AdapterKind;
use super::context::{Context, GpuBuffer, Pipeline, Readback, cause};
use super::guard::Guarded;
use super::staging::{Destination, Uploads};
use super::timeline::Slot;
use crate::cpu::{DEFAULT_THREADS, Team, Threads};
use crate::error::{Error, Result};
use crate::kernel::{COPY, GRID_FORWARD, GRID_REPAIR, StridedCopy};
use crate::lock::lock;
use crate::memory;
use crate::plan::{BufferId, Command, Plan};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Dispatches of one submission. A driver's watchdog looks at submissions, so a long sequence is sent in several.
const DISPATCHES_A_SUBMIT: usize = 4096;
/// Dispatches that pay for another thread to record them; a driver takes one to two microseconds for each.
const DISPATCHES_A_THREAD: usize = 64;
/// Most threads that record at the same time. wgpu and drivers take turns at some of it.
const MOST_RECORDERS: usize = 8;
/// Dispatches of a first submission, with which the device begins while the rest is recorded.
const FIRST_DISPATCHES: usize = 256;

/// A copy of elements on the device after a run.
pub(crate) struct CopyAfter<'a> {
    pub from: (BufferId, u64),
    pub to: (&'a GpuBuffer, u64),
    pub len: u64,
}

/// A command with everything it binds.
#[derive(Debug)]
struct Dispatch {
    pipeline: Pipeline,
    bindings: Arc<Guarded<wgpu::BindGroup>>,
    params: u32,
    groups: [u32; 3],
    /// Its copy, if it is one of one piece between two buffers.
    copy: Option<PieceCopy>,
    /// True for the steps of a grid, which a repair follows.
    is_grid: bool,
}

/// A copy of one piece from a buffer of the plan to another; offsets and length in bytes.
#[derive(Clone, Copy, Debug)]
struct PieceCopy {
    from: BufferId,
    at: u64,
    to: BufferId,
    to_at: u64,
    bytes: u64,
}

impl PieceCopy {
    fn of(command: &Command) -> Option<PieceCopy> {
        let (call, &[from, to]) = (&command.call, command.buffers.as_slice()) else { return None };
        if call.kernel.name != COPY.name {
            return None;
        }
        let p: StridedCopy = call.params();
        let is_piece = [p.n0, p.n1, p.n2, p.add] == [1, 1, 1, 0] && [p.src_3, p.dst_3] == [1, 1] && from != to;
        let bytes = |elements: u32| 4 * u64::from(elements);
        let (at, to_at, bytes) = (bytes(p.src_offset), bytes(p.dst_offset), bytes(p.n3));
        is_piece.then_some(PieceCopy { from, at, to, to_at, bytes })
    }
}

/// A plan's buffers, pipelines and bind groups, made once.
#[derive(Debug)]
pub(crate) struct Program {
    context: Arc<Context>,
    buffers: Vec<GpuBuffer>,
    /// True for buffers that other programs have, too.
    shared: Vec<bool>,
    dispatches: Vec<Dispatch>,
    /// Writes that go with the next submission.
    uploads: Mutex<Uploads>,
    /// Number of submissions.
    submissions: AtomicU64,
    /// Barriers of grids, whose first words count repairs.
    barriers: Vec<BufferId>,
}

impl Program {
    /// Allocates and compiles what a plan needs; `shared` provides buffers by index.
    pub async fn new(
        context: Arc<Context>,
        plan: &Plan,
        shared: impl Fn(usize) -> Option<GpuBuffer>,
    ) -> Result<Program> {
        let (mut buffers, mut others) = (Vec::new(), Vec::new());
        for (k, buffer) in plan.buffers.iter().enumerate() {
            let shared = shared(k);
            others.push(shared.is_some());
            buffers.push(match shared {
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
        Ok(Program {
            context,
            buffers,
            shared: others,
            dispatches,
            uploads: Mutex::default(),
            submissions: AtomicU64::new(0),
            barriers: barriers(plan),
        })
    }

    /// Submits the commands of a range, and copies after them; the host does not wait.
    pub fn run(&self, range: Range<usize>, after: &[CopyAfter<'_>]) -> Result<()> {
        let after: Vec<_> =
            after.iter().map(|copy| (self.buffer(copy.from.0), copy.from.1, copy.to, copy.len)).collect();
        self.submit(range, None, &after).map(drop)
    }

    /// Submits the commands of a range with copies of `places` (buffer, first element, elements), one after the other, to the host.
    pub fn run_reading(&self, range: Range<usize>, places: &[(BufferId, u64, u64)]) -> Result<Readback> {
        let all = places.iter().map(|&(.., len)| len).sum();
        let readback = Readback::with_repairs(&self.context, all, self.barriers.len() as u64)?;
        let mut copies = Vec::with_capacity(places.len());
        let mut at = 0;
        for &(id, from, len) in places {
            copies.push((self.buffer(id), from, (&readback.staging, at), len));
            at += len;
        }
        let counts = self.barriers.iter().zip(at..);
        copies.extend(counts.map(|(&barrier, at)| (self.buffer(barrier), 0, (&readback.staging, at), 1)));
        match self.submit(range, None, &copies)? {
            Some(after) => {
                drop(copies);
                self.context.call("reading results back", |_, _| readback.submitted(after))
            }
            None => Ok(readback),
        }
    }

    /// Has `fill` write `len` elements of a buffer from element `at`, which go to the device with the next submission.
    pub fn write_with<R>(
        &self,
        (id, at): (BufferId, u64),
        len: u64,
        fill: impl FnOnce(Destination<'_>) -> R,
    ) -> Result<R> {
        // In browsers a staging buffer is not mapped again before the page's event loop runs.
        if self.shared[id.0] || cfg!(target_arch = "wasm32") {
            let mut values = memory::zeros(len as usize, "a copy of an array")?;
            let result = fill(Destination::Host(&mut values));
            self.context.write(self.buffer(id), at, &values)?;
            return Ok(result);
        }
        let to = self.buffer(id);
        lock(&self.uploads).write(&self.context, to, at, len, |mapped| fill(Destination::Mapped(mapped)))
    }

    /// Runs everything and gives the milliseconds that the device took, where it can tell.
    pub async fn milliseconds(&self) -> Result<Option<f64>> {
        let context = &self.context;
        if !context.timestamps || self.dispatches.is_empty() {
            return Ok(None);
        }
        let passes = self.dispatches.len().div_ceil(DISPATCHES_A_SUBMIT) as u32;
        let queries = context.timestamp_set(2 * passes)?;
        self.submit(0..self.dispatches.len(), Some(&queries), &[])?;
        let (ticks, period) = context.ticks(&queries, 2 * passes).await?;
        let (first, last) = (ticks[0], ticks[ticks.len() - 1]);
        Ok(Some(last.saturating_sub(first) as f64 * period / 1e6))
    }

    /// Submits what was written, the commands of a range, in passes that write their times where `queries` are given, and copies
    /// after them. Gives the last submission, if there is one.
    fn submit(
        &self,
        range: Range<usize>,
        queries: Option<&wgpu::QuerySet>,
        after: &[DeviceCopy<'_>],
    ) -> Result<Option<wgpu::SubmissionIndex>> {
        // Held until all is submitted, so that no write overtakes another.
        let mut uploads = lock(&self.uploads);
        let dispatches = &self.dispatches[range];
        if dispatches.is_empty() && after.is_empty() && uploads.is_empty() {
            return Ok(None);
        }
        self.submissions.fetch_add(1, Ordering::Relaxed);
        let team = Team::new(Threads::AtMost(*DEFAULT_THREADS));
        let slot = || if queries.is_none() { self.context.timeline_slot() } else { None };
        let (mut done, mut index, mut last) = (0, 0, None);
        while last.is_none() || done < dispatches.len() {
            let rest = dispatches.len() - done;
            let slot = slot();
            // A software adapter runs a submission in the call that submits the next one.
            let apart = queries.is_none() && self.context.adapter.kind != AdapterKind::Software;
            let first = done == 0 && apart && rest > 2 * FIRST_DISPATCHES;
            let count = rest.min(if first { FIRST_DISPATCHES } else { DISPATCHES_A_SUBMIT });
            let now = &dispatches[done..done + count];
            let threads = self.threads(&team, if queries.is_some() { 1 } else { count });
            let slices = now.chunks(count.div_ceil(threads).max(1));
            let slices: Vec<&[Dispatch]> = if count == 0 { vec![now] } else { slices.collect() };
            let mut recorded: Vec<Result<Option<Recorded>>> = slices.iter().map(|_| Ok(None)).collect();
            let mut parts = Vec::with_capacity(slices.len());
            let (mut uploads, times) = (Some(&mut *uploads), queries.map(|queries| (queries, index)));
            for (dispatches, recorded) in slices.into_iter().zip(&mut recorded) {
                // The first submission has taken all writes.
                let uploads = uploads.take();
                parts.push(Part { dispatches, uploads, times, starts: None, ends: None, after: &[], recorded });
            }
            if let Some((queries, first)) = slot.as_ref().map(Slot::queries) {
                if let Some(part) = parts.first_mut() {
                    part.starts = Some((queries, first));
                }
                if let Some(part) = parts.last_mut() {
                    part.ends = Some((queries, first + 1));
                }
            }
            if let Some(part) = parts.last_mut().filter(|_| done + count == dispatches.len()) {
                part.after = after;
            }
            #[cfg(not(target_arch = "wasm32"))]
            team.each(parts, |part| self.record(part));
            #[cfg(target_arch = "wasm32")]
            parts.into_iter().for_each(|part| self.record(part));
            let mut all = Vec::with_capacity(recorded.len());
            for part in recorded {
                all.extend(part?);
            }
            let recorded = slot.as_ref().map(|_| Instant::now());
            last = Some(self.context.call(RUNNING, |_, queue| {
                let pages: Vec<GpuBuffer> = all.iter_mut().flat_map(|part| std::mem::take(&mut part.pages)).collect();
                let submission = queue.submit(all.into_iter().map(|part| part.commands.into_inner()));
                self.context.return_pages(pages);
                submission
            })?);
            if let (Some(slot), Some(recorded)) = (slot, recorded) {
                slot.submitted(count, recorded);
            }
            (done, index) = (done + count, index + 1);
        }
        Ok(last)
    }

    /// Threads that record so many dispatches.
    fn threads(&self, team: &Team, dispatches: usize) -> usize {
        let most = (dispatches / DISPATCHES_A_THREAD).min(MOST_RECORDERS);
        // A software adapter has threads of its own, which need the processors.
        if most < 2 || self.context.adapter.kind == AdapterKind::Software {
            1
        } else {
            team.threads_for(most as u64).clamp(1, most)
        }
    }

    /// Records a part of a submission.
    fn record(&self, Part { dispatches, uploads, times, starts, ends, after, recorded }: Part<'_>) {
        *recorded = self.context.call(RUNNING, |device, _| {
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            record_time(&mut encoder, starts.map(|(set, index)| (set, Some(index), None)));
            let pages = uploads.map_or_else(Vec::new, |uploads| uploads.record(&mut encoder));
            // Copies at both ends, of states for example, cost a driver less than dispatches. Times are taken of dispatches.
            let is_copy = |dispatch: &&Dispatch| dispatch.copy.is_some() && times.is_none();
            let first = dispatches.iter().take_while(is_copy).count();
            let last = dispatches[first..].iter().rev().take_while(is_copy).count();
            let (before, rest) = dispatches.split_at(first);
            let (between, behind) = rest.split_at(rest.len() - last);
            self.record_copies(&mut encoder, before);
            if !between.is_empty() {
                record_pass(&mut encoder, between, times, self.context.grids.have_failed());
            }
            self.record_copies(&mut encoder, behind);
            for &(from, at, (to, to_at), len) in after {
                encoder.copy_buffer_to_buffer(from, 4 * at, to, 4 * to_at, 4 * len);
            }
            record_time(&mut encoder, ends.map(|(set, index)| (set, None, Some(index))));
            Some(Recorded { commands: Guarded::new(encoder.finish()), pages })
        });
    }

    /// Records dispatches that are copies as such.
    fn record_copies(&self, encoder: &mut wgpu::CommandEncoder, copies: &[Dispatch]) {
        for PieceCopy { from, at, to, to_at, bytes } in copies.iter().filter_map(|dispatch| dispatch.copy) {
            encoder.copy_buffer_to_buffer(self.buffer(from), at, self.buffer(to), to_at, bytes);
        }
    }

    /// Number of submissions so far. What was written since the last of them is still to go.
    pub fn submissions(&self) -> u64 {
        self.submissions.load(Ordering::Relaxed)
    }

    /// Submits what was written.
    pub fn flush(&self) -> Result<()> {
        self.submit(0..0, None, &[]).map(drop)
    }

    /// True if layers of the plan run as grids, and the device's grids have failed.
    pub fn has_failed_grids(&self) -> bool {
        !self.barriers.is_empty() && self.context.grids.have_failed()
    }

    /// The device buffer of a plan's buffer.
    pub fn buffer(&self, id: BufferId) -> &GpuBuffer {
        &self.buffers[id.0]
    }
}

const RUNNING: &str = "running a plan";

/// A copy: from a buffer and its first element, to one, and the elements.
type DeviceCopy<'a> = (&'a GpuBuffer, u64, (&'a GpuBuffer, u64), u64);

/// A part of a submission, which one thread records.
struct Part<'a> {
    dispatches: &'a [Dispatch],
    uploads: Option<&'a mut Uploads>,
    /// Times of its pass: a set and the number of the pass.
    times: Option<(&'a wgpu::QuerySet, u32)>,
    /// Timestamps of a timeline before everything and after everything: a set and an index.
    starts: Option<(&'a wgpu::QuerySet, u32)>,
    ends: Option<(&'a wgpu::QuerySet, u32)>,
    after: &'a [DeviceCopy<'a>],
    recorded: &'a mut Result<Option<Recorded>>,
}

/// Commands of a part, and the staging buffers that they copy from.
struct Recorded {
    commands: Guarded<wgpu::CommandBuffer>,
    pages: Vec<GpuBuffer>,
}

/// Records a timestamp of this place by the beginning or the end of a pass without dispatches.
fn record_time(encoder: &mut wgpu::CommandEncoder, time: Option<(&wgpu::QuerySet, Option<u32>, Option<u32>)>) {
    let Some((query_set, beginning_of_pass_write_index, end_of_pass_write_index)) = time else { return };
    let writes = wgpu::ComputePassTimestampWrites { query_set, beginning_of_pass_write_index, end_of_pass_write_index };
    encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes: Some(writes) });
}

/// Barriers of a plan's grids.
fn barriers(plan: &Plan) -> Vec<BufferId> {
    let repairs = plan.commands.iter().filter(|command| command.call.kernel.name == GRID_REPAIR.name);
    let mut all: Vec<BufferId> = repairs.filter_map(|command| command.buffers.last().copied()).collect();
    all.sort();
    all.dedup();
    all
}

/// Records dispatches; what a dispatch has in common with the one before is not set again. Grids that have failed are left to their
/// repairs.
fn record_pass(
    encoder: &mut wgpu::CommandEncoder,
    dispatches: &[Dispatch],
    times: Option<(&wgpu::QuerySet, u32)>,
    without_grids: bool,
) {
    let timestamp_writes = times.map(|(query_set, index)| wgpu::ComputePassTimestampWrites {
        query_set,
        beginning_of_pass_write_index: Some(2 * index),
        end_of_pass_write_index: Some(2 * index + 1),
    });
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
    let mut before: Option<&Dispatch> = None;
    for dispatch in dispatches.iter().filter(|dispatch| !(without_grids && dispatch.is_grid)) {
        let same = before.map_or((false, false), |before| {
            let pipeline = Arc::ptr_eq(&before.pipeline, &dispatch.pipeline);
            let bindings = before.params == dispatch.params && Arc::ptr_eq(&before.bindings, &dispatch.bindings);
            (pipeline, bindings)
        });
        if !same.0 {
            pass.set_pipeline(&dispatch.pipeline);
        }
        if !same.1 {
            pass.set_bind_group(0, &**dispatch.bindings, &[dispatch.params]);
        }
        let [x, y, z] = dispatch.groups;
        pass.dispatch_workgroups(x, y, z);
        before = Some(dispatch);
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
            copy: PieceCopy::of(command),
            is_grid: call.kernel.name == GRID_FORWARD.name,
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
