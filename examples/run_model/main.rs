//! Runs a model file of PyTorch, Keras, ONNX or this crate on arrays from disk.
//!
//! ```text
//! cargo run --release --example run_model -- model.pt --list
//! cargo run --release --example run_model -- model.pt --prefix encoder --input x.npy --lengths lengths.npy --output y.npz
//! ```
//!
//! Weights without an architecture (PyTorch) run as the recurrent layer that they are, and give `output`, `h_n` and `c_n`. A format is
//! a file here with two functions, `list` and `run`.

mod arrays;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/distinct.rs"]
mod distinct;
#[path = "../common/formats.rs"]
mod formats;
mod keras;
#[path = "../common/npy.rs"]
mod npy;
mod onnx;
mod own;
mod pytorch;

use anyhow::{Result, bail, ensure};
use arrays::Array;
use clap::Parser;
use common::say;
use formats::{Format, naming};
use ndarray::ArrayD;
use std::path::{Path, PathBuf};

/// Runs a model file on arrays from disk
#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// The model: .pt, .pth, .ckpt, .safetensors; .keras, .h5; .onnx
    model: PathBuf,
    /// An input, f32, f64, i64 or i32; [B, T, I] for a recurrent layer. Of PyTorch's, h_0 and c_0 can be given, too
    #[arg(long = "input", value_name = "[NAME=]FILE.npy")]
    inputs: Vec<String>,
    /// File for the outputs
    #[arg(long, value_name = "FILE.npz", required_unless_present = "list")]
    output: Option<PathBuf>,
    /// Layer to run where the file has several: the prefix of its tensors' names; PREFIX:rnn(relu) for an nn.RNN with ReLU
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Steps of each sequence, integers [B]
    #[arg(long, value_name = "FILE.npy")]
    lengths: Option<PathBuf>,
    /// Inputs and outputs are [T, B, ...]
    #[arg(long)]
    time_major: bool,
    /// Device to run on
    #[arg(long, value_enum, default_value = "auto")]
    device: common::DeviceName,
    /// Says what the file holds, and what of it is not supported
    #[arg(long)]
    list: bool,
}

/// A run that is requested of a format.
pub struct Request {
    /// Arrays with the names that they were given, in their order.
    pub inputs: Vec<(Option<String>, Array)>,
    pub lengths: Option<Vec<usize>>,
    pub prefix: Option<String>,
    pub time_major: bool,
    pub device: wgpu_lstm::Device,
}

impl Request {
    /// The input of that name, or the one without a name.
    pub fn input(&self, name: &str) -> Result<&Array> {
        let named = |own: &&(Option<String>, Array)| own.0.as_deref() == Some(name);
        let mut unnamed = self.inputs.iter().filter(|(name, _)| name.is_none());
        match (self.inputs.iter().find(named), unnamed.next(), unnamed.next()) {
            (Some((_, array)), None, _) | (None, Some((_, array)), None) => Ok(array),
            (None, None, _) => bail!("no --input is given for \"{name}\""),
            _ => bail!("several inputs are given for \"{name}\""),
        }
    }

    /// Refuses inputs of other names.
    pub fn known(&self, names: &[&str]) -> Result<()> {
        for (name, _) in &self.inputs {
            let name = name.as_deref().unwrap_or(names[0]);
            ensure!(names.contains(&name), "the model has no input \"{name}\"; it has: {}", names.join(", "));
        }
        Ok(())
    }
}

/// Arrays with their names.
pub type Outputs = Vec<(String, ArrayD<f32>)>;

fn main() -> Result<()> {
    env_logger::init();
    let arguments: Arguments = common::arguments();
    let format = Format::of(&arguments.model)?;
    if arguments.list {
        let text = match format {
            Format::Own => own::list(&arguments.model),
            Format::Pytorch => pytorch::list(&arguments.model),
            Format::Onnx => onnx::list(&arguments.model),
            Format::Keras => keras::list(&arguments.model),
        };
        let text = naming(&arguments.model, text)?;
        say!("{}", text.trim_end());
        return Ok(());
    }
    if let Some(output) = &arguments.output {
        wgpu_lstm::files::check(output)?;
        let inputs = arguments.inputs.iter().map(|input| input.split_once('=').map_or(&input[..], |(_, file)| file));
        let mut all = inputs.map(Path::new).chain([&*arguments.model]).chain(arguments.lengths.as_deref());
        let input = all.find(|input| wgpu_lstm::files::same(input, output));
        ensure!(input.is_none(), "\"{}\" would be written over an input, which is the same file", output.display());
    }
    let mut inputs = Vec::new();
    for input in &arguments.inputs {
        let (name, file) = match input.split_once('=') {
            Some((name, file)) => (Some(name.to_string()), file),
            None => (None, input.as_str()),
        };
        inputs.push((name, Array::read(file.as_ref())?));
    }
    let lengths = arguments.lengths.as_deref().map(arrays::lengths).transpose()?;
    let Arguments { prefix, time_major, .. } = arguments;
    let request = Request { inputs, lengths, prefix, time_major, device: arguments.device.open()? };
    let outputs = match format {
        Format::Own => own::run(&arguments.model, &request),
        Format::Pytorch => pytorch::run(&arguments.model, &request),
        Format::Onnx => onnx::run(&arguments.model, &request),
        Format::Keras => keras::run(&arguments.model, &request),
    };
    let outputs = naming(&arguments.model, outputs)?;
    // clap asks for it where --list is not given.
    arguments.output.map_or(Ok(()), |path| arrays::write(&path, &outputs))?;
    for (name, array) in &outputs {
        say!("{name} {:?}", array.shape());
    }
    Ok(())
}
