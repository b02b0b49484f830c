//! Finding adapters and choosing one.

use super::guard::{Guarded, guarded_future};
use crate::error::{Error, Result};
use crate::kernel::Matmul;
use crate::plan::{CooperativeMatrices, Matrices, StepWeights, Strategy};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Graphics interfaces that wgpu speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// Linux, Windows, Android.
    Vulkan,
    /// macOS, iOS.
    Metal,
    /// Windows.
    Dx12,
    /// Browsers.
    WebGpu,
    /// Something else.
    Other,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Vulkan => "Vulkan",
            Backend::Metal => "Metal",
            Backend::Dx12 => "DX12",
            Backend::WebGpu => "WebGPU",
            Backend::Other => "other",
        })
    }
}

/// Types of adapters, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum AdapterKind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares memory with the CPU.
    Integrated,
    /// A GPU lent to a virtual machine.
    Virtual,
    /// The driver does not say.
    Unknown,
    /// A program on the CPU (lavapipe, WARP, SwiftShader).
    Software,
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AdapterKind::Discrete => "discrete GPU",
            AdapterKind::Integrated => "integrated GPU",
            AdapterKind::Virtual => "virtual GPU",
            AdapterKind::Unknown => "GPU of unknown kind",
            AdapterKind::Software => "software adapter",
        })
    }
}

/// Choice of software adapters. The crate's own CPU executor is faster than any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Software {
    /// Never.
    #[default]
    Never,
    /// Only if there is no hardware adapter.
    Fallback,
    /// Only a software adapter, for tests.
    Only,
}

/// Choice of launches of recurrent layers (workgroups, threads and dispatches of their steps) and of large products (tiles, workgroups that
/// share sums). All compute the same; sums are in another order, so that the last bits may differ between choices. The same choices
/// give the same bits.
///
/// ```no_run
/// use wgpu_lstm::{Device, GpuOptions, Tuning};
/// let device = Device::gpu(&GpuOptions { tuning: Tuning::Measure, ..GpuOptions::default() })?;
/// device.save_tuning("tuning.json")?; // what was measured so far, for Tuning::File
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tuning {
    /// By a model of cost, which measures nothing: the same choices on every run. What [`Model::tune`](crate::Model::tune)
    /// measures is followed all the same.
    #[default]
    Model,
    /// By measurements: before a shape is planned for the first time, the best few launches by the model are run on the device, each
    /// with buffers of its own, within [`GpuOptions::tuning_budget`]. The fastest is kept, and other processes on the same
    /// adapter, driver and version of this crate find it in [`GpuOptions::tuning_folder`].
    Measure,
    /// Choices of a file that [`Device::save_tuning`](crate::Device::save_tuning) wrote; the model of cost decides on what is not in it.
    /// Opening the device fails if the file cannot be read or holds something else. Choices that the device cannot run are left out, and
    /// choices of another adapter, driver or version are followed where it can; the log tells of both.
    File(PathBuf),
}

/// Leave to run layers as grids, [`Strategy::Grid`]: one dispatch for many time steps, whose workgroups wait for each other after each
/// step. It saves the time from dispatch to dispatch, which is most of a step of 256 to 1,024 units and up to 16 rows.
///
/// No graphics interface promises what this needs: that workgroups of a dispatch make progress side by side. GPUs do so for as many as are
/// resident at once, in practice ([Sorensen et al., "Portable inter-workgroup barrier synchronisation for GPUs", OOPSLA
/// 2016](https://doi.org/10.1145/2983990.2984032); recurrent weights that stay on a chip: [Diamos et al., "Persistent RNNs", ICML
/// 2016](https://proceedings.mlr.press/v48/diamos16.html)). So it is an option, and nothing depends on it: every wait is bounded, and
/// behind each grid runs a repair, which computes the steps if a workgroup did not come, so that the results are right. The device then
/// runs layers without grids from the next plan on; the log and [`Device::grid`](crate::Device::grid) say so. Until then a run can take
/// some hundred milliseconds more.
///
/// Only the forward pass of plain layers is a grid: cells with their default activations, without lengths, zoneout, recurrent dropout or
/// projection, weights in f32. Vulkan and DX12 have what it takes, Metal and browsers do not.
///
/// ```no_run
/// use wgpu_lstm::{Device, GpuOptions, Grid};
/// let device = Device::gpu(&GpuOptions { grid: Grid::Litmus, ..GpuOptions::default() })?;
/// match device.grid() {
///     Ok(workgroups) => println!("grids of up to {workgroups} workgroups"),
///     Err(reason) => println!("no grids: {reason}"),
/// }
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Grid {
    /// No grids.
    #[default]
    Off,
    /// Grids of half as many workgroups as a litmus finds to run side by side when the device is opened, which takes some milliseconds.
    Litmus,
    /// Grids of up to so many workgroups, without a litmus; for tests.
    Assume(u32),
}

/// Choice of a GPU and of options to open it with.
///
/// ```
/// use wgpu_lstm::{GpuOptions, Software};
/// let options = GpuOptions { adapter: Some("radeon".into()), software: Software::Fallback, ..GpuOptions::default() };
/// ```
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// Only this graphics interface; by default all that the platform has (or `WGPU_BACKEND` names).
    pub backend: Option<Backend>,
    /// Part of the adapter's name, in any case of letters.
    pub adapter: Option<String>,
    /// Choice of software adapters.
    pub software: Software,
    /// Plan as if the device could bind no more bytes than this; for tests of how time is split.
    pub max_binding_bytes: Option<u64>,
    /// Strategy of the recurrence; `None`: chosen by size.
    pub strategy: Option<Strategy>,
    /// Leave to run many time steps in one dispatch whose workgroups wait for each other.
    pub grid: Grid,
    /// Plan as for an adapter of this kind, for tests of the kernels for hardware on a software adapter.
    pub schedule_as: Option<AdapterKind>,
    /// Form in which time steps read the recurrent weights: fewer bytes in every step, for less accuracy.
    pub step_weights: StepWeights,
    /// Use of matrix units for large products of forward passes: less time, for less accuracy.
    pub matrices: Matrices,
    /// Compile kernels with wgpu's checks of every index and loop, which cost time. Without them nothing is left unproven:
    /// a plan's commands are held against its buffers before it runs. For work on a kernel. Plans that the scheduler did not
    /// make always run with these checks ([`Plan::is_trusted`](crate::plan::Plan::is_trusted)).
    pub checked_shaders: bool,
    /// Choice of launches of recurrent layers and of large products.
    pub tuning: Tuning,
    /// Time for measuring a pass of a layer, forward or backward, or a product; 2 seconds by default. The launch that is being measured when it ends is
    /// the last; the model's choice is always measured.
    pub tuning_budget: Option<Duration>,
    /// Folder of the files that keep what was measured, one for each adapter, driver and version; by default `tuning` in this
    /// crate's folder among those that the platform has for caches (`~/.cache/wgpu-lstm` on Linux). A file that is broken is left out
    /// and replaced.
    pub tuning_folder: Option<PathBuf>,
}

/// An adapter as found.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// Name given by the driver.
    pub name: String,
    /// Its type.
    pub kind: AdapterKind,
    /// Graphics interface.
    pub backend: Backend,
    /// Driver and its version.
    pub driver: String,
    /// Largest buffer that a kernel can bind, in bytes.
    pub max_binding_bytes: u64,
    /// Storage buffers that a kernel can bind.
    pub max_storage_buffers: u32,
    /// Threads of a workgroup.
    pub max_workgroup_threads: u32,
    /// Memory of a workgroup, in bytes.
    pub max_workgroup_bytes: u32,
    /// Cooperative matrices that [`Matrices::Cooperative`] can use, if it has some.
    pub cooperative: Option<CooperativeMatrices>,
    /// Why the crate cannot use it, if so.
    pub refused: Option<String>,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {}", self.name, self.kind, self.backend)?;
        if !self.driver.is_empty() {
            write!(f, ", driver {}", self.driver)?;
        }
        write!(f, ")")
    }
}

/// Limits that the kernels need of a device: all adapters with WebGPU's default limits have them.
const NEEDS: [(&str, u32); 4] = [
    ("storage buffers a kernel", 7),
    ("threads a workgroup", 256),
    ("bytes of workgroup memory", 8320),
    ("dynamic uniform buffers a kernel", 1),
];

fn refusal(limits: &wgpu::Limits) -> Option<String> {
    let have = [
        limits.max_storage_buffers_per_shader_stage,
        limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x),
        limits.max_compute_workgroup_storage_size,
        limits.max_dynamic_uniform_buffers_per_pipeline_layout,
    ];
    (NEEDS.iter().zip(have)).find(|((_, need), have)| have < need).map(|((what, need), have)| {
        format!("it offers {have} {what}, the kernels need {need}; update its driver, choose another adapter or use Device::cpu()")
    })
}

fn describe(adapter: &wgpu::Adapter) -> Adapter {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
        wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
        wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
        wgpu::DeviceType::Cpu => AdapterKind::Software,
        wgpu::DeviceType::Other => AdapterKind::Unknown,
    };
    let backend = match info.backend {
        wgpu::Backend::Vulkan => Backend::Vulkan,
        wgpu::Backend::Metal => Backend::Metal,
        wgpu::Backend::Dx12 => Backend::Dx12,
        wgpu::Backend::BrowserWebGpu => Backend::WebGpu,
        _ => Backend::Other,
    };
    Adapter {
        name: info.name,
        kind,
        backend,
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        max_binding_bytes: binding_bytes(&limits),
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
        max_workgroup_threads: limits.max_compute_invocations_per_workgroup,
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        cooperative: cooperative(adapter, info.subgroup_max_size, &limits),
        refused: refusal(&limits),
    }
}

/// Features of wgpu for cooperative matrices of f16: `coop_mat` itself, f16, and the number of a thread's subgroup.
pub(super) const COOPERATIVE: wgpu::Features =
    wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(wgpu::Features::SHADER_F16).union(wgpu::Features::SUBGROUP);

/// The cooperative matrices that the kernels can use, the larger ones if there are two sizes.
fn cooperative(adapter: &wgpu::Adapter, subgroup_threads: u32, limits: &wgpu::Limits) -> Option<CooperativeMatrices> {
    use wgpu::CooperativeScalarType::{F16, F32};
    if !adapter.features().contains(COOPERATIVE) {
        return None;
    }
    let all = adapter.cooperative_matrix_properties();
    let has = |side: u32| {
        let square = |of: &wgpu::CooperativeMatrixProperties| [of.m_size, of.n_size, of.k_size] == [side; 3];
        all.iter().any(|of| square(of) && (of.ab_type, of.cr_type) == (F16, F32))
    };
    let side = [16, 8].into_iter().find(|&side| has(side))?;
    // A workgroup is four subgroups, with two tiles of f16 and a matrix of each of four, or of up to eight.
    let any = Matmul::plain(4, 4, 4);
    let (threads, bytes) = match side {
        16 => (any.cooperative_16(subgroup_threads)?.threads, 2 * 2 * 2560 + 4 * 4 * side * side),
        _ => (any.cooperative_8(subgroup_threads)?.threads, 2 * 2 * 5120 + 8 * 4 * side * side),
    };
    let fits = threads <= limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x)
        && bytes <= limits.max_compute_workgroup_storage_size;
    fits.then_some(CooperativeMatrices { side, subgroup_threads })
}

pub(super) fn binding_bytes(limits: &wgpu::Limits) -> u64 {
    limits.max_storage_buffer_binding_size.min(limits.max_buffer_size)
}

/// All adapters, best first. A driver that fails while it is asked shows none.
async fn enumerate(options: &GpuOptions) -> Vec<(Guarded<wgpu::Adapter>, Adapter)> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    if let Some(backend) = options.backend {
        descriptor.backends = match backend {
            Backend::Vulkan => wgpu::Backends::VULKAN,
            Backend::Metal => wgpu::Backends::METAL,
            Backend::Dx12 => wgpu::Backends::DX12,
            Backend::WebGpu => wgpu::Backends::BROWSER_WEBGPU,
            Backend::Other => wgpu::Backends::all(),
        };
    }
    let backends = descriptor.backends;
    let adapters = guarded_future(async move {
        let adapters = wgpu::Instance::new(descriptor).enumerate_adapters(backends).await;
        adapters.into_iter().map(|adapter| (describe(&adapter), Guarded::new(adapter))).collect::<Vec<_>>()
    });
    let mut found: Vec<_> = match adapters.await {
        Ok(adapters) => adapters.into_iter().map(|(description, adapter)| (adapter, description)).collect(),
        Err(message) => {
            log::error!("a driver failed while its adapters were listed: {message}");
            Vec::new()
        }
    };
    // Stable: drivers list their preferred adapter first.
    found.sort_by_key(|(_, adapter)| adapter.kind);
    found
}

/// All adapters of the machine, best first.
///
/// ```
/// for adapter in pollster::block_on(wgpu_lstm::adapters()) {
///     println!("{adapter}");
/// }
/// ```
pub async fn adapters() -> Vec<Adapter> {
    enumerate(&GpuOptions::default()).await.into_iter().map(|(_, adapter)| adapter).collect()
}

/// The best adapter that the options allow.
pub(super) async fn choose(options: &GpuOptions) -> Result<(Guarded<wgpu::Adapter>, Adapter)> {
    let found = enumerate(options).await;
    let list: Vec<Adapter> = found.iter().map(|(_, adapter)| adapter.clone()).collect();
    let index = pick(&list, options)?;
    // `pick` returns an index into the list it was given.
    Ok(found.into_iter().nth(index).expect("an index into the list"))
}

/// The choice itself, apart from wgpu so that it can be tested.
fn pick(list: &[Adapter], options: &GpuOptions) -> Result<usize> {
    let named = |adapter: &Adapter| match &options.adapter {
        Some(part) => adapter.name.to_lowercase().contains(&part.to_lowercase()),
        None => true,
    };
    let allowed = |adapter: &Adapter| match options.software {
        Software::Never => adapter.kind != AdapterKind::Software,
        Software::Fallback => true,
        Software::Only => adapter.kind == AdapterKind::Software,
    };
    let names = || match list {
        [] => "there is none".to_string(),
        list => format!("there is {}", list.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    };
    let candidates: Vec<usize> = (0..list.len()).filter(|&k| named(&list[k])).collect();
    if candidates.is_empty() {
        let looked = match (&options.adapter, options.backend) {
            (Some(name), _) => format!("no adapter's name contains \"{name}\""),
            (None, Some(backend)) => format!("the {backend} backend shows no adapter"),
            (None, None) => "no backend shows an adapter".into(),
        };
        return Err(Error::NoAdapter {
            reason: format!("{looked} ({})", names()),
            advice:
                "install a Vulkan, Metal or DX12 driver (on Debian or Ubuntu mesa-vulkan-drivers has a software one), \
                     choose one that exists, or use Device::cpu()"
                    .into(),
        });
    }
    let Some(&best) = candidates.iter().find(|&&k| allowed(&list[k])) else {
        return Err(Error::NoAdapter {
            reason: format!("the request {} ({})", if options.software == Software::Only { "wants a software adapter" } else { "excludes software adapters" }, names()),
            advice: "set GpuOptions::software to Software::Fallback, or use Device::cpu(), which is faster than a software adapter".into(),
        });
    };
    match candidates.iter().find(|&&k| allowed(&list[k]) && list[k].refused.is_none()) {
        Some(&usable) => Ok(usable),
        None => Err(Error::DeviceRefused {
            adapter: list[best].name.clone(),
            reason: list[best].refused.clone().unwrap_or_default(),
            cause: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, kind: AdapterKind) -> Adapter {
        Adapter {
            name: name.into(),
            kind,
            backend: Backend::Vulkan,
            driver: String::new(),
            max_binding_bytes: 128 << 20,
            max_storage_buffers: 8,
            max_workgroup_threads: 256,
            max_workgroup_bytes: 16384,
            cooperative: None,
            refused: None,
        }
    }

    #[test]
    fn hardware_first_and_software_only_on_request() {
        let list = [adapter("Radeon", AdapterKind::Discrete), adapter("llvmpipe", AdapterKind::Software)];
        let with = |software, name: Option<&str>| {
            pick(&list, &GpuOptions { software, adapter: name.map(Into::into), ..GpuOptions::default() })
        };
        assert_eq!(with(Software::Never, None).unwrap(), 0);
        assert_eq!(with(Software::Fallback, None).unwrap(), 0);
        assert_eq!(with(Software::Only, None).unwrap(), 1);
        assert_eq!(with(Software::Fallback, Some("LLVM")).unwrap(), 1);
        let error = with(Software::Never, Some("llvm")).unwrap_err().to_string();
        assert!(error.contains("excludes software adapters") && error.contains("Software::Fallback"), "{error}");
        let error = with(Software::Never, Some("voodoo")).unwrap_err().to_string();
        assert!(error.contains("\"voodoo\"") && error.contains("Radeon"), "{error}");
        assert!(pick(&[], &GpuOptions::default()).unwrap_err().to_string().contains("there is none"));
    }

    #[test]
    fn small_limits_are_refused_with_advice() {
        assert_eq!(refusal(&wgpu::Limits::default()), None);
        let small = refusal(&wgpu::Limits::downlevel_defaults()).unwrap();
        assert!(
            small.contains("4 storage buffers") && small.contains("need 7") && small.contains("Device::cpu()"),
            "{small}"
        );
        let mut list = [adapter("Old", AdapterKind::Integrated)];
        list[0].refused = Some(small);
        assert!(matches!(pick(&list, &GpuOptions::default()), Err(Error::DeviceRefused { .. })));
    }
}
