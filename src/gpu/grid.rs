//! Grids: workgroups that run side by side and wait for each other. How many a device holds, and what happens if one does not come.

use super::adapter::{Adapter, Backend, Grid};
use super::guard::{guarded, one_line};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

/// Threads of a workgroup of the litmus, and the most of a grid's kernel.
const THREADS: u32 = 256;
/// Bytes of workgroup memory of a workgroup of the litmus, where a device has them; more than most grids take.
const MEMORY: u32 = 32 << 10;
/// Rounds of a run of the litmus, and runs for each number of workgroups.
const ROUNDS: u32 = 24;
const RUNS: u32 = 3;
/// Spins of a workgroup; together with the rounds below the iterations after which some drivers end loops.
const SPINS: u32 = 50_000;
/// Most workgroups that are tried.
const MOST: u32 = 1024;
/// The result is this part of the workgroups that met, since a kernel may take more registers than the litmus.
const MARGIN: u32 = 2;

/// Words of the litmus in its buffer: workgroups that finished, arrivals, stale numbers.
const WORDS: u64 = 3;

/// A device's grids.
#[derive(Debug)]
pub(crate) struct Grids {
    /// Workgroups that a grid may have, or the reason why there are none.
    found: Result<u32, String>,
    /// True after a workgroup did not come.
    failed: AtomicBool,
}

impl Grids {
    /// Finds out what a device can.
    pub fn new(
        asked: Grid,
        adapter: &Adapter,
        known: wgpu::Features,
        limits: &wgpu::Limits,
        (device, queue): (&wgpu::Device, &wgpu::Queue),
    ) -> Grids {
        let coherent = known.contains(feature());
        let found = match (asked, adapter.backend) {
            (Grid::Off, _) => Err("grids were not asked for".into()),
            (_, Backend::Metal) => Err("Metal has no order of memory between workgroups".into()),
            (_, _) if !coherent => Err("its driver has no coherent buffers".into()),
            (Grid::Assume(workgroups), _) => Ok(workgroups),
            (Grid::Litmus, _) => {
                let litmus = || Litmus::new(device, limits)?.most(device, queue);
                guarded(litmus).unwrap_or_else(|message| Err(format!("the litmus failed: {message}"))).and_then(|met| {
                    match met / MARGIN {
                        0 | 1 => Err(format!("no more than {met} workgroups ran side by side")),
                        workgroups => Ok(workgroups),
                    }
                })
            }
        };
        match &found {
            Ok(workgroups) => log::info!("grids of up to {workgroups} workgroups"),
            Err(reason) if asked != Grid::Off => log::warn!("layers run without grids: {reason}"),
            Err(_) => {}
        }
        Grids { found, failed: AtomicBool::new(false) }
    }

    /// Workgroups that a grid may have, or the reason why there are none.
    pub fn workgroups(&self) -> Result<u32, String> {
        match self.failed.load(Ordering::Relaxed) {
            true => Err("a workgroup of a grid did not come in time".into()),
            false => self.found.clone(),
        }
    }

    /// True after a workgroup did not come.
    pub fn have_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Notes repairs of a run, as its plan counts them.
    pub fn repaired(&self, repairs: u32) {
        if repairs > 0 && !self.failed.swap(true, Ordering::Relaxed) {
            log::warn!(
                "a workgroup of a grid did not come in time; the steps were computed without the others, and layers run without grids \
                 from here on"
            );
        }
    }
}

/// The feature of a device that grids need.
pub(super) fn feature() -> wgpu::Features {
    wgpu::Features::MEMORY_DECORATION_COHERENT
}

/// The litmus on a device.
struct Litmus {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    barrier: wgpu::Buffer,
    host: wgpu::Buffer,
}

impl Litmus {
    fn new(device: &wgpu::Device, limits: &wgpu::Limits) -> Result<Litmus, String> {
        use wgpu::BufferUsages as Use;
        const SOURCE: &str =
            concat!(include_str!("../../shaders/common/grid_barrier.wgsl"), "\n", include_str!("litmus.wgsl"));
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let buffer = |size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("litmus"),
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let params = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("litmus"),
            size: 16,
            usage: Use::UNIFORM,
            mapped_at_creation: true,
        });
        let words = [ROUNDS, SPINS, 0, 0];
        params
            .get_mapped_range_mut(..)
            .map_err(|error| error.to_string())?
            .copy_from_slice(bytemuck::cast_slice(&words));
        params.unmap();
        let barrier = buffer(16, Use::STORAGE | Use::COPY_DST | Use::COPY_SRC);
        let notes = buffer(4 * 2 * u64::from(MOST * THREADS), Use::STORAGE);
        let host = buffer(4 * WORDS, Use::MAP_READ | Use::COPY_DST);
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("litmus"),
            source: wgpu::ShaderSource::Wgsl(SOURCE.into()),
        });
        let memory = limits.max_compute_workgroup_storage_size.min(MEMORY) / 16 - 1;
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("litmus"),
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[("THREADS", f64::from(THREADS)), ("MEMORY", f64::from(memory))],
                ..Default::default()
            },
            cache: None,
        });
        let entries = [&params, &barrier, &notes].map(wgpu::Buffer::as_entire_binding);
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("litmus"),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &(entries.into_iter().zip(0..))
                .map(|(resource, binding)| wgpu::BindGroupEntry { binding, resource })
                .collect::<Vec<_>>(),
        });
        // Only browsers have to wait for it, which have no grids.
        match pin!(scope.pop()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(None) => Ok(Litmus { pipeline, bindings, barrier, host }),
            Poll::Ready(Some(error)) => Err(format!("the litmus was refused: {}", one_line(&error.to_string()))),
            Poll::Pending => Err("the litmus was not compiled".into()),
        }
    }

    /// The most workgroups that always met, of powers of two; 1 if no two did.
    fn most(&self, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<u32, String> {
        let counts = (1..).map(|power| 1 << power).take_while(|&count| count <= MOST);
        let mut most = 1;
        for workgroups in counts {
            for _ in 0..RUNS {
                let [finished, _, stale] = self.run(device, queue, workgroups)?;
                if stale > 0 {
                    return Err(format!("{stale} numbers of other workgroups were stale behind a barrier"));
                }
                if finished != workgroups {
                    return Ok(most);
                }
            }
            most = workgroups;
        }
        Ok(most)
    }

    fn run(&self, device: &wgpu::Device, queue: &wgpu::Queue, workgroups: u32) -> Result<[u32; 3], String> {
        queue.write_buffer(&self.barrier, 0, &[0; 4 * WORDS as usize]);
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.bindings, &[]);
            pass.dispatch_workgroups(workgroups, 1, 1);
        }
        encoder.copy_buffer_to_buffer(&self.barrier, 0, &self.host, 0, 4 * WORDS);
        queue.submit([encoder.finish()]);
        self.host.map_async(wgpu::MapMode::Read, .., |_| {});
        device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| error.to_string())?;
        let words = {
            let view = self.host.get_mapped_range(..).map_err(|error| error.to_string())?;
            std::array::from_fn(|n| bytemuck::pod_read_unaligned(&view[4 * n..][..4]))
        };
        self.host.unmap();
        Ok(words)
    }
}
