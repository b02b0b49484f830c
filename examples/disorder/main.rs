//! Disordered regions of proteins: metapredict's networks, trained by others in PyTorch, on the proteins of a FASTA file.
//!
//! ```text
//! cargo run --release --example disorder
//! cargo run --release --example disorder -- my.fasta --network v3.ckpt --out my-folder
//! ```

#[path = "../common/mod.rs"]
mod common;
mod fasta;
mod network;
#[path = "../common/npy.rs"]
mod npy;
mod plot;
mod truth;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use common::say;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;
use wgpu_lstm::{GpuOptions, files};

/// Predicts the disorder of proteins by a network of metapredict
#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// Proteins
    #[arg(default_value = "examples/data/disorder/proteins.fasta")]
    proteins: PathBuf,
    /// A network of metapredict 3.1.1: V1 and V2 are here, V3 is its epoch099_val_loss1107.08.ckpt
    #[arg(long, value_name = "FILE", default_value = "examples/data/disorder/v2.pt")]
    network: PathBuf,
    /// Device to run on
    #[arg(long, value_enum, default_value = "auto")]
    device: common::DeviceName,
    /// Form of the recurrent weights
    #[arg(long, value_enum, default_value_t)]
    step_weights: common::Weights,
    /// The protein to draw, by its name [default: the longest]
    #[arg(long, value_name = "NAME")]
    protein: Option<String>,
    /// Score above which a residue counts as disordered; metapredict takes 0.42 for V1, 0.5 for V2 and V3
    #[arg(long, default_value_t = 0.5)]
    threshold: f32,
    /// Folder for scores.csv and profile.svg
    #[arg(long, value_name = "DIR", default_value = "disorder-out")]
    out: PathBuf,
    /// Compare with scores in an npz file, all proteins one after another
    #[arg(long, value_name = "FILE.npz", requires = "array")]
    truth: Option<PathBuf>,
    /// The array in it: v1, v2 or v3
    #[arg(long, value_name = "NAME", requires = "truth")]
    array: Option<String>,
}

fn main() -> Result<()> {
    env_logger::init();
    let arguments: Arguments = common::arguments();
    let Arguments { threshold, out, .. } = &arguments;
    ensure!((0.0..=1.0).contains(threshold), "--threshold is {threshold}; scores are from 0 to 1");
    let proteins = fasta::read(&arguments.proteins)?;
    let shown = match &arguments.protein {
        Some(name) => proteins.iter().position(|protein| protein.name == *name),
        None => (0..proteins.len()).max_by_key(|&n| proteins[n].residues.len()),
    };
    let shown = shown.with_context(|| {
        let (name, path) = (arguments.protein.as_deref().unwrap_or_default(), arguments.proteins.display());
        format!("\"{path}\" has no protein called \"{name}\"")
    })?;
    let device = arguments.device.open_with(GpuOptions::default(), arguments.step_weights)?;
    let model = network::open(&arguments.network, &device)?;
    let start = Instant::now();
    let scores = network::predict(&model, &proteins)?;
    let seconds = start.elapsed().as_secs_f64();

    std::fs::create_dir_all(out).with_context(|| format!("cannot make the folder \"{}\"", out.display()))?;
    let mut table = String::from("protein,residue,disorder\n");
    for (protein, scores) in proteins.iter().zip(&scores) {
        for (t, score) in scores.iter().enumerate() {
            writeln!(table, "{},{},{score}", protein.name, t + 1)?;
        }
    }
    let csv = out.join("scores.csv");
    let svg = out.join("profile.svg");
    let picture = plot::draw(&format!("Disorder of {}", proteins[shown].name), &scores[shown], *threshold)?;
    let inputs = [Some(&arguments.proteins), Some(&arguments.network), arguments.truth.as_ref()];
    for (path, content) in [(&csv, table), (&svg, picture)] {
        let input = inputs.into_iter().flatten().find(|input| files::same(input, path));
        ensure!(input.is_none(), "\"{}\" would be written over an input of the same file", path.display());
        files::replace(path, content)?;
    }

    let disordered = |scores: &[f32]| scores.iter().filter(|&score| score > threshold).count();
    say!("{:<28} {:>8} {:>11}", "protein", "residues", "disordered");
    for (protein, scores) in proteins.iter().zip(&scores).take(20) {
        let share = 100.0 * disordered(scores) as f64 / scores.len() as f64;
        say!("{:<28} {:>8} {share:>10.1}%", protein.name, scores.len());
    }
    if proteins.len() > 20 {
        say!("... and {} more", proteins.len() - 20);
    }
    let residues: usize = scores.iter().map(Vec::len).sum();
    say!(
        "{} proteins, {residues} residues in {seconds:.2} s ({:.0} a second) on {device}",
        proteins.len(),
        residues as f64 / seconds
    );
    if let (Some(path), Some(array)) = (&arguments.truth, &arguments.array) {
        let difference = truth::difference(path, array, &proteins, &scores)?;
        say!("largest difference from \"{array}\": {difference:.2e}");
        // Scores are from 0 to 1. Rounded weights were measured: benches/results/step-weights.txt.
        let tolerance = match arguments.step_weights {
            common::Weights::F32 => 1e-5,
            common::Weights::F16 => 1e-3,
            common::Weights::Bf16 => 1e-2,
            common::Weights::Int8 => 3e-2,
        };
        ensure!(difference <= tolerance, "scores differ from \"{array}\" by {difference:e}, more than {tolerance:e}");
    }
    say!("wrote \"{}\" and \"{}\"", csv.display(), svg.display());
    Ok(())
}
