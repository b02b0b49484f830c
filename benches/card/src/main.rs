//! Costs of a dispatch and a barrier on a card, by the card's own clock:
//!
//! - a dispatch that waits for the one before (one thread, the same buffer);
//! - a barrier of a workgroup of 64 and of 256 threads;
//! - a barrier across workgroups by atomics, which only hardware is asked for: no API promises that workgroups make progress side
//!   by side, so every wait is bounded, and the most workgroups that never gave up is part of the result (a litmus, after Sorensen
//!   et al., "Portable inter-workgroup barrier synchronisation for GPUs", OOPSLA 2016).
//!
//! Each time is the difference between a long and a short run, divided by the difference of their counts: what a submission costs
//! cancels out. The median of several.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::Serialize;
use std::num::NonZero;

#[derive(Parser)]
#[command(about = "What a dispatch and a barrier cost on a card")]
struct Arguments {
    /// File for the figures; standard output has them, too
    #[arg(long)]
    json: Option<std::path::PathBuf>,
    /// Runs whose median is taken
    #[arg(long, default_value_t = 15)]
    runs: usize,
}

#[derive(Serialize)]
struct Figures {
    device: String,
    driver: String,
    /// Microseconds of a dispatch that depends on the one before.
    dispatch_us: f64,
    /// The same for a pass of its own in the same submission.
    pass_us: f64,
    workgroup_barriers: Vec<Barrier>,
    /// Empty on a software adapter.
    device_barriers: Vec<Barrier>,
}

/// A barrier's time.
#[derive(Serialize)]
struct Barrier {
    workgroups: u32,
    threads: u32,
    /// Microseconds of a barrier; `None` if a workgroup gave up.
    us: Option<f64>,
}

const SHADER: &str = "
override THREADS: u32 = 64u;

struct Params { rounds: u32, workgroups: u32, patience: u32, unused: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> cells: array<atomic<u32>>; // [3]: a number, arrivals, workgroups that gave up

var<workgroup> memory: array<u32, 256>;
var<workgroup> going: u32;

@compute @workgroup_size(1)
fn dispatch() {
    atomicStore(&cells[0], atomicLoad(&cells[0]) + 1u);
}

@compute @workgroup_size(THREADS)
fn workgroup_barrier(@builtin(local_invocation_id) local: vec3u) {
    memory[local.x] = local.x;
    for (var round = 0u; round < p.rounds; round++) {
        workgroupBarrier();
        let next = memory[(local.x + 1u) % THREADS];
        workgroupBarrier();
        memory[local.x] = next;
    }
    if local.x == 0u {
        atomicStore(&cells[0], memory[0]);
    }
}

@compute @workgroup_size(THREADS)
fn device_barrier(@builtin(local_invocation_id) local: vec3u) {
    for (var round = 1u; round <= p.rounds; round++) {
        storageBarrier();
        if local.x == 0u {
            atomicAdd(&cells[1], 1u);
            var left = p.patience;
            while left > 0u && atomicLoad(&cells[1]) < round * p.workgroups {
                left--;
            }
            if left == 0u {
                atomicAdd(&cells[2], 1u);
            }
            going = left;
        }
        if workgroupUniformLoad(&going) == 0u {
            return;
        }
    }
}
";

struct Card {
    device: wgpu::Device,
    queue: wgpu::Queue,
    layout: wgpu::PipelineLayout,
    module: wgpu::ShaderModule,
    bindings: wgpu::BindGroup,
    params: wgpu::Buffer,
    cells: wgpu::Buffer,
    ticks: wgpu::Buffer,
    host: wgpu::Buffer,
    queries: wgpu::QuerySet,
}

impl Card {
    async fn open() -> Result<(Card, wgpu::AdapterInfo)> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let adapter = instance.request_adapter(&options).await.context("there is no adapter")?;
        ensure!(adapter.features().contains(wgpu::Features::TIMESTAMP_QUERY), "the adapter has no timestamps");
        let descriptor = wgpu::DeviceDescriptor {
            required_features: wgpu::Features::TIMESTAMP_QUERY,
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await?;
        use wgpu::BufferUsages as Use;
        let buffer = |size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        let params = buffer(16, Use::UNIFORM | Use::COPY_DST);
        let cells = buffer(16, Use::STORAGE | Use::COPY_DST | Use::COPY_SRC);
        let ticks = buffer(16, Use::QUERY_RESOLVE | Use::COPY_SRC);
        let host = buffer(32, Use::MAP_READ | Use::COPY_DST);
        let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: NonZero::new(16) },
            count: None,
        };
        let group = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: None,
            entries: &[
                entry(0, wgpu::BufferBindingType::Uniform),
                entry(1, wgpu::BufferBindingType::Storage { read_only: false }),
            ],
        });
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &group,
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: params.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: cells.as_entire_binding() },
            ],
        });
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            bind_group_layouts: &[Some(&group)],
            ..Default::default()
        });
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(SHADER.into()),
        });
        let queries = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: None,
            ty: wgpu::QueryType::Timestamp,
            count: 2,
        });
        let info = adapter.get_info();
        Ok((Card { device, queue, layout, module, bindings, params, cells, ticks, host, queries }, info))
    }

    fn pipeline(&self, entry: &str, threads: u32) -> wgpu::ComputePipeline {
        let constants = [("THREADS", threads as f64)];
        self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: Some(&self.layout),
            module: &self.module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: if threads == 0 { &[] } else { &constants },
                ..Default::default()
            },
            cache: None,
        })
    }

    /// Microseconds of `passes` passes of `dispatches` dispatches, and the cells after them.
    fn time(&self, pipeline: &wgpu::ComputePipeline, run: Run) -> Result<(f64, [u32; 3])> {
        let words = [run.rounds, run.workgroups, 10_000, 0];
        self.queue.write_buffer(&self.params, 0, &words.map(u32::to_le_bytes).concat());
        self.queue.write_buffer(&self.cells, 0, &[0; 16]);
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for index in 0..run.passes {
            let last = index + 1 == run.passes;
            let timestamp_writes = (index == 0 || last).then(|| wgpu::ComputePassTimestampWrites {
                query_set: &self.queries,
                beginning_of_pass_write_index: (index == 0).then_some(0),
                end_of_pass_write_index: last.then_some(1),
            });
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &self.bindings, &[]);
            (0..run.dispatches).for_each(|_| pass.dispatch_workgroups(run.workgroups, 1, 1));
        }
        encoder.resolve_query_set(&self.queries, 0..2, &self.ticks, 0);
        encoder.copy_buffer_to_buffer(&self.ticks, 0, &self.host, 0, 16);
        encoder.copy_buffer_to_buffer(&self.cells, 0, &self.host, 16, 16);
        self.queue.submit([encoder.finish()]);
        self.host.map_async(wgpu::MapMode::Read, .., |_| {});
        self.device.poll(wgpu::PollType::wait_indefinitely())?;
        let bytes = self.host.get_mapped_range(..)?.to_vec();
        self.host.unmap();
        let ticks = |at: usize| u64::from_le_bytes(std::array::from_fn(|n| bytes[at + n]));
        let cell = |n: usize| u32::from_le_bytes(std::array::from_fn(|byte| bytes[16 + 4 * n + byte]));
        let time = ticks(8).saturating_sub(ticks(0)) as f64 * self.queue.get_timestamp_period() as f64 / 1e3;
        Ok((time, [cell(0), cell(1), cell(2)]))
    }

    /// Microseconds that each of the counts adds: the median of differences between a long and a short run. `None` if a
    /// workgroup gave up.
    fn each(&self, entry: &str, threads: u32, runs: usize, of: impl Fn(u32) -> Run) -> Result<Option<f64>> {
        const SHORT: u32 = 20;
        const LONG: u32 = 220;
        let pipeline = self.pipeline(entry, threads);
        let mut times = Vec::new();
        for run in 0..runs + 1 {
            let (short, cells) = self.time(&pipeline, of(SHORT))?;
            let (long, more) = self.time(&pipeline, of(LONG))?;
            if cells[2] + more[2] > 0 {
                return Ok(None);
            }
            // The first run is a warm-up.
            if run > 0 {
                times.push((long - short) / (LONG - SHORT) as f64);
            }
        }
        times.sort_by(f64::total_cmp);
        Ok(Some(times[times.len() / 2]))
    }
}

/// Counts of a run.
#[derive(Clone, Copy)]
struct Run {
    passes: u32,
    dispatches: u32,
    rounds: u32,
    workgroups: u32,
}

const ONE: Run = Run { passes: 1, dispatches: 1, rounds: 1, workgroups: 1 };

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.runs > 0, "--runs is 0");
    let runs = arguments.runs;
    let (card, info) = pollster::block_on(Card::open())?;
    let dispatch_us = card.each("dispatch", 0, runs, |dispatches| Run { dispatches, ..ONE })?;
    let pass_us = card.each("dispatch", 0, runs, |passes| Run { passes, ..ONE })?;
    let mut workgroup_barriers = Vec::new();
    for threads in [64, 256] {
        // A round has two barriers.
        let us = card.each("workgroup_barrier", threads, runs, |rounds| Run { rounds, ..ONE })?.map(|us| us / 2.0);
        workgroup_barriers.push(Barrier { workgroups: 1, threads, us });
    }
    let mut device_barriers = Vec::new();
    if info.device_type != wgpu::DeviceType::Cpu {
        for workgroups in [2, 8, 16, 32, 64, 128, 256, 512] {
            let us = card.each("device_barrier", 256, runs, |rounds| Run { rounds, workgroups, ..ONE })?;
            device_barriers.push(Barrier { workgroups, threads: 256, us });
            if us.is_none() {
                break;
            }
        }
    }
    let figures = Figures {
        device: info.name,
        driver: format!("{} {}", info.driver, info.driver_info),
        dispatch_us: dispatch_us.unwrap_or(f64::NAN),
        pass_us: pass_us.unwrap_or(f64::NAN),
        workgroup_barriers,
        device_barriers,
    };
    let text = serde_json::to_string_pretty(&figures)?;
    println!("{text}");
    if let Some(path) = &arguments.json {
        std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
