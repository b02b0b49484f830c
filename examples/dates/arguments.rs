//! The command line.

use super::common::DeviceName;
use anyhow::{Result, bail, ensure};
use clap::Parser;
use std::path::PathBuf;

/// Trains a network to write dates as ISO 8601 does, says how many of those held out are right to the last character, and draws what it
/// attends to.
#[derive(Parser, Debug)]
#[command(about, long_about)]
pub struct Arguments {
    /// Pairs of dates to train on
    #[arg(long, value_name = "N", default_value_t = 8000)]
    pub pairs: usize,
    /// Days that are held out, each written once
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub held_out: usize,
    /// Features that stand for a character
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub features: usize,
    /// Hidden units of each direction of the encoder; the decoder has twice as many
    #[arg(long, value_name = "N", default_value_t = 48)]
    pub hidden: usize,
    /// Times through the pairs
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub epochs: usize,
    /// Pairs of a batch
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch: usize,
    /// Seed of the pairs and of the weights
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Device to run on
    #[arg(long, value_enum, default_value_t = DeviceName::Auto)]
    pub device: DeviceName,
    /// Folder for the saved model and the picture
    #[arg(long, value_name = "DIR", default_value = "dates-out")]
    pub out: PathBuf,
    /// Date that the picture shows [default: one of those held out]
    #[arg(long, value_name = "TEXT")]
    pub date: Option<String>,
    /// Width of the beam; 1 takes the likeliest character at each step
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub beam: usize,
    /// File for the results as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Translate with a saved model instead of training one
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["pairs", "features", "hidden", "epochs", "batch"])]
    pub load: Option<PathBuf>,
}

impl Arguments {
    /// Refuses what has no meaning before anything is made.
    pub fn check(&self) -> Result<()> {
        let sizes = [
            ("pairs", self.pairs),
            ("features", self.features),
            ("hidden", self.hidden),
            ("epochs", self.epochs),
            ("batch", self.batch),
            ("beam", self.beam),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            bail!("--{name} is 0; it must be at least 1");
        }
        ensure!(self.date.as_deref() != Some(""), "--date is empty; leave it out, or give a date");
        Ok(())
    }
}
