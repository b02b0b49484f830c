//! Writes dates as ISO 8601 does: "the 3rd of March 2021" is read, "2021-03-03" is written. An encoder, a decoder, attention.
//!
//! ```text
//! cargo run --release --example dates
//! cargo run --release --example dates -- --load dates-out/model.safetensors --date "Wednesday, March 3rd, 2021" --beam 4
//! ```

mod arguments;
#[path = "../common/mod.rs"]
mod common;
mod data;
mod picture;
mod translator;

use anyhow::{Context, Result};
use arguments::Arguments;
use common::DeviceName;
use data::Pairs;
use serde_json::json;
use std::io::Write;
use std::time::Instant;
use translator::Translator;

/// Mistakes that are printed.
const SHOWN: usize = 5;

fn main() -> Result<()> {
    env_logger::init();
    run(&mut common::Output)
}

fn run(out: &mut impl Write) -> Result<()> {
    let arguments: Arguments = common::arguments();
    arguments.check()?;
    let Pairs { train, held_out } = Pairs::new(arguments.pairs, arguments.held_out, arguments.seed)?;
    let device = match (arguments.device, &arguments.load) {
        (DeviceName::Auto, None) => translator::fastest(&arguments, &train)?,
        (name, _) => name.open()?,
    };
    // Before the training, so that it is not lost on a folder that cannot be written
    let folder = &arguments.out;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder \"{}\"", folder.display()))?;
    let (mut epochs, mut seconds) = (Vec::new(), None);
    let translator = match &arguments.load {
        Some(path) => Translator::load(path, &device)?,
        None => {
            let mut translator = Translator::new(&arguments, &device)?;
            writeln!(out, "{}\n", translator.summary())?;
            writeln!(out, "{} pairs to train on, {} days held out; on {device}", train.len(), held_out.len())?;
            let start = Instant::now();
            translator.train(&arguments, &train, |translator, epoch, loss, seconds| {
                let right = held_out.len() - translator.wrong(&held_out, 1)?.len();
                epochs.push(json!({"loss": loss, "right": right, "seconds": seconds}));
                let (right, all) = (percent(right, held_out.len()), arguments.epochs);
                Ok(writeln!(out, "epoch {epoch}/{all}: loss {loss:.4}, {right} held out, {seconds:.1} s")?)
            })?;
            seconds = Some(start.elapsed().as_secs_f64());
            let path = folder.join("model.safetensors");
            translator.save(&path)?;
            writeln!(out, "model: {} after {:.1} s", path.display(), start.elapsed().as_secs_f64())?;
            translator
        }
    };

    let wrong = translator.wrong(&held_out, arguments.beam)?;
    let right = held_out.len() - wrong.len();
    writeln!(
        out,
        "\nright to the last character: {right} of {} dates held out, {}",
        held_out.len(),
        percent(right, held_out.len())
    )?;
    if let Some(path) = &arguments.json {
        let report = json!({
            "device": device.to_string(),
            "pairs": train.len(),
            "held_out": held_out.len(),
            "right": right,
            "beam": arguments.beam,
            "seconds": seconds,
            "epochs": epochs,
        });
        wgpu_lstm::files::replace(path, (serde_json::to_string_pretty(&report)? + "\n").as_bytes())?;
    }
    for (pair, given) in wrong.iter().take(SHOWN) {
        writeln!(out, "  {} is {}, not {given}", pair.written, pair.iso)?;
    }

    let date = match &arguments.date {
        Some(date) => date,
        // The longest has the most to attend to
        None => {
            held_out.iter().map(|pair| &pair.written).max_by_key(|written| written.len()).context("no date held out")?
        }
    };
    let iso = translator.translate(&[date], arguments.beam)?.remove(0);
    let picture = picture::draw(date, &iso, translator.attention(date, &iso)?.view())?;
    let path = folder.join("attention.svg");
    wgpu_lstm::files::replace(&path, picture.as_bytes())?;
    writeln!(out, "\n{date}: {iso}\npicture: {}", path.display())?;
    Ok(())
}

/// A share as text.
fn percent(part: usize, of: usize) -> String {
    format!("{:.2} %", 100.0 * part as f64 / of as f64)
}
