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
mod compare;
#[path = "../common/formats.rs"]
mod formats;
mod keras;
mod onnx;
mod onnx_chain;
mod own;
mod pytorch;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use common::say;
use compare::{Difference, TOLERANCE};
use formats::{Format, naming};
use ndarray::{Array3, s};
use rand::{RngExt, SeedableRng};
use std::path::{Path, PathBuf};
use wgpu_lstm::{Layer, Model, files};

/// Converts a model file to another format
#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// File to read: .pt, .pth, .ckpt, .safetensors; .keras, .h5; .onnx
    from: PathBuf,
    /// File to write: .safetensors, .keras, .onnx; an older file of the name is replaced once the new one is checked
    to: PathBuf,
    /// Format of what is written, which its name must fit; a .safetensors file can be `own` or `pytorch`
    #[arg(long = "to", value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    /// Of weights without an architecture (PyTorch): the modules from first to last, by prefix, with what they are where two readings are
    /// possible, and functions between them, as in emb:embedding,rnn,last,relu,fc,softmax; encoder:rnn(relu) is an nn.RNN with ReLU
    /// [default: the recurrent layer]; of ONNX: names of recurrent nodes [default: the whole graph]
    #[arg(long, value_delimiter = ',', value_name = "PREFIX,...")]
    layers: Vec<String>,
    /// Device to compare on
    #[arg(long, value_enum, default_value = "cpu")]
    device: common::DeviceName,
    /// Seed of the random input
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    env_logger::init();
    let (summary, said) = run(common::arguments())?;
    say!("{summary}\n{said}");
    Ok(())
}

/// Converts; returns the model's summary, and what was written and checked.
fn run(Arguments { from, to, format, layers, device, seed }: Arguments) -> Result<(String, String)> {
    let target = Format::target(&to, format)?;
    let name = place(&from, &to)?;
    let device = device.open()?;
    let source = Format::of(&from)?;
    let by_name = matches!(source, Format::Pytorch | Format::Onnx);
    ensure!(
        layers.is_empty() || by_name,
        "\"{}\" holds a whole model; --layers is for weights without an architecture and for nodes of a graph",
        from.display()
    );
    let model = naming(
        &from,
        match source {
            Format::Own => own::read(&from, &device),
            Format::Pytorch => pytorch::read(&from, &layers, &device),
            Format::Onnx => onnx::read(&from, &layers, &device),
            Format::Keras => keras::read(&from, &device),
        },
    )?;
    let x = random_input(&model, [3, 9], seed)?;
    let before = naming(&from, model.predict(x.view()))?;

    // Under its own name in a folder of its own, which goes away with what is in it.
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let written = folder.path().join(name);
    let after = match target {
        Format::Own => own::write(&model, &written).and_then(|again| Ok(again.predict(x.view())?)),
        Format::Pytorch => pytorch::write(&model, &written).and_then(|again| Ok(again.predict(x.view())?)),
        Format::Onnx => onnx::write(&model, &written, x.view()),
        Format::Keras => keras::write(&model, &written).and_then(|again| Ok(again.predict(x.view())?)),
    };
    // The file is another one in messages of what wrote and read it.
    let failed = |why: anyhow::Error| anyhow!("cannot convert \"{}\" to \"{}\": {why:#}", from.display(), to.display());
    let after = after.map_err(failed)?;
    // As who is given the file sees it
    let seen = Format::of(&written).map_err(failed)?;
    if seen != target {
        return Err(failed(anyhow!("what was written does not look like what was asked for")));
    }
    let difference = Difference::between(&before, &after).map_err(failed)?;
    if !difference.is_rounding() {
        return Err(failed(anyhow!(
            "on random input outputs differ by {difference}; {TOLERANCE:e} is taken for rounding"
        )));
    }
    files::replace(&to, files::read(&written)?)?;
    let said = format!("wrote \"{}\"; on random input {}", to.display(), difference.brief());
    Ok((model.summary(), said))
}

/// The target's name, which must be no folder's and not the source's.
fn place<'a>(from: &Path, to: &'a Path) -> Result<&'a std::ffi::OsStr> {
    let name = to.file_name().with_context(|| format!("\"{}\" names no file", to.display()))?;
    ensure!(!to.is_dir(), "\"{}\" is a folder; name a file in it", to.display());
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    ensure!(folder.is_dir(), "\"{}\" cannot be written: there is no folder \"{}\"", to.display(), folder.display());
    ensure!(!files::same(from, to), "\"{}\" would be written over itself", to.display());
    files::check(to)?;
    Ok(name)
}

/// B sequences of T steps: normal-sized numbers, or indices for an embedding. Where the model tells padding from values, all sequences
/// but the first are padded.
fn random_input(model: &Model, [b, t]: [usize; 2], seed: u64) -> Result<Array3<f32>> {
    let mut random = rand_pcg::Pcg64::seed_from_u64(seed);
    let (mut entries, mut padding) = (None, None);
    if let Some((name, layer)) = model.layers().next() {
        // Settings, by the names that files give them
        let settings = serde_json::to_value(layer)?;
        if let Layer::Embedding(_) = layer {
            entries = model.parameters()?.get(&format!("{name}.weight")).map(|weight| weight.shape()[0]);
            padding = (settings["mask_zero"] == true).then_some(0.0);
        }
        if let Layer::Masking(_) = layer {
            padding = settings["value"].as_f64().map(|value| value as f32);
        }
    }
    let first = usize::from(padding.is_some()); // the index of padding is no other
    let number = || match entries {
        Some(entries) if entries > first => random.random_range(first..entries) as f32,
        Some(_) => 0.0,
        None => random.random_range(-1.0..1.0f32),
    };
    let mut x = Array3::from_shape_simple_fn((b, t, model.config()?.input()), number);
    if let Some(value) = padding {
        for n in 1..b {
            x.slice_mut(s![n, t - t * n / (b + 1).., ..]).fill(value);
        }
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgpu_lstm::{Dense, Device, Lstm, Masking, Sequential};

    fn convert(arguments: &[&Path], options: &[&str]) -> Result<String> {
        let words = ["convert".into()].into_iter().chain(arguments.iter().map(|path| path.as_os_str().to_os_string()));
        let words = words.chain(options.iter().map(Into::into));
        run(Arguments::try_parse_from(words)?).map(|(_, said)| said)
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A model whose outputs are large: logits, say.
    fn logits(folder: &Path, factor: f32) -> PathBuf {
        let layers = Sequential::new(3).add(Lstm::new(16)).add(Dense::new(5));
        let mut model = layers.build(&Device::cpu(), 1).unwrap();
        let mut parameters = model.parameters().unwrap();
        parameters.get_mut("dense.weight").unwrap().mapv_inplace(|weight| factor * weight);
        model.set_parameters(parameters).unwrap();
        let path = folder.join("logits.safetensors");
        model.save(&path).unwrap();
        path
    }

    #[test]
    fn models_of_any_size_of_output_are_converted() {
        let folder = tempfile::tempdir().unwrap();
        for factor in [1e-6, 1.0, 1e3, 1e8] {
            let from = logits(folder.path(), factor);
            for (to, options) in [
                ("m.keras", &[][..]),
                ("m.onnx", &[]),
                ("w.safetensors", &["--to", "pytorch"]),
                ("o.safetensors", &["--to", "own"]),
            ] {
                let said = convert(&[&from, &folder.path().join(to)], options).unwrap();
                assert!(said.contains(to) && said.contains("on random input outputs "), "{said}");
            }
        }
        assert_eq!(names(folder.path()), ["logits.safetensors", "m.keras", "m.onnx", "o.safetensors", "w.safetensors"]);
    }

    /// The padding is told from values, and runs through both.
    #[test]
    fn masked_models_are_compared_with_padding() {
        let folder = tempfile::tempdir().unwrap();
        let layers = Sequential::new(2).add(Masking::new(-1.0)).add(Lstm::new(3).return_sequences(true));
        let model = layers.build(&Device::cpu(), 1).unwrap();
        let x = random_input(&model, [3, 9], 1).unwrap();
        let padded = |n: usize| (0..9).filter(|&t| x.slice(s![n, t, ..]).iter().all(|&value| value == -1.0)).count();
        assert_eq!([0, 1, 2].map(padded), [0, 2, 4]);
        let (from, to) = (folder.path().join("m.safetensors"), folder.path().join("m.keras"));
        model.save(&from).unwrap();
        convert(&[&from, &to], &[]).unwrap();
        assert!(convert(&[&to, &folder.path().join("m.onnx")], &[]).is_err(), "ONNX tells no padding from values");
    }

    #[test]
    fn a_target_that_cannot_be_written_is_refused_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let from = logits(folder.path(), 1.0);
        let before = std::fs::read(&from).unwrap();
        for (to, options, wanted) in [
            ("y.h5", &[][..], "ends in .keras"),
            ("y.pt", &[], "ends in .safetensors"),
            ("y.pt", &["--to", "pytorch"], "ends in .safetensors"),
            ("y.ckpt", &["--to", "own"], "ends in .safetensors"),
            ("y.onnx", &["--to", "keras"], "does not fit --to keras"),
            ("y.keras", &["--to", "onnx"], "does not fit --to onnx"),
            ("y.safetensors", &["--to", "keras"], "does not fit --to keras"),
            ("y.safetensors", &[], "--to own or --to pytorch"),
            ("y.KERAS", &[], "Keras reads no such name"),
            ("y.tflite", &[], "no ending of a format that is written"),
            ("y", &["--to", "own"], "no ending of a format that is written"),
            ("none/y.onnx", &[], "no folder"),
            ("logits.safetensors", &["--to", "own"], "over itself"),
            ("./logits.safetensors", &["--to", "pytorch"], "over itself"),
        ] {
            let to = folder.path().join(to);
            let error = format!("{:#}", convert(&[&from, &to], options).unwrap_err());
            assert!(error.contains(wanted) && error.contains(&to.display().to_string()), "{error}");
        }
        std::fs::create_dir(folder.path().join("folder.onnx")).unwrap();
        assert!(convert(&[&from, &folder.path().join("folder.onnx")], &[]).is_err());
        assert_eq!(names(folder.path()), ["folder.onnx", "logits.safetensors"]);
        assert_eq!(std::fs::read(&from).unwrap(), before);
    }

    /// A layer that Keras lacks fails after the target's folder was made: an older file stays.
    #[test]
    fn an_older_file_stays_if_the_conversion_fails() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("m.safetensors"), folder.path().join("m.keras"));
        Sequential::new(3).add(Lstm::new(4).peepholes(true)).build(&Device::cpu(), 1).unwrap().save(&from).unwrap();
        std::fs::write(&to, "older").unwrap();
        let error = format!("{:#}", convert(&[&from, &to], &[]).unwrap_err());
        assert!(error.contains("m.safetensors") && error.contains("peepholes"), "{error}");
        assert_eq!(std::fs::read(&to).unwrap(), b"older");
        assert_eq!(names(folder.path()), ["m.keras", "m.safetensors"]);
    }

    #[test]
    fn operators_that_are_not_supported_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx/tf2onnx_gru_loop.onnx");
        let error = format!("{:#}", convert(&[&from, &folder.path().join("m.keras")], &[]).unwrap_err());
        let parts = ["tf2onnx_gru_loop.onnx", "not supported are: ", "(Loop): it has graphs inside, which are not run"];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_source_that_is_something_else_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("m.tflite"), folder.path().join("m.keras"));
        std::fs::write(&from, b"\x1c\0\0\0TFL3....").unwrap();
        let error = convert(&[&from, &to], &[]).unwrap_err().to_string();
        assert!(error.contains("m.tflite\" is a TensorFlow Lite model") && error.contains("tf2onnx"), "{error}");
    }
}
