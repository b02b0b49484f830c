//! A dump's pipelines compiled on the Vulkan device that there is: a table, listings and a file of figures.

use crate::code::{self, Counts, Piece};
use crate::index::{self, Pipeline};
use crate::translate::Shader;
use crate::vulkan::Compiler;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Options {
    /// A folder that `dump` wrote
    folder: PathBuf,
    /// Name of the folder in it for what is written
    #[arg(long)]
    name: String,
    /// Only kernels whose name begins so
    #[arg(long, default_value = "")]
    kernel: String,
    /// Keeps the driver's intermediate code beside the machine code
    #[arg(long)]
    representations: bool,
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
}

/// What became of a pipeline.
#[derive(Serialize)]
struct Row {
    pipeline: Pipeline,
    subgroup: u32,
    statistics: BTreeMap<String, f64>,
    whole: Counts,
    loops: Vec<Piece>,
}

pub fn run(options: &Options) -> Result<()> {
    let compiler = Compiler::open()?;
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
        let listing = compiled.code()?;
        std::fs::write(out.join(format!("{}.s", pipeline.file)), listing)?;
        if options.representations {
            for (name, text) in &compiled.texts {
                let name: String = name.chars().filter(|letter| letter.is_alphanumeric()).collect();
                std::fs::write(out.join(format!("{}.{name}.txt", pipeline.file)), text)?;
            }
        }
        rows.push(Row {
            subgroup: compiled.subgroup,
            statistics: compiled.statistics.iter().cloned().collect(),
            whole: code::whole(listing),
            loops: code::loops(listing),
            pipeline,
        });
    }
    ensure!(!rows.is_empty(), "no pipeline of that name in {}", options.folder.display());
    for row in &rows {
        print(row);
    }
    let file = std::fs::File::create(out.join("figures.json"))?;
    serde_json::to_writer_pretty(std::io::BufWriter::new(file), &rows)?;
    Ok(())
}

/// A single shader.
pub fn one(options: &One) -> Result<()> {
    let compiler = Compiler::open()?;
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
    let listing = compiled.code()?;
    print_figures(compiled.subgroup, &compiled.statistics, &code::whole(listing), &code::loops(listing));
    if let Some(out) = &options.out {
        std::fs::write(out, listing)?;
    }
    Ok(())
}

fn print(row: &Row) {
    let Row { pipeline, subgroup, statistics, whole, loops } = row;
    println!("\n{} {}", pipeline.kernel, pipeline.constants());
    let statistics: Vec<_> = statistics.iter().map(|(name, value)| (name.clone(), *value)).collect();
    print_figures(*subgroup, &statistics, whole, loops);
    for used in &pipeline.uses {
        let [x, y, z] = used.groups;
        let threads = x * y * z * pipeline.workgroup.iter().map(|&size| size as u64).product::<u64>();
        println!(
            "  {} calls in {}: {x}x{y}x{z} workgroups, {threads} threads, {:.3} MFLOP each",
            used.calls,
            used.plan,
            used.flops as f64 / 1e6
        );
    }
}

fn print_figures(subgroup: u32, statistics: &[(String, f64)], whole: &Counts, loops: &[Piece]) {
    let figures: Vec<String> = statistics
        .iter()
        .filter(|(name, _)| !name.to_lowercase().contains("hash"))
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    println!("  wave{subgroup}; {}", figures.join(", "));
    println!("  {} instructions, {} fma in all", whole.all, whole.fma);
    for one in loops {
        println!("  loop {one}");
    }
}
