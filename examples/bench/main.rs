//! Times LSTM passes on a device, as rows for people and for programs.
//!
//! ```text
//! cargo run --release --example bench
//! cargo run --release --example bench -- --device gpu --mode train --case T=128,B=32,I=256,H=256 --json rows.json
//! cargo run --release --example bench -- --device gpu --sweep --mode train --case T=100,B=1,I=64,H=64 --json sweep.json
//! cargo run --release --example bench -- --device gpu --timeline --mode train --mode forward --case T=24,B=32,I=4,H=32 --json rows.json
//! cargo run --release --example bench -- --device cpu --variants --case T=96,B=32,I=64,H=64
//! cargo run --release --example bench -- --device cpu --partition 4,8,16,64
//! cargo run --release --example bench -- --device cpu --mode stream --neighbours 1 --callers 2 --case T=1,B=8,I=64,H=64
//! ```
//!
//! A forward pass is [`LstmLayer::forward_into`](wgpu_lstm::LstmLayer::forward_into), input and output copied as for any
//! caller. A training step is one step of [`Model::fit`](wgpu_lstm::Model::fit) from its second epoch on: forward, mean squared
//! error of all outputs, backward, Adam. A stream step is [`Stream::feed`](wgpu_lstm::Stream::feed).
//!
//! Beside the time of a pass stand that of the host alone, without its waits for the GPU, and that of the GPU by its own clock,
//! without copies. In a fit the host prepares steps while the GPU runs those before, so a step takes as long as the longer of the two.

mod cases;
#[path = "../common/mod.rs"]
mod common;
mod load;
mod measure;
mod partition;
mod sweep;
mod timeline;
mod variants;

use anyhow::{Context, Result, ensure};
use cases::{Case, Grid};
use clap::{Parser, ValueEnum};
use common::{DeviceName, Weights};
use common::{note, say};
use load::Load;
use measure::{Mode, Row};
use variants::Variant;
use wgpu_lstm::{Device, GpuOptions, Matrices, Strategy, Tuning};

#[derive(Parser)]
#[command(about = "Times LSTM passes on a device")]
struct Arguments {
    /// Device to run on
    #[arg(long, value_enum, default_value = "auto")]
    device: DeviceName,
    /// Operation to time; several may be given [default: forward]
    #[arg(long, value_enum)]
    mode: Vec<Mode>,
    /// Sizes such as T=128,B=32,I=256,H=256,L=1,D=1,dtype=f32 (f16, bf16, int8: form of the recurrent weights); several may be
    /// given [default: the grid]. variant=NAME times another layer than the plain LSTM
    #[arg(long)]
    case: Vec<Case>,
    /// Times every case with every variant that its sizes allow, the plain one first
    #[arg(long)]
    variants: bool,
    /// A list of sizes
    #[arg(long, value_enum, default_value = "small")]
    grid: Grid,
    /// Strategy of the recurrence, instead of the choice by size
    #[arg(long, value_parser = strategy)]
    strategy: Option<Strategy>,
    /// Lets layers run as grids, whose workgroups wait for each other, where the device holds enough of them side by side
    #[arg(long)]
    grids: bool,
    /// Measures launches before each case and takes the fastest, instead of the choice by the model of cost
    #[arg(long)]
    tuned: bool,
    /// Takes cooperative matrices for large products of forward passes, where the adapter has them
    #[arg(long)]
    cooperative: bool,
    /// Measures all launches of each case's recurrent layers and large products instead, and prints the model of cost beside them; with mode train
    /// the backward pass, too
    #[arg(long)]
    sweep: bool,
    /// Shows for each case instead how long the GPU had nothing to run in the steady state of a fit (mode train) or of a prediction of many
    /// batches (mode forward), and how far the host was ahead of it
    #[arg(long, conflicts_with = "sweep")]
    timeline: bool,
    /// Shows for each case instead how the CPU executor would deal it to these numbers of threads, and how much of their time they would be
    /// idle, by count of multiplications
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024), conflicts_with_all = ["sweep", "timeline"])]
    partition: Vec<u16>,
    /// Keeps wgpu's checks of every index and loop in the shaders
    #[arg(long)]
    checked_shaders: bool,
    /// Seconds for each row
    #[arg(long, default_value_t = 1.0)]
    budget: f64,
    /// Goes through all rows so many times and keeps the best of each, for a machine with neighbours
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Keeps so many processes busy beside it
    #[arg(long, default_value_t = 0)]
    neighbours: usize,
    /// Threads that time each case at the same time, with one model, in mode stream
    #[arg(long, default_value_t = 1)]
    callers: usize,
    /// Processes that time all cases at the same time, each with its own model; rows have the mean of their times
    #[arg(long, default_value_t = 1)]
    processes: usize,
    /// Marks the rows, to tell one build from another
    #[arg(long, default_value = "")]
    label: String,
    /// Does nothing but keep a processor busy
    #[arg(long, hide = true)]
    busy: bool,
    /// Form of the recurrent weights of all cases
    #[arg(long, value_enum)]
    step_weights: Option<Weights>,
    /// Prints the rows as lines of JSON instead of a table
    #[arg(long)]
    lines: bool,
    /// Writes the rows to a file
    #[arg(long)]
    json: Option<std::path::PathBuf>,
}

fn strategy(name: &str) -> Result<Strategy, String> {
    let mut all = Strategy::ALL.into_iter().chain([Strategy::Grid]);
    all.find(|strategy| strategy.name() == name)
        .ok_or_else(|| "strategies are per-step, whole-sequence and grid".into())
}

fn main() -> Result<()> {
    env_logger::init();
    let arguments: Arguments = common::arguments();
    if arguments.busy {
        load::be_busy();
    }
    let (neighbours, processes) = (arguments.neighbours, arguments.processes);
    let load = Load { neighbours, callers: arguments.callers.max(1), processes, label: arguments.label.clone() };
    let _neighbours = load::Neighbours::start(neighbours)?;
    if processes > 1 {
        return several_processes(&arguments, &load);
    }
    let budget = arguments.budget;
    ensure!(budget > 0.0 && budget.is_finite(), "--budget is {budget}; it must be finite and above 0");
    let (strategy, checked_shaders) = (arguments.strategy, arguments.checked_shaders);
    let grids = arguments.grids || strategy == Some(Strategy::Grid);
    let grid = if grids { wgpu_lstm::Grid::Litmus } else { wgpu_lstm::Grid::Off };
    let tuning = if arguments.tuned { Tuning::Measure } else { Tuning::Model };
    let matrices = if arguments.cooperative { Matrices::Cooperative } else { Matrices::Plain };
    let all = GpuOptions { strategy, grid, tuning, checked_shaders, matrices, ..GpuOptions::default() };
    let device = arguments.device.open_with(all.clone(), Weights::F32)?;
    let mut others: Vec<(Weights, Device)> = Vec::new(); // the same device with recurrent weights in other forms
    // Before the measurements, so that they are not lost on a file that cannot be written
    arguments.json.as_ref().map_or(Ok(()), wgpu_lstm::files::check)?;
    if arguments.sweep {
        return sweep_cases(&arguments, &device);
    }
    if arguments.timeline {
        return timelines(&arguments, &device);
    }
    if !arguments.partition.is_empty() {
        return partitions(&arguments, &device);
    }
    let rates = measure::rates(&device)?;
    if !arguments.lines {
        say!("{device}: products at {:.1} GFLOP/s, copies at {:.1} GB/s", rates.flops / 1e9, rates.bytes / 1e9);
        say!("{}", Row::HEAD);
    }
    let modes = if arguments.mode.is_empty() { vec![Mode::Forward] } else { arguments.mode.clone() };
    let cases = if arguments.case.is_empty() { arguments.grid.cases()? } else { arguments.case.clone() };
    let cases = if arguments.variants { with_variants(&cases, &device) } else { cases };
    let of = |case: Case| Case { weights: arguments.step_weights.unwrap_or(case.weights), ..case };
    let cases: Vec<Case> = cases.into_iter().map(of).collect();
    let runs: Vec<(Mode, Case)> = modes.iter().flat_map(|&mode| cases.iter().map(move |&case| (mode, case))).collect();
    let mut rows: Vec<Row> = Vec::new();
    for round in 0..arguments.rounds.max(1) {
        for (place, &(mode, case)) in runs.iter().enumerate() {
            if case.weights != Weights::F32 && others.iter().all(|(weights, _)| *weights != case.weights) {
                others.push((case.weights, arguments.device.open_with(all.clone(), case.weights)?));
            }
            ensure!(load.callers == 1 || mode == Mode::Stream, "{case}: --callers needs --mode stream");
            let other = others.iter().find(|(weights, _)| *weights == case.weights);
            let device = other.map_or(&device, |(_, other)| other);
            let row = measure::row(device, mode, case, rates, arguments.budget, &load)
                .with_context(|| format!("{} of {case}", mode.name()))?;
            if arguments.lines {
                say!("{}", serde_json::to_string(&row)?);
            } else {
                say!("{row}");
            }
            match rows.get_mut(place) {
                None => rows.push(row),
                Some(best) if row.ms < best.ms => *best = row,
                Some(_) => log::info!("round {round} found nothing faster"),
            }
        }
    }
    if let Some(path) = &arguments.json {
        wgpu_lstm::files::replace(path, serde_json::to_vec_pretty(&rows)?)?;
    }
    Ok(())
}

/// Measures all launches of the cases.
fn sweep_cases(arguments: &Arguments, device: &Device) -> Result<()> {
    if !arguments.lines {
        say!("{device}");
    }
    let cases = if arguments.case.is_empty() { arguments.grid.cases()? } else { arguments.case.clone() };
    let mut rows = Vec::new();
    for case in cases {
        ensure!(is_f32(arguments, case), "{case}: --sweep is for recurrent weights in f32");
        rows.extend(
            sweep::case(device, case, &arguments.mode, arguments.lines)
                .with_context(|| format!("the launches of {case}"))?,
        );
    }
    match &arguments.json {
        Some(path) => Ok(wgpu_lstm::files::replace(path, serde_json::to_vec_pretty(&rows)?)?),
        None => Ok(()),
    }
}

/// True if a case is to run with recurrent weights as they are.
fn is_f32(arguments: &Arguments, case: Case) -> bool {
    arguments.step_weights.unwrap_or(case.weights) == Weights::F32
}

/// Timelines of the cases.
fn timelines(arguments: &Arguments, device: &Device) -> Result<()> {
    let cases = if arguments.case.is_empty() { arguments.grid.cases()? } else { arguments.case.clone() };
    let modes: &[Mode] = if arguments.mode.is_empty() { &[Mode::Forward] } else { &arguments.mode };
    say!("{device}\n{}", timeline::Row::HEAD);
    let mut rows = Vec::new();
    for case in cases {
        ensure!(is_f32(arguments, case) && !case.variant.ragged, "{case}: --timeline is for plain f32 without lengths");
        for &mode in modes {
            let row = timeline::case(device, mode, case)
                .with_context(|| format!("the timeline of {} of {case}", mode.name()))?;
            say!("{row} | {case}");
            rows.push(row);
        }
    }
    match &arguments.json {
        Some(path) => Ok(wgpu_lstm::files::replace(path, serde_json::to_vec_pretty(&rows)?)?),
        None => Ok(()),
    }
}

/// Partitions of the cases.
fn partitions(arguments: &Arguments, device: &Device) -> Result<()> {
    let cases = if arguments.case.is_empty() { arguments.grid.cases()? } else { arguments.case.clone() };
    let modes: &[Mode] = if arguments.mode.is_empty() { &[Mode::Forward, Mode::Train] } else { &arguments.mode };
    let threads: Vec<usize> = arguments.partition.iter().map(|&threads| threads.into()).collect();
    let mut rows = Vec::new();
    if !arguments.lines {
        partition::print_head(&threads);
    }
    for &mode in modes {
        for &case in &cases {
            let own =
                partition::case(device, mode, case, &threads).with_context(|| format!("the partition of {case}"))?;
            if arguments.lines {
                for row in &own {
                    say!("{}", serde_json::to_string(row)?);
                }
            } else {
                partition::print(case, &own);
            }
            rows.extend(own);
        }
    }
    match &arguments.json {
        Some(path) => Ok(wgpu_lstm::files::replace(path, serde_json::to_vec_pretty(&rows)?)?),
        None => Ok(()),
    }
}

/// Runs this program several times at once, with the arguments that were given to it but for those of this process.
fn several_processes(arguments: &Arguments, load: &Load) -> Result<()> {
    arguments.json.as_ref().map_or(Ok(()), wgpu_lstm::files::check)?;
    let mut all = Vec::new();
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let name = argument.split('=').next().unwrap_or(&argument);
        match name {
            "--processes" | "--neighbours" | "--json" if name.len() < argument.len() => {}
            "--processes" | "--neighbours" | "--json" => _ = given.next(),
            "--lines" => {}
            _ => all.push(argument),
        }
    }
    let mut rows = load::processes(load.processes, &all)?;
    for row in &mut rows {
        row.neighbours = load.neighbours;
        if arguments.lines {
            say!("{}", serde_json::to_string(row)?);
        } else {
            say!("{row}");
        }
    }
    if let Some(path) = &arguments.json {
        wgpu_lstm::files::replace(path, serde_json::to_vec_pretty(&rows)?)?;
    }
    Ok(())
}

/// Each case with every variant that can be planned for it; says which are left out, and why.
fn with_variants(cases: &[Case], device: &Device) -> Vec<Case> {
    let mut all = Vec::new();
    for variant in Variant::all() {
        for case in cases.iter().map(|&case| Case { variant, ..case }) {
            match case.lstm().plan(case.i, case.b, case.t, device.capabilities()) {
                Ok(_) => all.push(case),
                Err(reason) => note!("without {case}: {reason}"),
            }
        }
    }
    all
}

impl ValueEnum for Grid {
    fn value_variants<'a>() -> &'a [Grid] {
        &[Grid::Small, Grid::Published]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(match self {
            Grid::Small => "small",
            Grid::Published => "published",
        }))
    }
}
