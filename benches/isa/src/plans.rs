//! Plans of the crate, and the WGSL, SPIR-V and HLSL of their pipelines.

use crate::index::{self, Pipeline, Use};
use crate::translate::Shader;
use anyhow::{Context, Result, bail};
use naga::back::hlsl::ShaderModel;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use wgpu_lstm::cell::{CELLS, CellSpec};
use wgpu_lstm::kernel::{Access, Call, KERNELS, Kernel, Scalar};
use wgpu_lstm::network::{Batch, Node, Purpose, network};
use wgpu_lstm::plan::Plan;
use wgpu_lstm::{Capabilities, Loss, Lstm, Optimiser, StepWeights, Strategy, Update};

#[derive(clap::Args)]
pub struct Options {
    /// Sizes such as T=128,B=32,I=256,H=256,L=1,D=1; several may be given
    #[arg(long)]
    case: Vec<Case>,
    /// Adds every kernel with every cell and with constants that reach each branch, for layers of so many hidden units (30 and
    /// 64 reach the branches for multiples of 4 and for others): for checking translations
    #[arg(long)]
    every: Vec<u32>,
    /// Strategy of the recurrence, instead of the choice by size: per-step, whole-sequence or grid
    #[arg(long, value_parser = strategy)]
    strategy: Option<Strategy>,
    /// Recurrent weights in f16
    #[arg(long)]
    half: bool,
    /// Threads that keep the device busy, as the scheduler believes; default: a GPU's
    #[arg(long, default_value_t = 1 << 16)]
    busy_threads: u64,
    /// Threads of a workgroup; default: what cards have
    #[arg(long, default_value_t = 1024)]
    workgroup_threads: u32,
    /// Memory of a workgroup, in bytes; default: what all cards have
    #[arg(long, default_value_t = 32 << 10)]
    workgroup_bytes: u32,
    /// Keeps wgpu's checks of every index and loop
    #[arg(long)]
    checked: bool,
    /// Folder to write
    #[arg(long)]
    out: PathBuf,
}

fn strategy(name: &str) -> Result<Strategy, String> {
    let found = Strategy::ALL.into_iter().chain([Strategy::Grid]).find(|strategy| strategy.name() == name);
    found.ok_or_else(|| "no such strategy; there are per-step, whole-sequence and grid".into())
}

/// Sizes of a plain LSTM.
#[derive(Clone, Copy, Debug)]
struct Case {
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    layers: usize,
    directions: usize,
}

impl FromStr for Case {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Case> {
        let mut case = Case { steps: 0, batch: 0, input: 0, hidden: 0, layers: 1, directions: 1 };
        for part in text.split(',') {
            let (name, value) = part.split_once('=').with_context(|| format!("{part} is not NAME=NUMBER"))?;
            let field = match name {
                "T" => &mut case.steps,
                "B" => &mut case.batch,
                "I" => &mut case.input,
                "H" => &mut case.hidden,
                "L" => &mut case.layers,
                "D" => &mut case.directions,
                _ => bail!("{name} is none of T, B, I, H, L, D"),
            };
            *field = value.parse().with_context(|| format!("{part} is not NAME=NUMBER"))?;
        }
        if [case.steps, case.batch, case.input, case.hidden].contains(&0) {
            bail!("T, B, I and H must be given");
        }
        Ok(case)
    }
}

impl Case {
    fn name(&self, training: bool) -> String {
        let Case { steps, batch, input, hidden, layers, directions } = self;
        let mode = if training { "train" } else { "forward" };
        format!("{mode} T={steps} B={batch} I={input} H={hidden} L={layers} D={directions}")
    }

    fn plan(&self, training: bool, capabilities: &Capabilities) -> Result<Plan> {
        let lstm =
            Lstm::new(self.hidden).layers(self.layers).bidirectional(self.directions == 2).return_sequences(true);
        let nodes = [Node::new("lstm", self.input, lstm)];
        let (loss, update) = (Loss::MeanSquaredError.into(), Update::new(Optimiser::adam(1e-3)));
        let purpose =
            if training { Purpose::Train { loss: &loss, update: &update, weighted: false } } else { Purpose::Predict };
        Ok(network(&nodes[..], Batch::new(self.batch, self.steps), purpose, capabilities)?.plan)
    }
}

/// Capabilities as `gpu/context.rs` sets them for a GPU whose driver binds 2 GiB.
fn capabilities(options: &Options) -> Capabilities {
    Capabilities {
        max_binding_bytes: (2 << 30) - 4,
        busy_threads: options.busy_threads,
        workgroup_threads: options.workgroup_threads,
        workgroup_bytes: options.workgroup_bytes,
        strategy: options.strategy,
        // As on a card with some 128 compute units
        grid_workgroups: if options.strategy == Some(Strategy::Grid) { 128 } else { 0 },
        step_weights: if options.half { StepWeights::F16 } else { StepWeights::F32 },
        ..Capabilities::default()
    }
}

pub fn run(options: &Options) -> Result<()> {
    std::fs::create_dir_all(options.out.join("wgsl"))?;
    let capabilities = capabilities(options);
    let mut pipelines: Vec<Pipeline> = Vec::new();
    for case in &options.case {
        for training in [false, true] {
            let name = case.name(training);
            let plan = case.plan(training, &capabilities).with_context(|| name.clone())?;
            let file = format!("{}.plan.txt", name.replace(' ', "_").replace('=', ""));
            std::fs::write(options.out.join(file), plan.to_string())?;
            for command in &plan.commands {
                add(&mut pipelines, &name, &command.call, options)?;
            }
        }
    }
    for &hidden in &options.every {
        for &kernel in KERNELS {
            if !kernel.enables.is_empty() {
                // Not every device has what they enable, and DXC's language does not: `wgsl` compiles them one by one.
                let path = options.out.join(format!("wgsl/{}.wgsl", kernel.name));
                std::fs::write(path, kernel.source(None))?;
                continue;
            }
            let cells: Vec<Option<&'static CellSpec>> =
                if kernel.takes_cell { CELLS.iter().map(Some).collect() } else { vec![None] };
            for (index, cell) in cells.into_iter().enumerate() {
                for constants in variants(kernel, hidden, index == 0) {
                    let file = file_name(kernel, cell, &constants);
                    if !pipelines.iter().any(|known| known.file == file) {
                        pipelines.push(pipeline(kernel, cell, &constants, options)?);
                    }
                }
            }
        }
    }
    index::write(&options.out, &pipelines)?;
    println!("{} pipelines in {}", pipelines.len(), options.out.display());
    Ok(())
}

/// Counts a call, and writes its pipeline's files if they are not yet there.
fn add(pipelines: &mut Vec<Pipeline>, plan: &str, call: &Call, options: &Options) -> Result<()> {
    let file = file_name(call.kernel, call.cell, &call.constants);
    let at = match pipelines.iter().position(|known| known.file == file) {
        Some(at) => at,
        None => {
            pipelines.push(pipeline(call.kernel, call.cell, &call.constants, options)?);
            pipelines.len() - 1
        }
    };
    let (groups, flops) = (call.groups(), call.flops());
    let uses = &mut pipelines[at].uses;
    match uses.iter_mut().find(|known| known.plan == plan && known.groups == groups && known.flops == flops) {
        Some(known) => known.calls += 1,
        None => {
            let params = (call.kernel.params.iter().zip(&call.params))
                .map(|(&(name, scalar), &word)| {
                    let value = if scalar == Scalar::I32 { word as i32 as i64 } else { word as i64 };
                    (name.to_string(), value)
                })
                .collect();
            uses.push(Use { plan: plan.into(), calls: 1, groups, flops, params });
        }
    }
    Ok(())
}

/// Writes a pipeline's WGSL, SPIR-V and HLSL.
fn pipeline(
    kernel: &'static Kernel,
    cell: Option<&'static CellSpec>,
    constants: &[u32],
    options: &Options,
) -> Result<Pipeline> {
    let file = file_name(kernel, cell, constants);
    let source = kernel.source(cell);
    let values =
        kernel.constants.iter().zip(constants).map(|(name, &value)| (name.to_string(), value as f64)).collect();
    let shader = Shader::new(&source, &values).with_context(|| file.clone())?;
    let written: Vec<bool> = kernel.bindings.iter().map(|binding| binding.access == Access::ReadWrite).collect();
    std::fs::write(options.out.join(format!("{file}.spv")), shader.spirv(options.checked)?)?;
    for (extension, model) in [("hlsl", ShaderModel::V6_0), ("fxc.hlsl", ShaderModel::V5_1)] {
        let text = shader.hlsl(model, &written, options.checked)?;
        std::fs::write(options.out.join(format!("{file}.{extension}")), text)?;
    }
    std::fs::write(options.out.join(format!("wgsl/{}.wgsl", file_name(kernel, cell, &[]))), source)?;
    let constants: BTreeMap<String, u32> =
        kernel.constants.iter().zip(constants).map(|(name, &value)| (name.to_string(), value)).collect();
    let workgroup = if kernel.workgroup[0] == 0 { [constants["THREADS"], 1, 1] } else { kernel.workgroup };
    let (kernel, cell) = (kernel.name.into(), cell.map(|cell| cell.name.into()));
    Ok(Pipeline { file, kernel, cell, constants, workgroup, written, uses: Vec::new() })
}

fn file_name(kernel: &Kernel, cell: Option<&CellSpec>, constants: &[u32]) -> String {
    let cell = cell.map_or(String::new(), |cell| format!("-{}", cell.name));
    let constants: String = constants.iter().map(|value| format!("-{value}")).collect();
    format!("{}{cell}{constants}", kernel.name)
}

/// Values of a kernel's constants that reach every branch between them, without a plan: all together, or else one constant at a time.
fn variants(kernel: &Kernel, hidden: u32, together: bool) -> Vec<Vec<u32>> {
    let (step, sequence) = (kernel.name.starts_with("step_"), kernel.name.starts_with("sequence_"));
    let grid = kernel.name.starts_with("grid_");
    let choices: Vec<Vec<u32>> = kernel
        .constants
        .iter()
        .map(|&name| match name {
            "UNITS" if step => vec![16],
            "UNITS" if sequence => vec![hidden.next_multiple_of(4)],
            "H" | "K" | "UNITS" => vec![hidden],
            "THREADS" if step || sequence => vec![4 * hidden.next_multiple_of(4)],
            "MEMORY" => vec![1024],
            "THREADS" => vec![64],
            "ROWS" if kernel.name == "matmul_registers" => vec![1, 4, 8],
            "ROWS" if kernel.name.starts_with("matmul_skinny") => vec![1, 2, 4, 8, 16],
            "ROWS" | "COLUMNS" if kernel.name == "matmul" => vec![64, 128],
            "DEPTH" => vec![16, 8],
            "SHARES" => vec![4, 32],
            "ROWS" if sequence => vec![1, 4],
            "ROWS" => vec![1, 8],
            "TERMS" if grid => vec![hidden],
            "TERMS" => vec![0, hidden],
            "SPAN" if grid => vec![1],
            "SPAN" if step || sequence => vec![if kernel.name.contains("backward") { 4 } else { 1 }],
            // The scheduler gives more only to multiples of 4.
            "SPAN" if !hidden.is_multiple_of(4) => vec![1],
            "SPAN" => vec![1, if kernel.name.starts_with("scan_backward") { 4 } else { 2 }],
            "CARRIES" => vec![0, 3],
            // σ for the gates, tanh for the others, as src/cell/settings.rs packs them
            "KINDS" => vec![0x03_03_02],
            "HEADS" => vec![1],
            "KIND" if kernel.name == "loss" => (0..10).collect(),
            "KIND" | "ACTIVATION" => (0..12).collect(),
            _ => vec![0, 1],
        })
        .collect();
    let all = combinations(&choices, together);
    // Tiles of a product are 64 × 64, 128 × 64 or 128 × 128, and threads with many rows share fewer terms.
    let of = |constants: &[u32], name| {
        kernel.constants.iter().position(|&known| known == name).map_or(0, |at| constants[at])
    };
    let holds = |constants: &Vec<u32>| match kernel.name {
        "matmul" => {
            let [rows, columns, depth] = ["ROWS", "COLUMNS", "DEPTH"].map(|name| of(constants, name));
            rows >= columns && depth == if columns == 128 { 8 } else { 16 }
        }
        "matmul_skinny" | "matmul_skinny_dense" => of(constants, "ROWS") * of(constants, "SHARES") <= 256,
        _ => true,
    };
    all.into_iter().filter(holds).collect()
}

/// All combinations of values, or else those that differ in one value from the last ones.
fn combinations(choices: &[Vec<u32>], together: bool) -> Vec<Vec<u32>> {
    if together {
        return choices.iter().fold(vec![Vec::new()], |all, values| {
            let with = |before: &Vec<u32>, value| [before.as_slice(), &[value]].concat();
            all.iter().flat_map(|before| values.iter().map(move |&value| with(before, value))).collect()
        });
    }
    let usual: Vec<u32> = choices.iter().map(|values| *values.last().expect("each constant has a value")).collect();
    let other = |(at, &value): (usize, &u32)| {
        let mut constants = usual.clone();
        constants[at] = value;
        constants
    };
    choices.iter().enumerate().flat_map(|(at, values)| values.iter().map(move |value| (at, value))).map(other).collect()
}
