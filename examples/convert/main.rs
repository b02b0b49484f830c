//! Converts a model file from one format to another, and makes sure that both give the same output on random input.
//!
//! ```text
//! cargo run --release --example convert -- model.pt model.safetensors --to own --layers lstm,norm,fc
//! cargo run --release --example convert -- model.safetensors weights.safetensors --to pytorch
//! cargo run --release --example convert -- model.onnx model.keras
//! ```
//!
//! A format is a file here with two functions, `read` and `write`; between them is a `Model`.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/formats.rs"]
mod formats;
mod keras;
mod onnx;
mod onnx_chain;
mod own;
mod pytorch;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use common::say;
use formats::Format;
use ndarray::Array3;
use rand::{RngExt, SeedableRng};
use std::path::PathBuf;
use wgpu_lstm::{Layer, Model};

/// Converts a model file to another format
#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// What is read: .pt, .pth, .ckpt, .safetensors; .keras, .h5; .onnx
    from: PathBuf,
    /// What is written: .safetensors, .keras, .onnx
    to: PathBuf,
    /// Format of what is written; a .safetensors file can be `own` or `pytorch`
    #[arg(long = "to", value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    /// Of weights without an architecture (PyTorch): the layers' prefixes, from first to last [default: the recurrent layer]; of ONNX:
    /// names of recurrent nodes [default: the whole graph]
    #[arg(long, value_delimiter = ',', value_name = "PREFIX,...")]
    layers: Vec<String>,
    /// Where to compare
    #[arg(long, value_enum, default_value = "cpu")]
    device: common::DeviceName,
    /// Seed of the random input
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Largest difference between outputs of order 1: sums of f32 in another order.
const TOLERANCE: f32 = 1e-5;

fn main() -> Result<()> {
    env_logger::init();
    let Arguments { from, to, format, layers, device, seed } = common::arguments();
    ensure!(!wgpu_lstm::files::same(&from, &to), "\"{}\" would be written over itself", to.display());
    wgpu_lstm::files::check(&to)?;
    let target = format.or_else(|| Format::by_name(&to)).with_context(|| {
        format!("the format of \"{}\" is not clear from its name; say --to own or --to pytorch", to.display())
    })?;
    let device = device.open()?;
    let source = Format::of(&from)?;
    let by_name = matches!(source, Format::Pytorch | Format::Onnx);
    ensure!(layers.is_empty() || by_name, "--layers is for weights without an architecture and for nodes of a graph");
    let model = match source {
        Format::Own => own::read(&from, &device)?,
        Format::Pytorch => pytorch::read(&from, &layers, &device)?,
        Format::Onnx => onnx::read(&from, &layers, &device)?,
        Format::Keras => keras::read(&from, &device)?,
    };
    let x = random_input(&model, [2, 7], seed)?;
    let before = model.predict(x.view())?;
    // Writes, reads what was written, and runs it
    let after = match target {
        Format::Own => own::write(&model, &to)?.predict(x.view())?,
        Format::Pytorch => pytorch::write(&model, &to)?.predict(x.view())?,
        Format::Onnx => onnx::write(&model, &to, x.view())?,
        Format::Keras => keras::write(&model, &to)?.predict(x.view())?,
    };
    ensure!(before.shape() == after.shape(), "outputs have shapes {:?} and {:?}", before.shape(), after.shape());
    let difference = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    ensure!(difference <= TOLERANCE, "outputs differ by {difference:e}, more than {TOLERANCE:e}");
    say!("{}", model.summary());
    say!("wrote \"{}\"; on random input the outputs differ by at most {difference:e}", to.display());
    Ok(())
}

/// B sequences of T steps: normal-sized numbers, or indices for an embedding.
fn random_input(model: &Model, [b, t]: [usize; 2], seed: u64) -> Result<Array3<f32>> {
    let mut random = rand_pcg::Pcg64::seed_from_u64(seed);
    let entries = match model.layers().next() {
        Some((name, Layer::Embedding(_))) => {
            let parameters = model.parameters()?;
            parameters.get(&format!("{name}.weight")).map(|weight| weight.shape()[0])
        }
        _ => None,
    };
    let number = || match entries {
        Some(entries) => random.random_range(0..entries) as f32,
        None => random.random_range(-1.0..1.0f32),
    };
    Ok(Array3::from_shape_simple_fn((b, t, model.config().input()), number))
}
