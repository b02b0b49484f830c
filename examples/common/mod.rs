//! What the examples share: the choice of a device.

use wgpu_lstm::{Device, GpuOptions, Result, Software};

/// Where to run.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum DeviceName {
    /// The best hardware GPU, else the CPU
    Auto,
    /// A GPU; a software adapter where there is no other
    Gpu,
    /// The CPU executor
    Cpu,
}

impl DeviceName {
    /// Opens it.
    pub fn open(self) -> Result<Device> {
        match self {
            DeviceName::Auto => Ok(Device::auto()),
            DeviceName::Gpu => Device::gpu(&GpuOptions { software: Software::Fallback, ..GpuOptions::default() }),
            DeviceName::Cpu => Ok(Device::cpu()),
        }
    }
}
