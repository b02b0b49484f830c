//! The parts of a case that the CPU executor deals to numbers of threads that the machine need not have, by count of multiplications.

use crate::cases::Case;
use crate::common::say;
use crate::measure::Mode;
use anyhow::{Result, ensure};
use serde::Serialize;
use wgpu_lstm::cpu::{Partition, partition};
use wgpu_lstm::network::{Batch, Node, Purpose, network};
use wgpu_lstm::{Device, Loss, Optimiser, Update};

/// A case on a number of threads.
#[derive(Serialize)]
pub struct Row {
    version: &'static str,
    mode: &'static str,
    case: String,
    threads: usize,
    /// Parts of the rows and of the units in the steps forward, each pair with a thread of its own.
    step_parts: [usize; 2],
    /// Multiplications of products and steps.
    multiplications: u64,
    /// Of one thread, if each call takes as long as its largest part.
    longest: u64,
    /// Time in which threads have nothing to do, of the time of all threads.
    idle_share: f64,
}

/// A row for each number of threads.
pub fn case(device: &Device, mode: Mode, case: Case, threads: &[usize]) -> Result<Vec<Row>> {
    ensure!(device.adapter().is_none(), "--partition is for the CPU executor; add --device cpu");
    let nodes = [Node::new("lstm", case.i, case.lstm())];
    let update = Update::new(Optimiser::adam(1e-3));
    let purpose = match mode {
        Mode::Forward | Mode::Stream => Purpose::Stream,
        Mode::Train => Purpose::Train { loss: &Loss::MeanSquaredError.into(), update: &update, weighted: false },
    };
    let plan = network(&nodes, Batch::new(case.b, case.t), purpose, device.capabilities())?.plan;
    let of_threads = |&threads: &usize| {
        let all = plan.commands.iter().flat_map(|command| partition(&command.call, threads));
        let all: Vec<Partition> = all.collect();
        let steps = plan.commands.iter().find(|command| command.call.kernel.name == "scan_forward");
        let steps = steps.and_then(|command| partition(&command.call, threads).pop());
        let sum = |of: fn(&Partition) -> u64| all.iter().map(of).sum::<u64>();
        let (multiplications, longest) = (sum(|own| own.all), sum(|own| own.most));
        Row {
            version: env!("CARGO_PKG_VERSION"),
            mode: mode.name(),
            case: case.to_string(),
            threads,
            step_parts: steps.map_or([1, 1], |steps| steps.parts),
            multiplications,
            longest,
            idle_share: 1.0 - multiplications as f64 / (threads as u64 * longest).max(1) as f64,
        }
    };
    Ok(threads.iter().map(of_threads).collect())
}

/// Prints the head of a table of Markdown.
pub fn print_head(threads: &[usize]) {
    let columns: String = threads.iter().map(|threads| format!(" {threads} threads | idle |")).collect();
    say!("| T, B, I, H, L | pass |{columns}\n|---|---|{}", "---|---|".repeat(threads.len()));
}

/// Prints a case as a line of the table.
pub fn print(case: Case, rows: &[Row]) {
    let columns = rows.iter().map(|row| {
        let [rows, units] = row.step_parts;
        format!(" {rows} × {units} | {:.0} % |", 100.0 * row.idle_share)
    });
    let Case { t, b, i, h, l, .. } = case;
    let mode = rows.first().map_or("", |row| row.mode);
    say!("| {t}, {b}, {i}, {h}, {l} | {mode} |{}", columns.collect::<String>());
}
