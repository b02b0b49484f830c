//! Times other LSTM engines on one case and prints a row of JSON for each: see README.md.

mod burn_peer;
mod candle_peer;
mod grid;
mod timing;
mod tract_peer;

use anyhow::{Result, bail};
use burn::tensor::{Device, DeviceKind};
use clap::{Parser, ValueEnum};
use grid::Case;
use serde::Serialize;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    BurnWgpu,
    BurnNdarray,
    BurnFlex,
    Candle,
    Tract,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Forward,
    Train,
}

#[derive(Parser)]
struct Arguments {
    /// Several may be given [default: all]
    #[arg(long, value_enum)]
    engine: Vec<Engine>,
    #[arg(long, value_enum, default_value = "forward")]
    mode: Mode,
    /// T=128,B=32,I=256,H=256,L=1
    #[arg(long)]
    case: Case,
    /// Folder of ONNX files, for tract
    #[arg(long, default_value = ".")]
    models: PathBuf,
    /// Seconds for each engine
    #[arg(long, default_value_t = 1.0)]
    budget: f64,
}

#[derive(Serialize)]
struct Row {
    name: String,
    version: &'static str,
    device: &'static str,
    mode: String,
    #[serde(flatten)]
    case: Case,
    dtype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runs: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let engines = if arguments.engine.is_empty() { Engine::value_variants().to_vec() } else { arguments.engine };
    for engine in engines {
        let (case, train, budget) = (arguments.case, arguments.mode == Mode::Train, arguments.budget);
        let (version, device) = match engine {
            Engine::BurnWgpu => ("0.22", "adapter"),
            Engine::BurnNdarray | Engine::BurnFlex => ("0.22", "cpu"),
            Engine::Candle => ("0.11", "cpu"),
            Engine::Tract => ("0.23", "cpu"),
        };
        let measured = match engine {
            // the best adapter; a software one where there is no other
            Engine::BurnWgpu => burn_peer::run(Device::wgpu(DeviceKind::DefaultDevice), case, train, budget),
            Engine::BurnNdarray => burn_peer::run(Device::ndarray(), case, train, budget),
            Engine::BurnFlex => burn_peer::run(Device::flex(), case, train, budget),
            Engine::Candle => candle_peer::run(case, train, budget),
            Engine::Tract if train => bail!("tract does not train"),
            Engine::Tract => tract_peer::run(case, &arguments.models, budget),
        };
        let name = engine.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default();
        let mode = if train { "train" } else { "forward" }.to_string();
        let mut row = Row { name, version, device, mode, case, dtype: "f32", ms: None, runs: None, error: None };
        match measured {
            Ok((ms, runs)) => (row.ms, row.runs) = (Some(ms), Some(runs)),
            Err(error) => row.error = Some(format!("{error:#}")),
        }
        println!("{}", serde_json::to_string(&row)?);
    }
    Ok(())
}
