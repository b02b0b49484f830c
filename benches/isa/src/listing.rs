//! Pipelines compiled on the first Vulkan device: listings and their figures.

use crate::code::{self, Counts, Piece};
use crate::index::{self, Pipeline};
use crate::translate::Shader;
use crate::vulkan::{Compiled, Compiler};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Options {
    /// A folder that `dump` wrote
    folder: PathBuf,
    /// Name of the device, and of the folder in it for listings and figures.json
    #[arg(long)]
    name: String,
    /// Only kernels whose name begins so
    #[arg(long, default_value = "")]
    kernel: String,
    /// Keeps the driver's intermediate code beside the machine code
    #[arg(long)]
    representations: bool,
    /// Opens the device without robust buffer access, which wgpu always asks for: NVK checks every load by instructions of its own
    #[arg(long)]
    without_robustness: bool,
}

#[derive(clap::Args)]
pub struct One {
    /// A complete shader, such as `dump` leaves in its folder wgsl
    file: PathBuf,
    /// Values of its `override` constants, NAME=NUMBER
    #[arg(long = "set")]
    values: Vec<String>,
    /// File for the machine code
    #[arg(long)]
    out: Option<PathBuf>,
    /// File for the SPIR-V
    #[arg(long)]
    spirv: Option<PathBuf>,
    /// Keeps wgpu's checks of every index and loop
    #[arg(long)]
    checked: bool,
    /// Opens the device without robust buffer access
    #[arg(long)]
    without_robustness: bool,
}

/// figures.json: a dump's pipelines on one device.
#[derive(Serialize, Deserialize)]
pub struct Figures {
    pub name: String,
    pub device: String,
    pub driver: String,
    /// True if the device checks buffers' bounds, as wgpu asks for.
    pub robust: bool,
    pub rows: Vec<Row>,
}

/// A pipeline as the driver compiled it.
#[derive(Serialize, Deserialize)]
pub struct Row {
    pub pipeline: Pipeline,
    /// Threads of a wave.
    pub subgroup: u32,
    /// The driver's own figures by the driver's own names.
    pub statistics: BTreeMap<String, f64>,
    /// The whole listing.
    pub whole: Counts,
    /// Code outside all loops.
    pub straight: Piece,
    pub loops: Vec<Piece>,
}

impl Row {
    fn new(pipeline: Pipeline, compiled: &Compiled) -> Result<Row> {
        let listing = compiled.code()?;
        Ok(Row {
            subgroup: compiled.subgroup,
            statistics: compiled.statistics.iter().cloned().collect(),
            whole: code::whole(listing),
            straight: code::straight(listing).context("the driver's listing is empty")?,
            loops: code::loops(listing),
            pipeline,
        })
    }

    fn print(&self) {
        let figures: Vec<String> = (self.statistics.iter())
            .filter(|(name, _)| !name.to_lowercase().contains("hash"))
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        println!("  wave{}; {}", self.subgroup, figures.join(", "));
        println!("  {} instructions, {} fma in all", self.whole.all, self.whole.fma);
        println!("  straight {}", self.straight);
        self.loops.iter().for_each(|one| println!("  loop {one}"));
        for used in &self.pipeline.uses {
            let ([x, y, z], waves) = (used.groups, self.pipeline.waves(used, self.subgroup));
            let mflop = used.flops as f64 / 1e6;
            println!(
                "  {} calls in {}: {x}x{y}x{z} workgroups, {waves} waves, {mflop:.3} MFLOP each",
                used.calls, used.plan
            );
        }
    }
}

pub fn run(options: &Options) -> Result<()> {
    let compiler = Compiler::open(!options.without_robustness)?;
    println!("{}, {}", compiler.name, compiler.driver);
    let out = options.folder.join(&options.name);
    std::fs::create_dir_all(&out)?;
    let mut rows = Vec::new();
    for pipeline in index::read(&options.folder)? {
        if !pipeline.kernel.starts_with(&options.kernel) {
            continue;
        }
        let path = options.folder.join(format!("{}.spv", pipeline.file));
        let spirv = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let compiled = compiler.compile(&spirv, pipeline.written.len()).with_context(|| pipeline.file.clone())?;
        std::fs::write(out.join(format!("{}.s", pipeline.file)), compiled.code()?)?;
        if options.representations {
            for (name, text) in &compiled.texts {
                let name: String = name.chars().filter(|letter| letter.is_alphanumeric()).collect();
                std::fs::write(out.join(format!("{}.{name}.txt", pipeline.file)), text)?;
            }
        }
        rows.push(Row::new(pipeline, &compiled)?);
    }
    ensure!(!rows.is_empty(), "no pipeline of that name in {}", options.folder.display());
    for row in &rows {
        println!("\n{} {}", row.pipeline.kernel, row.pipeline.constants());
        row.print();
    }
    let Compiler { name: device, driver, .. } = &compiler;
    let (name, device, driver) = (options.name.clone(), device.clone(), driver.clone());
    let figures = Figures { name, device, driver, robust: !options.without_robustness, rows };
    let file = std::fs::File::create(out.join("figures.json"))?;
    serde_json::to_writer_pretty(std::io::BufWriter::new(file), &figures)?;
    Ok(())
}

/// A single shader.
pub fn one(options: &One) -> Result<()> {
    let compiler = Compiler::open(!options.without_robustness)?;
    println!("{}, {}", compiler.name, compiler.driver);
    let source = std::fs::read_to_string(&options.file)?;
    let mut values = naga::back::PipelineConstants::default();
    for text in &options.values {
        let (name, value) = text.split_once('=').with_context(|| format!("{text} is not NAME=NUMBER"))?;
        values.insert(name.into(), value.parse().with_context(|| text.clone())?);
    }
    let shader = Shader::new(&source, &values)?;
    let spirv = shader.spirv(options.checked)?;
    if let Some(out) = &options.spirv {
        std::fs::write(out, &spirv)?;
    }
    let compiled = compiler.compile(&spirv, shader.storage_buffers())?;
    Row::new(Pipeline::default(), &compiled)?.print();
    if let Some(out) = &options.out {
        std::fs::write(out, compiled.code()?)?;
    }
    Ok(())
}
