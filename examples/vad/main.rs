//! The recurrent layer of silero-vad, which tells speech from other sounds, as a stream of frames: the LSTM is lifted from the
//! ONNX file by its name, its state stays on the device from frame to frame, and each frame's output becomes the probability of
//! speech. `examples/vad/reference.py` says where the file comes from, and makes the frames with what ONNX Runtime computes.
//!
//! ```text
//! cargo run --release --example vad -- silero_vad_16k_sequence.onnx frames.npz
//! ```

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/npy.rs"]
mod npy;

use anyhow::{Context, Result, bail};
use clap::Parser;
use common::say;
use ndarray::{Array1, Array2, ArrayView1, Axis, s};
use npy::Archive;
use std::path::{Path, PathBuf};
use std::time::Instant;
use wgpu_lstm::GpuOptions;
use wgpu_lstm::format::onnx::Graph;

#[derive(Parser)]
#[command(about = "Runs the LSTM of silero-vad frame by frame and compares it with ONNX Runtime")]
struct Arguments {
    /// silero_vad_16k_sequence.onnx of silero-vad 6.2.3
    model: PathBuf,
    /// Frames and what ONNX Runtime makes of them (examples/vad/reference.py)
    frames: PathBuf,
    /// The node to lift
    #[arg(long, default_value = "/recurrent/LSTM")]
    node: String,
    /// Tolerance: differences up to this are taken as equal
    #[arg(long, default_value_t = 1e-5)]
    tolerance: f32,
    /// Device to run on
    #[arg(long, value_enum, default_value_t = common::DeviceName::Auto)]
    device: common::DeviceName,
    /// Form of the recurrent weights
    #[arg(long, value_enum, default_value_t)]
    step_weights: common::Weights,
}

/// Frames, and what ONNX Runtime makes of them.
struct Reference {
    /// Features, [N, 128].
    x: Array2<f32>,
    /// Outputs, [N, 128].
    y: Array2<f32>,
    /// Final states, `[128]` each.
    h: Array1<f32>,
    c: Array1<f32>,
    /// Probabilities of speech, `[N]`.
    probabilities: Array1<f32>,
}

impl Reference {
    fn read(path: &Path) -> Result<Reference> {
        let mut file = Archive::open(path)?;
        Ok(Reference {
            x: file.array("x")?,
            y: file.array("y")?,
            h: file.array("h")?,
            c: file.array("c")?,
            probabilities: file.array("probabilities")?,
        })
    }
}

/// The layer after the LSTM: σ(w·relu(h) + b).
struct Head {
    weight: Array1<f32>,
    bias: f32,
}

impl Head {
    fn of(graph: &Graph) -> Result<Head> {
        let numbers = |name: &str| -> Result<Array1<f32>> {
            let value = graph.constant(name)?;
            let array = value.array::<f32>().with_context(|| format!("{name} is not f32"))?;
            Ok(array.iter().copied().collect())
        };
        let (weight, bias) = (numbers("output.weight")?, numbers("output.bias")?);
        match bias.len() {
            1 => Ok(Head { weight, bias: bias[0] }),
            other => bail!("output.bias has {other} numbers, expected 1"),
        }
    }

    fn probability(&self, h: ArrayView1<f32>) -> Result<f32> {
        if h.len() != self.weight.len() {
            bail!("the LSTM gives {} numbers, output.weight has {}", h.len(), self.weight.len());
        }
        let sum: f32 = h.iter().zip(&self.weight).map(|(h, w)| h.max(0.0) * w).sum();
        Ok(1.0 / (1.0 + (-sum - self.bias).exp()))
    }
}

fn main() -> Result<()> {
    env_logger::init();
    let arguments: Arguments = common::arguments();
    let device = arguments.device.open_with(GpuOptions::default(), arguments.step_weights)?;
    let graph = Graph::load(&arguments.model, &device)?;
    for node in graph.recurrent() {
        let features = node.input.map_or("unknown".into(), |count| count.to_string());
        say!("{} {}, features: {features}", node.op, node.name);
    }
    let lstm = graph.lift(&arguments.node)?;
    let head = Head::of(&graph)?;
    let Reference { x, y, h, c, probabilities } = Reference::read(&arguments.frames)?;
    if y.nrows() != x.nrows() || probabilities.len() != x.nrows() {
        bail!("{} frames, but {} outputs and {} probabilities", x.nrows(), y.nrows(), probabilities.len());
    }
    say!("running on {device}");

    let mut stream = lstm.stream(1)?;
    let (mut outputs, mut speech) = (Array2::<f32>::zeros(y.dim()), Array1::<f32>::zeros(x.nrows()));
    let mut milliseconds = Vec::new();
    for (k, frame) in x.axis_iter(Axis(0)).enumerate() {
        let start = Instant::now();
        let out = stream.feed(frame.insert_axis(Axis(0)).insert_axis(Axis(0)))?; // [1, 1, 128]
        speech[k] = head.probability(out.slice(s![0, 0, ..]))?;
        milliseconds.push(1e3 * start.elapsed().as_secs_f64());
        if out.dim().2 != y.ncols() {
            bail!("the LSTM gives {} numbers, the frames file has {}", out.dim().2, y.ncols());
        }
        outputs.row_mut(k).assign(&out.slice(s![0, 0, ..]));
    }
    let state = stream.state(0)?;

    milliseconds.sort_by(f64::total_cmp);
    let share = speech.iter().filter(|&&p| p > 0.5).count() as f64 / speech.len().max(1) as f64;
    say!(
        "{} frames of 32 ms, {:.1} % of them speech; {:.3} ms a frame (median)",
        speech.len(),
        100.0 * share,
        milliseconds.get(milliseconds.len() / 2).copied().unwrap_or_default()
    );
    let otherwise = speech.iter().zip(&probabilities).filter(|&(&a, &b)| (a > 0.5) != (b > 0.5)).count();
    say!("{otherwise} frames told otherwise than by ONNX Runtime; largest differences from it:");
    let mut equal = true;
    for (what, given, expected) in [
        ("outputs", outputs.flatten().to_owned(), y.flatten().to_owned()),
        ("h_n", Array1::from(state.h[0].clone()), h),
        ("c_n", Array1::from(state.c[0].clone()), c),
        ("probabilities", speech, probabilities),
    ] {
        let pairs = || given.iter().zip(&expected);
        // A NaN is no number within bounds.
        equal &= given.len() == expected.len();
        equal &= pairs().all(|(a, b)| (a - b).abs() <= arguments.tolerance);
        let largest = pairs().fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        let size = expected.iter().fold(0.0f32, |most, b| most.max(b.abs()));
        say!("  {what:14} {largest:.1e} (numbers up to {size:.1})");
    }
    if !equal {
        bail!("that is more than {:.0e}", arguments.tolerance);
    }
    Ok(())
}
