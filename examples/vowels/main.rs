//! Tells nine speakers apart by how they say a vowel: utterances of 7 to 29 steps, a bidirectional LSTM, its last states.
//!
//! ```text
//! cargo run --release --example vowels
//! cargo run --release --example vowels -- --seeds 1 --epochs 20 --device gpu
//! ```

#[path = "../common/mod.rs"]
mod common;
mod data;
#[path = "../common/npy.rs"]
mod npy;

use anyhow::{Result, ensure};
use clap::Parser;
use data::Utterances;
use ndarray::{Array2, ArrayD};
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;
use wgpu_lstm::metrics::{ConfusionMatrix, classes};
use wgpu_lstm::{Clip, Dense, Dropout, Fit, GpuOptions, Inputs, Loss, Lstm, Optimiser, Sequential, Update};

const SPEAKERS: usize = 9;
const BATCH: usize = 32;

/// Trains a classifier of the Japanese Vowels data and says how often it is right
#[derive(Parser)]
struct Arguments {
    /// The data
    #[arg(long, default_value = "examples/data/japanese-vowels-i16e4.npz")]
    data: PathBuf,
    /// Device to run on
    #[arg(long, value_enum, default_value = "auto")]
    device: common::DeviceName,
    /// Form of the recurrent weights when the test part is told
    #[arg(long, value_enum, default_value_t)]
    step_weights: common::Weights,
    /// Device to train on, if it is another
    #[arg(long, value_enum)]
    trained_on: Option<common::DeviceName>,
    /// Number of models to train, with seeds 1, 2, ...
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Times through the training data
    #[arg(long, default_value_t = 50)]
    epochs: usize,
    /// Hidden units of each direction
    #[arg(long, default_value_t = 100)]
    hidden: usize,
}

fn main() -> Result<()> {
    env_logger::init();
    run(&mut common::Output)
}

fn run(out: &mut impl Write) -> Result<()> {
    let arguments: Arguments = common::arguments();
    ensure!(arguments.seeds > 0, "--seeds is 0; it must be at least 1");
    let [train, test] = data::load(&arguments.data)?;
    let layers = Sequential::new(train.x.dim().2)
        .add(Lstm::new(arguments.hidden).bidirectional(true))
        .add(Dropout::new(0.3))
        .add(Dense::new(SPEAKERS));
    let trained_on = arguments.trained_on.unwrap_or(arguments.device);
    let device = trained_on.open_for_training(&layers, BATCH, train.x.dim().1)?;
    let other = match (arguments.step_weights, arguments.trained_on) {
        (common::Weights::F32, None) => None,
        _ => Some(arguments.device.open_with(GpuOptions::default(), arguments.step_weights)?),
    };
    writeln!(
        out,
        "{} utterances to train on, {} to test, of up to {} steps; on {device}",
        train.lengths.len(),
        test.lengths.len(),
        train.x.dim().1.max(test.x.dim().1)
    )?;
    let targets = Array2::from_shape_fn((train.speakers.len(), 1), |(n, _)| train.speakers[n] as f32);
    let mut results = Vec::new();
    for seed in 1..=arguments.seeds {
        let start = Instant::now();
        let mut model = layers.clone().build(&device, seed)?;
        let update = Update::new(Optimiser::adam(3e-3)).clip(Clip::Norm(1.0));
        model.compile(Loss::SparseSoftmaxCrossEntropy, update)?;
        let fit = Fit::new().epochs(arguments.epochs).batch_size(BATCH).seed(seed).lengths(train.lengths.clone());
        let history = model.fit(train.x.view(), targets.view(), fit)?;
        let told = tell(&model, &test)?;
        let matrix = ConfusionMatrix::new(told.view(), test.speakers.view(), SPEAKERS)?;
        writeln!(
            out,
            "seed {seed}: accuracy {:.4} on the test part, last loss {:.4}, {:.1} s",
            matrix.accuracy(),
            history.loss.last().copied().unwrap_or(f32::NAN),
            start.elapsed().as_secs_f64()
        )?;
        if let Some(device) = &other {
            let again = tell(&layers.clone().build_with(device, model.parameters()?)?, &test)?;
            let otherwise = told.iter().zip(&again).filter(|(a, b)| a != b).count();
            let matrix = ConfusionMatrix::new(again.view(), test.speakers.view(), SPEAKERS)?;
            writeln!(
                out,
                "        accuracy {:.4} on {device}, {otherwise} utterances told otherwise",
                matrix.accuracy()
            )?;
        }
        results.push(matrix);
    }
    results.sort_by(|a, b| a.accuracy().total_cmp(&b.accuracy()));
    let median = &results[results.len() / 2];
    writeln!(
        out,
        "median accuracy {:.4}; its confusion matrix (rows: true speaker, columns: told):\n{median}",
        median.accuracy()
    )?;
    Ok(())
}

/// The speaker of each utterance, by its highest score.
fn tell(model: &wgpu_lstm::Model, test: &Utterances) -> Result<ArrayD<usize>> {
    let scores = model.predict(Inputs::from(test.x.view()).lengths(&test.lengths))?;
    Ok(classes(scores.view())?)
}
