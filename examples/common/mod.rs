//! Parts that examples share: the choice of a device, and printing.

#[allow(dead_code)] // each example uses its own part
mod output;

#[allow(unused_imports)]
pub use output::{Output, arguments};
#[allow(unused_imports)]
pub(crate) use output::{note, say};

use wgpu_lstm::{AdapterKind, Capabilities, Device, GpuOptions, Result, Sequential, Software, StepWeights};

/// Device to run on.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum DeviceName {
    /// The best hardware GPU, else the CPU; the faster of the two where a model is trained
    Auto,
    /// A GPU; a software adapter where there is no other
    Gpu,
    /// A software adapter
    Software,
    /// A software adapter with the kernels for hardware, to try these
    AsHardware,
    /// The CPU executor
    Cpu,
}

impl DeviceName {
    /// Opens it.
    #[allow(dead_code)] // each example uses its own part
    pub fn open(self) -> Result<Device> {
        self.open_with(GpuOptions::default())
    }

    /// Opens it to train a model on batches of B sequences of T steps; `auto` is the faster one by a step on each.
    #[allow(dead_code)] // each example uses its own part
    pub fn open_for_training(self, layers: &Sequential, batch: usize, steps: usize) -> Result<Device> {
        match self {
            DeviceName::Auto => Device::fastest_for_training(layers, batch, steps),
            other => other.open(),
        }
    }

    /// Opens it under further options; the CPU executor takes the strategy of them.
    pub fn open_with(self, options: GpuOptions) -> Result<Device> {
        let strategy = options.strategy;
        let cpu = || Device::cpu_with(Capabilities { strategy, ..Device::cpu().capabilities().clone() });
        match self {
            DeviceName::Auto => Device::gpu(&options).or_else(|reason| {
                log::info!("using the CPU executor: {reason}");
                Ok(cpu())
            }),
            DeviceName::Gpu => Device::gpu(&GpuOptions { software: Software::Fallback, ..options }),
            DeviceName::Software => Device::gpu(&GpuOptions { software: Software::Only, ..options }),
            DeviceName::AsHardware => {
                let schedule_as = Some(AdapterKind::Discrete);
                Device::gpu(&GpuOptions { software: Software::Only, schedule_as, ..options })
            }
            DeviceName::Cpu => Ok(cpu()),
        }
    }
}

/// Form in which the steps of a GPU read recurrent weights.
#[allow(dead_code)] // each example uses its own part
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub enum Weights {
    /// As they are
    #[default]
    F32,
    /// Half the bytes
    F16,
    /// A quarter of the bytes, in inference
    Int8,
}

#[allow(dead_code)] // each example uses its own part
impl Weights {
    /// Options of a GPU that reads them so.
    pub fn options(self) -> GpuOptions {
        let step_weights = match self {
            Weights::F32 => StepWeights::F32,
            Weights::F16 => StepWeights::F16,
            Weights::Int8 => StepWeights::Int8,
        };
        GpuOptions { step_weights, ..GpuOptions::default() }
    }
}
