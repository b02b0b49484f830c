//! Writes dates as ISO 8601 does: "the 3rd of March 2021" is read, "2021-03-03" is written. An encoder reads the characters, a decoder
//! writes them one by one, and attends to what was read (Sutskever et al. 2014, Luong et al. 2015).
//!
//! ```text
//! cargo run --release --example dates
//! cargo run --release --example dates -- --load dates-out/dates.safetensors --date "wednesday, the 3rd of march 2021" --beam 3
//! ```

mod arguments;
#[path = "../common/mod.rs"]
mod common;
mod data;
mod picture;
mod translator;

use anyhow::{Context, Result};
use arguments::Arguments;
use common::say;
use data::Pairs;
use std::time::Instant;
use translator::Translator;
use wgpu_lstm::{Callback, EpochEvent, Flow, Model};

/// Says what an epoch came to.
struct Follow;

impl Callback for Follow {
    fn on_epoch(&mut self, event: &EpochEvent, _: &mut Model) -> wgpu_lstm::Result<Flow> {
        say!("epoch {} of {}: loss {:.4}, {:.1} s", event.epoch, event.epochs, event.loss, event.seconds);
        Ok(Flow::Continue)
    }
}

fn main() -> Result<()> {
    env_logger::init();
    let arguments: Arguments = common::arguments();
    arguments.check()?;
    let device = arguments.device.open()?;
    let pairs = Pairs::new(arguments.pairs, arguments.held_out, arguments.seed)?;
    let translator = match &arguments.load {
        Some(path) => Translator::load(path, &device)?,
        None => trained(&arguments, &pairs, &device)?,
    };
    if arguments.load.is_none() || arguments.date.is_none() {
        judge(&translator, &pairs, arguments.beam)?;
    }
    let date = arguments.date.as_deref().unwrap_or(&pairs.held_out[0].written);
    let (iso, weights) = translator.attend(date)?;
    say!("{date} = {}", translator.translate(std::iter::once(date), arguments.beam)?.concat());
    let path = arguments.out.join("attention.svg");
    std::fs::create_dir_all(&arguments.out).with_context(|| format!("cannot make {}", arguments.out.display()))?;
    let picture = picture::draw(date, &iso, weights.view())?;
    std::fs::write(&path, picture).with_context(|| format!("cannot write {}", path.display()))?;
    say!("wrote {}", path.display());
    Ok(())
}

/// Trains a translator and saves it.
fn trained(arguments: &Arguments, pairs: &Pairs, device: &wgpu_lstm::Device) -> Result<Translator> {
    let mut translator = Translator::new(arguments, device)?;
    say!("{}", translator.summary());
    say!("{} pairs to train on, {} days held out; on {device}", pairs.train.len(), pairs.held_out.len());
    let start = Instant::now();
    translator.train(&pairs.train, arguments, Follow)?;
    say!("trained in {:.1} s", start.elapsed().as_secs_f64());
    std::fs::create_dir_all(&arguments.out).with_context(|| format!("cannot make {}", arguments.out.display()))?;
    let path = arguments.out.join("dates.safetensors");
    translator.save(&path)?;
    say!("wrote {}", path.display());
    Ok(translator)
}

/// Says how many of the dates that were held out are right to the last character.
fn judge(translator: &Translator, pairs: &Pairs, beam: usize) -> Result<()> {
    let start = Instant::now();
    let given = translator.translate(pairs.held_out.iter().map(|pair| pair.written.as_str()), beam)?;
    let wrong: Vec<_> = pairs.held_out.iter().zip(&given).filter(|(pair, given)| pair.iso != **given).collect();
    let right = pairs.held_out.len() - wrong.len();
    say!(
        "{right} of {} held-out dates right to the last character ({:.2} %), in {:.1} s",
        pairs.held_out.len(),
        100.0 * right as f64 / pairs.held_out.len() as f64,
        start.elapsed().as_secs_f64()
    );
    for (pair, given) in wrong.into_iter().take(5) {
        say!("  {} = {}, not {given}", pair.written, pair.iso);
    }
    Ok(())
}
