//! What the examples share: the choice of a device.

use wgpu_lstm::{Capabilities, Device, GpuOptions, Result, Software, Strategy};

/// Where to run.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum DeviceName {
    /// The best hardware GPU, else the CPU
    Auto,
    /// A GPU; a software adapter where there is no other
    Gpu,
    /// A software adapter
    Software,
    /// The CPU executor
    Cpu,
}

impl DeviceName {
    /// Opens it.
    #[allow(dead_code)] // each example uses its own part
    pub fn open(self) -> Result<Device> {
        self.open_with(None)
    }

    /// Opens it, with a strategy for the recurrence instead of its own choice.
    pub fn open_with(self, strategy: Option<Strategy>) -> Result<Device> {
        let cpu = || Device::cpu_with(Capabilities { strategy, ..Device::cpu().capabilities().clone() });
        match self {
            DeviceName::Auto => Device::gpu(&GpuOptions { strategy, ..GpuOptions::default() }).or_else(|reason| {
                log::info!("using the CPU executor: {reason}");
                Ok(cpu())
            }),
            DeviceName::Gpu => {
                Device::gpu(&GpuOptions { software: Software::Fallback, strategy, ..GpuOptions::default() })
            }
            DeviceName::Software => {
                Device::gpu(&GpuOptions { software: Software::Only, strategy, ..GpuOptions::default() })
            }
            DeviceName::Cpu => Ok(cpu()),
        }
    }
}
