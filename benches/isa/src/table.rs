//! benches/results/isa.json: what is kept of the figures of several devices.

use crate::code::Piece;
use crate::index::Pipeline;
use crate::listing::{Figures, Row};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Options {
    /// A folder that `dump` wrote, in which `isa` compiled for one device or more
    folder: PathBuf,
    /// Devices, by the names that `isa` was given, in the order of the tables
    #[arg(long, required = true, num_args = 1..)]
    names: Vec<String>,
    /// File to write
    #[arg(long)]
    json: PathBuf,
}

/// The file.
#[derive(Serialize, Deserialize)]
pub struct Table {
    pub devices: Vec<Device>,
    pub pipelines: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
pub struct Device {
    pub name: String,
    pub device: String,
    pub driver: String,
    /// True if the device checks buffers' bounds, as wgpu asks for.
    pub robust: bool,
    /// Threads of a wave.
    pub wave: u32,
}

/// A pipeline on all devices.
#[derive(Serialize, Deserialize)]
pub struct Entry {
    pub kernel: String,
    pub cell: Option<String>,
    pub constants: BTreeMap<String, u32>,
    pub workgroup: [u32; 3],
    pub uses: Vec<Calls>,
    /// By name of the device.
    pub on: BTreeMap<String, Code>,
}

/// Calls of a pipeline in a plan.
#[derive(Serialize, Deserialize)]
pub struct Calls {
    pub plan: String,
    pub calls: u64,
    pub groups: [u64; 3],
    /// Floating point operations of a call.
    pub flops: u64,
}

/// The code of a pipeline on a device.
#[derive(Serialize, Deserialize)]
pub struct Code {
    /// Registers of a lane (AMD, NVIDIA), or the most live ones of a thread's 128 (Intel).
    pub registers: u32,
    /// Registers that went to memory, vector and scalar ones; `None` if the driver does not say (NVK).
    pub spilled: Option<u32>,
    /// Memory of a lane for spilled registers and arrays, in bytes.
    pub scratch_bytes: u32,
    /// Workgroup memory, in bytes; `None` if the driver does not say (NVK).
    pub workgroup_bytes: Option<u32>,
    /// Waves that fit a SIMD (AMD) or an SM (NVIDIA) by registers; by workgroup memory, too, for AMD.
    pub waves_resident: Option<u32>,
    /// Code size, in bytes.
    pub bytes: u32,
    pub instructions: u32,
    /// The inner loop: the loop, or the code outside loops, with the most multiply-adds if every loop has 8 iterations.
    pub inner: Inner,
}

#[derive(Serialize, Deserialize)]
pub struct Inner {
    /// Loops around the code: 0 if it is in none, 1 in an outermost loop.
    pub depth: u32,
    pub instructions: u32,
    pub fma: u32,
    /// Multiply-adds: fused ones, and pairs of a multiplication and an addition.
    pub macs: u32,
    /// Dual instructions.
    pub dual: u32,
    /// Loads by 1 to 4 dwords a lane, scalar loads by 1, 2, 4, 8 and 16 dwords a wave.
    pub loads: [u32; 4],
    pub scalar_loads: [u32; 5],
    /// Reads of workgroup memory by 1 to 4 dwords a lane.
    pub workgroup_reads: [u32; 4],
    /// The most loads from storage in flight at any time, in it or in a loop around it.
    pub loads_in_flight: u32,
    pub waits: u32,
    /// Waits that leave no load in flight.
    pub drains: u32,
}

impl Code {
    fn new(row: &Row) -> Code {
        let of = |names: &[&str]| {
            let found = names.iter().find_map(|&name| row.statistics.get(name));
            found.map(|&value| value as u32)
        };
        let registers = of(&["VGPRs", "Number of GPRs", "Max live registers"]);
        let nvidia = row.statistics.contains_key("Number of GPRs");
        // Turing's and Ampere's SM has 65,536 registers, given to a warp's 32 lanes by eights, and 32 or 48 warps at most;
        // the smaller of the two is said.
        let warps = |registers: u32| (65_536 / (32 * registers.next_multiple_of(8).max(8))).min(32);
        let weight = |(piece, depth): &(&Piece, u32)| piece.counts.macs() as u64 * 8u64.pow(*depth);
        let loops = row.loops.iter().map(|piece| (piece, piece.depth + 1));
        // Of equals, the last: the loop behind a peeled iteration.
        let inner = std::iter::once((&row.straight, 0)).chain(loops).max_by_key(weight).unwrap_or((&row.straight, 0));
        // A product loads its tiles in the loop around.
        let around = row.loops.iter().filter(|piece| piece.depth < inner.1).map(|piece| piece.loads_in_flight);
        let loads_in_flight = around.chain([inner.0.loads_in_flight]).max().unwrap_or(0);
        Code {
            registers: registers.unwrap_or(0),
            spilled: of(&["Spilled VGPRs", "Spill Count"]).map(|vector| vector + of(&["Spilled SGPRs"]).unwrap_or(0)),
            scratch_bytes: of(&["Scratch size", "Scratch Memory Size", "SLM Size"]).unwrap_or(0),
            workgroup_bytes: of(&["LDS size", "Workgroup Memory Size"]),
            waves_resident: of(&["Subgroups per SIMD"]).or_else(|| registers.filter(|_| nvidia).map(warps)),
            bytes: of(&["Code size", "Code Size"]).unwrap_or(0),
            instructions: row.whole.all,
            inner: Inner { loads_in_flight, ..Inner::new(inner.0, inner.1) },
        }
    }
}

impl Inner {
    fn new(piece: &Piece, depth: u32) -> Inner {
        let counts = &piece.counts;
        Inner {
            depth,
            instructions: counts.all,
            fma: counts.fma,
            macs: counts.macs(),
            dual: counts.dual,
            loads: counts.vector_loads,
            scalar_loads: counts.scalar_loads,
            workgroup_reads: counts.lds_reads,
            loads_in_flight: piece.loads_in_flight,
            waits: counts.waits,
            drains: counts.drains,
        }
    }

    /// Multiply-adds for each instruction, in percent.
    pub fn fma_percent(&self) -> f64 {
        100.0 * self.fma as f64 / self.instructions.max(1) as f64
    }

    /// Bytes that a lane loads for each of its multiply-adds: from storage by vector loads, and from workgroup memory.
    pub fn bytes_per_mac(&self) -> [f64; 2] {
        [self.loads, self.workgroup_reads].map(|counts| {
            let dwords: u32 = counts.iter().zip(1..).map(|(count, dwords)| count * dwords).sum();
            4.0 * dwords as f64 / self.macs.max(1) as f64
        })
    }
}

impl Entry {
    fn new(pipeline: &Pipeline) -> Entry {
        let uses = pipeline.uses.iter().map(|used| Calls {
            plan: used.plan.clone(),
            calls: used.calls,
            groups: used.groups,
            flops: used.flops,
        });
        Entry {
            kernel: pipeline.kernel.clone(),
            cell: pipeline.cell.clone(),
            constants: pipeline.constants.clone(),
            workgroup: pipeline.workgroup,
            uses: uses.collect(),
            on: BTreeMap::new(),
        }
    }
}

pub fn run(options: &Options) -> Result<()> {
    let mut table = Table { devices: Vec::new(), pipelines: Vec::new() };
    for name in &options.names {
        let path = options.folder.join(name).join("figures.json");
        let file = std::fs::File::open(&path).with_context(|| format!("reading {}", path.display()))?;
        let figures: Figures = serde_json::from_reader(std::io::BufReader::new(file))?;
        let wave = figures.rows.iter().map(|row| row.subgroup).max().unwrap_or(0);
        for row in &figures.rows {
            let entry = Entry::new(&row.pipeline);
            let same = |known: &Entry| known.kernel == entry.kernel && known.constants == entry.constants;
            let at = table.pipelines.iter().position(same).unwrap_or_else(|| {
                table.pipelines.push(entry);
                table.pipelines.len() - 1
            });
            table.pipelines[at].on.insert(name.clone(), Code::new(row));
        }
        let Figures { name, device, driver, robust, .. } = figures;
        table.devices.push(Device { name, device, driver, robust, wave });
    }
    ensure!(!table.pipelines.is_empty(), "no figures");
    // A line for each device and each pipeline, so that a change is seen as such.
    let mut file = std::io::BufWriter::new(std::fs::File::create(&options.json)?);
    let lines = |of: Vec<String>| of.join(",\n    ");
    let devices = table.devices.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    let pipelines = table.pipelines.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    writeln!(
        file,
        "{{\n  \"devices\": [\n    {}\n  ],\n  \"pipelines\": [\n    {}\n  ]\n}}",
        lines(devices),
        lines(pipelines)
    )?;
    file.flush()?;
    Ok(())
}

pub fn read(path: &Path) -> Result<Table> {
    let file = std::fs::File::open(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_reader(std::io::BufReader::new(file)).with_context(|| format!("reading {}", path.display()))
}
