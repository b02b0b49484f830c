//! Lists the GPU adapters with their drivers and limits, and says what would be used.
//!
//! ```text
//! cargo run --release --example adapters
//! cargo run --release --example adapters -- --device gpu
//! ```

mod common;

use anyhow::Result;
use clap::Parser;
use common::say;

#[derive(Parser)]
#[command(about = "Lists the GPU adapters and what --device would take")]
struct Arguments {
    /// Device to run on
    #[arg(long, value_enum, default_value_t = common::DeviceName::Auto)]
    device: common::DeviceName,
}

fn main() -> Result<()> {
    env_logger::init();
    let arguments: Arguments = common::arguments();
    let adapters = pollster::block_on(wgpu_lstm::adapters());
    if adapters.is_empty() {
        say!("no adapter; install a Vulkan, Metal or DX12 driver to use a GPU");
    }
    for (number, adapter) in adapters.iter().enumerate() {
        say!("{}. {}", number + 1, adapter.name);
        say!("   kind      {}", adapter.kind);
        say!("   backend   {}", adapter.backend);
        say!("   driver    {}", adapter.driver);
        say!("   binding   up to {} MiB", adapter.max_binding_bytes >> 20);
        say!("   buffers   {} a kernel", adapter.max_storage_buffers);
        say!("   workgroup {} threads, {} bytes", adapter.max_workgroup_threads, adapter.max_workgroup_bytes);
        match adapter.cooperative {
            Some(own) => say!("   features  cooperative matrices of {0} x {0}, by option", own.side),
            None => say!("   features  none beyond WebGPU's own are used"),
        }
        match &adapter.refused {
            Some(reason) => say!("   refused   {reason}"),
            None => say!("   usable    yes"),
        }
    }
    say!("\n--device {} takes: {}", format!("{:?}", arguments.device).to_lowercase(), arguments.device.open()?);
    Ok(())
}
