//! Runs a case often enough and says how long it took.

use crate::cases::Case;
use crate::load::Load;
use anyhow::{Result, ensure};
use ndarray::{Array3, Axis};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};
use wgpu_lstm::network::{Batch, Node, Purpose, network};
use wgpu_lstm::plan::{Plan, Role};
use wgpu_lstm::schedule::Builder;
use wgpu_lstm::{
    Callback, Device, EpochEvent, Fit, Flow, Loss, LstmOutput, Model, Optimiser, Sequential, Strategy, Stream, Update,
};

/// Operations to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// A forward pass over a batch of sequences
    Forward,
    /// A training step: forward, loss, backward, Adam
    Train,
    /// A forward pass whose states stay on the device for the next one
    Stream,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Forward => "forward",
            Mode::Train => "train",
            Mode::Stream => "stream",
        }
    }
}

/// Peak rates of a device: of its best large product and of a copy.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub flops: f64,
    pub bytes: f64,
}

/// A measurement.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Row {
    pub name: String,
    pub version: String,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub label: String,
    pub device: String,
    /// Most threads of a run on the CPU executor; processors where a GPU runs it.
    pub threads: usize,
    /// Busy processes beside it.
    pub neighbours: usize,
    /// Threads that did the same with one model at the same time.
    pub callers: usize,
    /// Processes that did the same at the same time.
    pub processes: usize,
    pub mode: String,
    pub t: usize,
    pub b: usize,
    pub i: usize,
    pub h: usize,
    pub l: usize,
    pub d: usize,
    pub dtype: String,
    pub variant: String,
    pub strategy: String,
    /// Kernel calls of a pass.
    pub dispatches: usize,
    /// Median.
    pub ms: f64,
    pub mean_ms: f64,
    /// Median of the time of the host alone: without its waits for the GPU. `None` where several callers wait.
    #[serde(default)]
    pub host_ms: Option<f64>,
    /// Time on the GPU by its own clock, copies left out: the median of three runs.
    pub gpu_ms: Option<f64>,
    /// Least and most of the runs.
    pub ms_range: [f64; 2],
    pub runs: usize,
    pub gflops: f64,
    /// Larger of FLOPs over the device's rate of products and bytes over its rate of copies, every buffer moved once.
    pub floor_ms: f64,
    /// floor_ms / ms.
    pub share: f64,
    /// Bytes of the plan's buffers.
    pub memory: u64,
}

impl Row {
    pub const HEAD: &str = "mode    |     T    B    I    H  L D | variant           | strategy       dispatches |       ms  (least   most) |  host ms device ms |  GFLOP/s | floor ms  share";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let apart = |ms: Option<f64>| ms.map_or("-".to_string(), |ms| format!("{ms:.4}"));
        write!(
            f,
            "{:7} | {:5} {:4} {:4} {:4} {:2} {} | {:17} | {:14} {:10} | {:8.4} ({:.4} {:.4}) | {:>8} {:>9} | {:8.1} | {:8.4} {:5.0} %",
            self.mode,
            self.t,
            self.b,
            self.i,
            self.h,
            self.l,
            self.d,
            self.variant,
            self.strategy,
            self.dispatches,
            self.ms,
            self.ms_range[0],
            self.ms_range[1],
            apart(self.host_ms),
            apart(self.gpu_ms),
            self.gflops,
            self.floor_ms,
            100.0 * self.share
        )?;
        if self.neighbours > 0 || self.callers > 1 || self.processes > 1 {
            let Row { neighbours, callers, processes, mean_ms, .. } = self;
            write!(f, " | mean {mean_ms:8.4}, {neighbours} neighbours, {callers} callers, {processes} processes")?;
        }
        Ok(())
    }
}

/// Milliseconds of a run.
#[derive(Clone, Copy, Debug)]
struct Time {
    all: f64,
    /// Without the waits for the device.
    host: f64,
}

/// A moment, and the waits for the device up to it.
#[derive(Clone, Copy)]
struct Moment {
    at: Instant,
    waited: Duration,
}

impl Moment {
    fn now(device: &Device) -> Moment {
        Moment { at: Instant::now(), waited: device.waited() }
    }

    /// Time from this moment to a later one, for each of so many runs.
    fn until(self, later: Moment, runs: usize) -> Time {
        let ms = |time: Duration| time.as_secs_f64() * 1e3 / runs as f64;
        let all = later.at - self.at;
        Time { all: ms(all), host: ms(all.saturating_sub(later.waited - self.waited)) }
    }
}

/// Times of every run after three to warm up; `once` says how long a run took.
fn times(budget: f64, mut once: impl FnMut() -> Result<Time>) -> Result<Vec<Time>> {
    let mut last = once()?;
    if last.all < 2000.0 {
        for _ in 0..2 {
            last = once()?;
        }
    }
    (0..runs(budget, last)).map(|_| once()).collect()
}

/// Runs in a budget of seconds.
fn runs(budget: f64, time: Time) -> usize {
    (budget * 1e3 / time.all.max(1e-4)).clamp(3.0, 2000.0) as usize
}

fn clock<R>(device: &Device, work: impl FnOnce() -> wgpu_lstm::Result<R>) -> Result<Time> {
    let start = Moment::now(device);
    let result = work()?;
    let time = start.until(Moment::now(device), 1);
    drop(result);
    Ok(time)
}

/// Numbers in their order.
pub fn sorted(all: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut all: Vec<f64> = all.collect();
    all.sort_by(f64::total_cmp);
    all
}

/// The moments at which epochs of a fit end.
struct Epochs {
    device: Device,
    ends: Arc<Mutex<Vec<Moment>>>,
}

impl Callback for Epochs {
    fn on_epoch(&mut self, _: &EpochEvent, _: &mut Model) -> wgpu_lstm::Result<Flow> {
        self.ends.lock().expect("no callback panics").push(Moment::now(&self.device));
        Ok(Flow::Continue)
    }
}

/// Best times of a product of 1,024³ (512³ on software adapters, which are slow) and of a copy of 64 MB.
pub fn rates(device: &Device) -> Result<Rates> {
    let n = if device.adapter().is_some() && !device.is_hardware() { 512 } else { 1024 };
    let best = |builder: Builder| -> Result<f64> {
        // SAFETY: one product and one copy, each of whole buffers, as a schedule has them.
        let plan = unsafe { builder.finish()?.trust() };
        let last = wgpu_lstm::plan::BufferId(plan.buffers.len() - 1);
        let executable = device.compile(plan)?;
        let all = times(0.3, || {
            clock(device, || {
                executable.run()?;
                executable.read((last, 0), 1)?;
                Ok(())
            })
        })?;
        Ok(sorted(all.iter().map(|time| time.all))[0] / 1e3)
    };
    let mut product = Builder::new("product", device.capabilities().clone());
    let [a, b] = ["a", "b"].map(|name| product.buffer(name, (n * n) as u64, Role::Input));
    let c = product.buffer("c", (n * n) as u64, Role::Output)?;
    product.matmul(wgpu_lstm::kernel::Matmul::plain(n, n, n), a?, b?, c);
    let len = 1 << 24;
    let mut copy = Builder::new("copy", device.capabilities().clone());
    let (from, to) = (copy.buffer("from", len, Role::Input)?, copy.buffer("to", len, Role::Output)?);
    copy.copy_run(len as u32, (from, 0), (to, 0));
    Ok(Rates { flops: 2.0 * (n as f64).powi(3) / best(product)?, bytes: 8.0 * len as f64 / best(copy)? })
}

/// Times a case.
pub fn row(device: &Device, mode: Mode, case: Case, rates: Rates, budget: f64, load: &Load) -> Result<Row> {
    let Case { t, b, i, h, l, d, .. } = case;
    let lstm = case.lstm();
    let lengths = case.variant.lengths(b, t);
    let mut generator = Pcg64::seed_from_u64(1);
    let mut random =
        |shape: (usize, usize, usize)| Array3::from_shape_simple_fn(shape, || generator.random_range(-1.0f32..1.0));
    let layers = [Node::new("lstm", i, lstm.clone())];
    let adam = Update::new(Optimiser::adam(1e-3));
    let purpose = match mode {
        Mode::Forward | Mode::Stream => Purpose::Stream,
        Mode::Train => Purpose::Train { loss: &Loss::MeanSquaredError.into(), update: &adam, weighted: false },
    };
    let mut turn = 0;
    let all = match mode {
        Mode::Forward => {
            // time-major, as PyTorch and ONNX have it by default
            let layer = lstm.build(device, i, 1)?.time_major(true);
            let inputs: Vec<_> = (0..4).map(|_| random((t, b, i))).collect();
            let mut into = LstmOutput::default();
            times(budget, || {
                turn += 1;
                let x = inputs[turn % 4].view();
                clock(device, || match &lengths {
                    None => layer.forward_into(x, None, &mut into),
                    Some(lengths) => pollster::block_on(layer.forward_into_async(x, Some(lengths), None, &mut into)),
                })
            })?
        }
        Mode::Stream => {
            ensure!(lengths.is_none(), "a stream has no lengths; time them in the modes forward and train");
            let model = Sequential::new(i).add(lstm).build(device, 1)?;
            let inputs: Vec<_> = (0..4).map(|_| random((b, t, i))).collect();
            let together = Barrier::new(load.callers);
            let caller = |mut stream: Stream| -> Result<Vec<Time>> {
                let mut turn = 0;
                let mut once = || {
                    turn += 1;
                    clock(device, || stream.feed(inputs[turn % 4].view()))
                };
                once()?;
                together.wait();
                let start = Instant::now();
                let mut all = Vec::new();
                while all.len() < 3 || start.elapsed().as_secs_f64() < budget {
                    all.push(once()?);
                }
                Ok(all)
            };
            let streams = (0..load.callers).map(|_| model.stream(b)).collect::<wgpu_lstm::Result<Vec<_>>>()?;
            std::thread::scope(|scope| {
                let callers: Vec<_> = streams.into_iter().map(|stream| scope.spawn(|| caller(stream))).collect();
                callers.into_iter().map(|caller| caller.join().expect("a caller ends")).collect::<Result<Vec<_>>>()
            })?
            .concat()
        }
        Mode::Train => {
            let width = lstm.output();
            let mut model = Sequential::new(i).add(lstm).build(device, 1)?;
            model.compile(Loss::MeanSquaredError, adam.clone())?;
            const BATCHES: usize = 4;
            let x = random((BATCHES * b, t, i));
            let y = Array3::zeros((BATCHES * b, t, width));
            // Steps of a fit that goes on: its second epoch and later ones.
            let mut epochs = |count: usize, batches: usize| -> Result<Vec<Time>> {
                let (x, y) =
                    (x.slice_axis(Axis(0), (..batches * b).into()), y.slice_axis(Axis(0), (..batches * b).into()));
                let ends = Arc::new(Mutex::new(Vec::new()));
                let callback = Epochs { device: device.clone(), ends: ends.clone() };
                let mut fit = Fit::new().epochs(1 + count).batch_size(b).shuffle(false).callback(callback);
                if let Some(lengths) = &lengths {
                    fit = fit.lengths(lengths.repeat(batches));
                }
                model.fit(x, y, fit)?;
                let ends = ends.lock().expect("no callback panics");
                Ok(ends.windows(2).map(|pair| pair[0].until(pair[1], batches)).collect())
            };
            let once = epochs(1, 1)?[0];
            let batches = if once.all > 2000.0 { 1 } else { BATCHES };
            let last = if once.all > 2000.0 { once } else { epochs(2, batches)?[1] };
            epochs(runs(budget / batches as f64, last), batches)?
        }
    };
    let host_ms = (load.callers == 1).then(|| sorted(all.iter().map(|time| time.host))[all.len() / 2]);
    let all = sorted(all.iter().map(|time| time.all));
    let ms = all[all.len() / 2];
    // After the runs, which measure launches where they are to be measured.
    let capabilities = device.tuned_capabilities();
    let plan = network(&layers, Batch::new(b, t).ragged(case.variant.ragged), purpose, &capabilities)?.plan;
    log::info!("{plan}");
    let gpu_ms = if device.adapter().is_some() { gpu_time(device, &plan)? } else { None };
    let floor_ms = plan.floor_ms(rates.flops, rates.bytes);
    Ok(Row {
        name: "wgpu-lstm".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        label: load.label.clone(),
        device: device.to_string(),
        threads: device.threads().map_or_else(|| std::thread::available_parallelism().map(|count| count.get()), Ok)?,
        neighbours: load.neighbours,
        callers: load.callers,
        processes: 1,
        mode: mode.name().into(),
        t,
        b,
        i,
        h,
        l,
        d,
        dtype: case.dtype().into(),
        variant: case.variant.name.into(),
        // As the plan says it: some layers go step by step on every device.
        strategy: match &plan.strategy {
            text if text.contains("grid:") => Strategy::Grid.name().into(),
            text if text.contains("per step") => Strategy::PerStep.name().into(),
            _ => Strategy::WholeSequence.name().into(),
        },
        dispatches: plan.commands.len(),
        ms,
        mean_ms: all.iter().sum::<f64>() / all.len() as f64,
        host_ms,
        gpu_ms,
        ms_range: [all[0], all[all.len() - 1]],
        runs: all.len(),
        gflops: plan.flops() as f64 / ms / 1e6,
        floor_ms,
        share: floor_ms / ms,
        memory: plan.bytes(),
    })
}

fn gpu_time(device: &Device, plan: &Plan) -> Result<Option<f64>> {
    let executable = device.compile(plan.clone())?;
    let (start, mut times) = (Instant::now(), Vec::new());
    // A GPU that was idle runs slower at first.
    while times.len() < 5 || (times.len() < 100 && start.elapsed().as_secs_f64() < 0.1) {
        let Some(time) = executable.gpu_milliseconds()? else { return Ok(None) };
        times.push(time);
    }
    times.sort_by(f64::total_cmp);
    Ok(Some(times[times.len() / 2]))
}
