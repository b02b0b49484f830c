//! Parts that examples share: the choice of a device, and printing.

#[allow(dead_code)] // each example uses its own part
mod output;

#[allow(unused_imports)]
pub use output::{Output, arguments};
#[allow(unused_imports)]
pub(crate) use output::{note, say};

use anyhow::{Result, bail};
use wgpu_lstm::{AdapterKind, CpuOptions, CpuWeights, Device, GpuOptions, Sequential, Software, StepWeights};

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
        self.open_with(GpuOptions::default(), Weights::F32)
    }

    /// Opens it to train a model on batches of B sequences of T steps; `auto` is the faster one by a step on each.
    #[allow(dead_code)] // each example uses its own part
    pub fn open_for_training(self, layers: &Sequential, batch: usize, steps: usize) -> Result<Device> {
        match self {
            DeviceName::Auto => Ok(Device::fastest_for_training(layers, batch, steps)?),
            other => other.open(),
        }
    }

    /// Opens it under further options, with recurrent weights in a form; the CPU executor takes the strategy of the options.
    pub fn open_with(self, options: GpuOptions, weights: Weights) -> Result<Device> {
        let cpu = CpuOptions { weights: weights.on_cpu(), strategy: options.strategy, ..CpuOptions::default() };
        let gpu = |options: GpuOptions| -> Result<Device> {
            Ok(Device::gpu(&GpuOptions { step_weights: weights.on_gpu()?, ..options })?)
        };
        match self {
            DeviceName::Auto => gpu(options).or_else(|reason| {
                log::info!("using the CPU executor: {reason}");
                Ok(Device::cpu_with_options(&cpu))
            }),
            DeviceName::Gpu => gpu(GpuOptions { software: Software::Fallback, ..options }),
            DeviceName::Software => gpu(GpuOptions { software: Software::Only, ..options }),
            DeviceName::AsHardware => {
                let schedule_as = Some(AdapterKind::Discrete);
                gpu(GpuOptions { software: Software::Only, schedule_as, ..options })
            }
            DeviceName::Cpu => Ok(Device::cpu_with_options(&cpu)),
        }
    }
}

/// Form of recurrent weights: on a GPU of those that steps read, on the CPU of those of whole layers in inference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Weights {
    /// As they are
    #[default]
    F32,
    /// Half the bytes
    F16,
    /// Half the bytes, on the CPU
    Bf16,
    /// A quarter of the bytes, in inference
    Int8,
}

impl Weights {
    /// Option of the CPU executor.
    fn on_cpu(self) -> CpuWeights {
        match self {
            Weights::F32 => CpuWeights::F32,
            Weights::F16 => CpuWeights::F16,
            Weights::Bf16 => CpuWeights::Bf16,
            Weights::Int8 => CpuWeights::Int8,
        }
    }

    /// Option of a GPU.
    fn on_gpu(self) -> Result<StepWeights> {
        Ok(match self {
            Weights::F32 => StepWeights::F32,
            Weights::F16 => StepWeights::F16,
            Weights::Bf16 => bail!("weights in bf16 are for the CPU (--device cpu); GPUs have f16 and int8"),
            Weights::Int8 => StepWeights::Int8,
        })
    }
}
