//! Machine code that real compilers make of wgpu-lstm's kernels, without the hardware. See README.md.

mod code;
mod dxil;
mod index;
mod listing;
mod page;
mod plans;
mod table;
mod translate;
mod vulkan;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Machine code that real compilers make of wgpu-lstm's kernels, without the hardware")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes the WGSL, SPIR-V and HLSL of every pipeline of some plans, and index.json
    Dump(plans::Options),
    /// Compiles the SPIR-V of a dump on the first Vulkan device, which may be null hardware, and analyses the machine code
    Isa(listing::Options),
    /// Compiles one WGSL file on that device, for trying out a change
    Wgsl(listing::One),
    /// Gathers the figures of several devices in one file, benches/results/isa.json
    Table(table::Options),
    /// Writes that file's tables, docs/kernels.md
    Page(page::Options),
    /// Compiles the HLSL of a dump by DXC
    Dxil(dxil::Options),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Dump(options) => plans::run(&options),
        Command::Isa(options) => listing::run(&options),
        Command::Wgsl(options) => listing::one(&options),
        Command::Table(options) => table::run(&options),
        Command::Page(options) => page::run(&options),
        Command::Dxil(options) => dxil::run(&options),
    }
}
