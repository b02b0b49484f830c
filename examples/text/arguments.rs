//! The command line.

use super::common::DeviceName;
use anyhow::{Result, bail, ensure};
use clap::Parser;
use std::path::PathBuf;

/// Trains an LSTM on a text, character by character, says how many bits a character costs it in a part that it was not trained on,
/// and lets it write.
///
/// Without arguments: "Alice's Adventures in Wonderland".
#[derive(Parser, Debug)]
#[command(about, long_about)]
pub struct Arguments {
    /// The text, in UTF-8
    #[arg(long, value_name = "FILE", default_value = "examples/data/alice.txt")]
    pub data: PathBuf,
    /// Share of the text, at its end, that is held out
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    pub held_out: f64,
    /// Characters that the model tells apart; rarer ones are one and the same to it
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub characters: usize,
    /// Features that stand for a character
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub features: usize,
    /// Hidden units of a layer
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub hidden: usize,
    /// LSTM layers
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub layers: usize,
    /// Share of the outputs of each layer that is dropped in training
    #[arg(long, value_name = "SHARE", default_value_t = 0.3)]
    pub dropout: f64,
    /// Times through the text
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub epochs: usize,
    /// Parts of the text that are read side by side
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub streams: usize,
    /// Steps that gradients reach back
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub window: usize,
    /// Seed of weights, dropout and writing
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Temperature of sampling: 1 takes the model at its word, less prefers what it thinks likely
    #[arg(long, value_name = "T", default_value_t = 0.7)]
    pub temperature: f64,
    /// Characters to write
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub length: usize,
    /// Prompt that the writing continues [default: the start of the held-out text]
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Device to run on
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    pub device: DeviceName,
    /// Folder for the saved model
    #[arg(long, value_name = "DIR", default_value = "text-out")]
    pub out: PathBuf,
    /// Write with a saved model instead of training one
    #[arg(long, value_name = "MODEL", conflicts_with_all = [
        "characters", "features", "hidden", "layers", "dropout", "epochs", "streams", "window", "out",
    ])]
    pub load: Option<PathBuf>,
}

impl Arguments {
    /// Refuses what has no meaning before anything is read.
    pub fn check(&self) -> Result<()> {
        let sizes = [
            ("features", self.features),
            ("hidden", self.hidden),
            ("layers", self.layers),
            ("epochs", self.epochs),
            ("streams", self.streams),
            ("window", self.window),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            bail!("--{name} is 0; it must be at least 1");
        }
        ensure!(self.characters >= 2, "--characters is {}; it must be at least 2", self.characters);
        let temperature = self.temperature;
        ensure!(
            temperature > 0.0 && temperature.is_finite(),
            "--temperature is {temperature}; it must be finite and above 0"
        );
        for (name, share, least) in [("held-out", self.held_out, f64::MIN_POSITIVE), ("dropout", self.dropout, 0.0)] {
            ensure!((least..1.0).contains(&share), "--{name} is {share}; it must be from 0 to 1, 1 not included{}", {
                if least > 0.0 { ", and above 0" } else { "" }
            });
        }
        ensure!(self.prompt.as_deref() != Some(""), "--prompt is empty; leave it out, or give at least one character");
        Ok(())
    }
}
