//! Load beside a case that is timed.

use crate::measure::Row;
use anyhow::{Context, Result, ensure};
use std::io::Read;
use std::process::{Child, Command, Stdio};

/// Work that shares the processors.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Processes that keep a processor busy.
    pub neighbours: usize,
    /// Threads that time a case at the same time, with one model.
    pub callers: usize,
    /// Processes that do so, each with its own model.
    pub processes: usize,
    /// Label of the rows.
    pub label: String,
}

/// Keeps a processor busy until the standard input ends, which it does with the process that started this one.
pub fn be_busy() -> ! {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0)
    });
    let mut turns = 0u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

/// Neighbours, for as long as this lives.
pub struct Neighbours(Vec<Child>);

impl Neighbours {
    pub fn start(count: usize) -> Result<Neighbours> {
        let mut all = Neighbours(Vec::new());
        for _ in 0..count {
            let program = std::env::current_exe()?;
            all.0.push(Command::new(program).arg("--busy").stdin(Stdio::piped()).spawn()?);
        }
        Ok(all)
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

/// Rows of several processes that run the same at the same time; each row has the mean of their times.
pub fn processes(count: usize, arguments: &[String]) -> Result<Vec<Row>> {
    let mut children = Vec::new();
    for _ in 0..count {
        let mut command = Command::new(std::env::current_exe()?);
        children.push(command.args(arguments).arg("--lines").stdout(Stdio::piped()).spawn()?);
    }
    let mut all: Vec<Vec<Row>> = Vec::new();
    for child in children {
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "a process ended with {}", output.status);
        let lines = std::str::from_utf8(&output.stdout)?.lines();
        all.push(lines.map(|line| serde_json::from_str(line).context("a row")).collect::<Result<_>>()?);
    }
    let mean = |place: usize, of: fn(&Row) -> f64| all.iter().map(|rows| of(&rows[place])).sum::<f64>() / count as f64;
    let least = |place: usize| all.iter().map(|rows| rows[place].ms_range[0]).fold(f64::INFINITY, f64::min);
    let most = |place: usize| all.iter().map(|rows| rows[place].ms_range[1]).fold(0.0, f64::max);
    let rows = all[0].iter().enumerate().map(|(place, row)| Row {
        processes: count,
        ms: mean(place, |row| row.ms),
        mean_ms: mean(place, |row| row.mean_ms),
        host_ms: row.host_ms.map(|_| mean(place, |row| row.host_ms.unwrap_or(f64::NAN))),
        ms_range: [least(place), most(place)],
        ..row.clone()
    });
    Ok(rows.collect())
}
