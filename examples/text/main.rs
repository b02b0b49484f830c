//! Learns a text character by character, and writes.
//!
//! ```text
//! cargo run --release --example text
//! cargo run --release --example text -- --data my.txt --hidden 512 --layers 2 --epochs 40
//! cargo run --release --example text -- --load text-out/model.safetensors --prompt "Alice" --temperature 0.5
//! ```

mod arguments;
mod baseline;
#[path = "../common/mod.rs"]
mod common;
mod corpus;
mod writer;

use anyhow::{Context, Result, ensure};
use arguments::Arguments;
use corpus::Alphabet;
use std::io::Write;
use writer::Writer;

/// Characters of the default prompt.
const PROMPT: usize = 100;

fn main() -> Result<()> {
    env_logger::init();
    run(&mut common::Output)
}

fn run(out: &mut impl Write) -> Result<()> {
    let arguments: Arguments = common::arguments();
    arguments.check()?;
    let text: Vec<char> = corpus::read(&arguments.data)?.chars().collect();
    let held = (text.len() as f64 * arguments.held_out).ceil() as usize;
    let (train, held_out) = text.split_at(text.len() - held);
    let least =
        if arguments.load.is_some() { 1 } else { arguments.streams.saturating_mul(arguments.window).saturating_add(1) };
    ensure!(
        train.len() >= least && held >= 2,
        "\"{}\" has {} characters, of which {} are to train on and {held} are held out; it takes at least \
         {least} (streams · window + 1 in training) and 2",
        arguments.data.display(),
        text.len(),
        train.len()
    );
    let load = |path| Writer::load(path, &arguments.device.open()?);
    let loaded = arguments.load.as_deref().map(load).transpose()?;
    let alphabet = match &loaded {
        Some(writer) => writer.alphabet.clone(),
        None => Alphabet::new(train, arguments.characters),
    };
    let device = match &loaded {
        Some(writer) => writer.device().clone(),
        None => {
            let layers = Writer::layers(&arguments, &alphabet);
            arguments.device.open_for_training(&layers, arguments.streams, arguments.window)?
        }
    };
    if let Some(prompt) = &arguments.prompt {
        alphabet.check("--prompt", prompt)?;
    }
    let (train, held_out) = (alphabet.encode(train), alphabet.encode(held_out));
    writeln!(
        out,
        "{} characters to train on, {held} held out, of which {} are unknown; the model tells {} apart; on {device}",
        train.len(),
        held_out.iter().filter(|&&number| number == 0).count(),
        alphabet.len()
    )?;

    let mut writer = match loaded {
        Some(writer) => writer,
        None => {
            // Before the training, so that it is not lost on a folder that cannot be written
            let folder = &arguments.out;
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder \"{}\"", folder.display()))?;
            let path = folder.join("model.safetensors");
            ensure!(
                !wgpu_lstm::files::same(&arguments.data, &path),
                "--data is \"{}\", over which the model would be written",
                path.display()
            );
            let mut writer = Writer::new(&arguments, alphabet, &text[..text.len() - held], &device)?;
            writeln!(out, "\n{}\n", writer.summary())?;
            writer.train(&arguments, &train, |writer, epoch, bits, seconds| {
                let (judged, _) = writer.judge(&held_out)?;
                let epochs = arguments.epochs;
                Ok(writeln!(
                    out,
                    "epoch {epoch}/{epochs}: {bits:.3} bits a character in training, {judged:.3} held out, {seconds:.1} s"
                )?)
            })?;
            writer.save(&path)?;
            writeln!(out, "model: {}", path.display())?;
            writer
        }
    };

    let (bits, judged) = writer.judge(&held_out)?;
    let seen = match writer.seen(&text) {
        Some(seen) if seen <= train.len() => String::new(),
        Some(seen) => format!(", of which the model was trained on {}", seen - train.len()),
        None => ", and whether the model was trained on any of them is not known".into(),
    };
    writeln!(out, "\nbits a character in {judged} characters that are held out{seen}:\n  LSTM             {bits:.3}")?;
    for order in [0, 2, 4] {
        let bits = baseline::bits(&train, &held_out[..=judged], order, writer.alphabet.len());
        writeln!(out, "  counts, order {order}  {bits:.3}")?;
    }

    let prompt: Vec<char> = match &arguments.prompt {
        Some(prompt) => prompt.chars().collect(),
        None => text[text.len() - held..].iter().copied().take(PROMPT).collect(),
    };
    let written = writer.write(&writer.alphabet.encode(&prompt), &arguments)?;
    writeln!(out, "\nwritten at temperature {}, after what stands in brackets:\n", arguments.temperature)?;
    writeln!(out, "[{}]{written}", prompt.into_iter().collect::<String>())?;
    Ok(())
}
