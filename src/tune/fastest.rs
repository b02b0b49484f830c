//! The fastest of several devices for a model, by running it on each.

use crate::device::Device;
use crate::error::Result;
use crate::fit::Fit;
use crate::gpu::GpuOptions;
use crate::lock::lock;
use crate::model::Sequential;
use crate::train::{Loss, Optimiser};
use ndarray::{Array3, ArrayD};
use std::fmt::Display;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Runs of a device that are not counted.
const WARM_UP: usize = 2;
/// Runs of a device after them.
const RUNS: usize = 5;
/// Time after which a device is not run again.
const BUDGET: Duration = Duration::from_millis(500);

/// The work for which a device is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Work {
    /// A prediction of a batch.
    Predict,
    /// A training step: forward, mean squared error, backward, Adam.
    Train,
}

/// Findings of this process: the model's layers, the sizes and the work, and true if the GPU was faster.
static FOUND: Mutex<Vec<(Key, bool)>> = Mutex::new(Vec::new());

#[derive(Debug, PartialEq)]
struct Key {
    config: Sequential,
    batch: usize,
    steps: usize,
    work: Work,
}

impl Device {
    /// The faster of the best hardware GPU and the CPU executor for predictions of a model, for batches of B sequences of T steps:
    /// [`Device::auto`] takes the GPU, and small models run faster on the CPU. Each runs a model with drawn weights a few times, copies to
    /// and from the GPU included; the result is kept for the process, and the log tells of it. Without a GPU nothing is measured.
    ///
    /// # Errors
    /// As [`Sequential::build`]; sizes of 0.
    ///
    /// ```
    /// use wgpu_lstm::{Dense, Device, Lstm, Sequential};
    /// let layers = Sequential::new(3).add(Lstm::new(8)).add(Dense::new(1));
    /// let device = Device::fastest(&layers, 1, 30)?; // B = 1, T = 30
    /// let model = layers.build(&device, 0)?;
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn fastest(config: &Sequential, batch: usize, steps: usize) -> Result<Device> {
        fastest(config, [batch, steps], Work::Predict)
    }

    /// [`Device::fastest`] for training steps, by one with the mean squared error and Adam.
    ///
    /// # Errors
    /// As [`Device::fastest`].
    pub fn fastest_for_training(config: &Sequential, batch: usize, steps: usize) -> Result<Device> {
        fastest(config, [batch, steps], Work::Train)
    }

    /// [`Device::fastest`] for other work: `prepare` makes it ready on a device, a model of a [`Network`](crate::Network) with a batch for
    /// example, and returns what is then run a few times. `what` names it in the log; the result is not kept.
    ///
    /// # Errors
    /// Those of the work on the CPU.
    ///
    /// ```
    /// use ndarray::Array3;
    /// use wgpu_lstm::{Concat, Dense, Device, Inputs, Lstm, Network};
    /// let mut net = Network::new();
    /// let (x, price) = (net.input("x", 3), net.input("price", 1));
    /// let hidden = net.layer(Lstm::new(8).return_sequences(true)).of(x);
    /// let both = net.layer(Concat::new(2)).of([hidden, price]);
    /// let next = net.layer(Dense::new(1)).of(both);
    /// let net = net.output("next", next);
    /// let (x, price) = (Array3::zeros((1, 30, 3)), Array3::zeros((1, 30, 1)));
    /// let device = Device::fastest_by("a prediction", |device| {
    ///     let model = net.clone().build(device, 0)?;
    ///     let (x, price) = (&x, &price);
    ///     Ok(move || model.predict(Inputs::new().add("x", x.view()).add("price", price.view())).map(drop))
    /// })?;
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn fastest_by<W, E>(what: &str, mut prepare: impl FnMut(&Device) -> Result<W, E>) -> Result<Device, E>
    where
        W: FnMut() -> Result<(), E>,
        E: Display,
    {
        faster(what, |device| least(prepare(device)?)).map(|(device, _)| device)
    }

    /// The least time of a few runs of a model on this device, copies to and from it included.
    ///
    /// # Errors
    /// As [`Device::fastest`]; a device that failed or has no memory left.
    ///
    /// ```
    /// use wgpu_lstm::{Dense, Device, Lstm, Sequential, tune::Work};
    /// let layers = Sequential::new(3).add(Lstm::new(8)).add(Dense::new(1));
    /// let time = Device::cpu().time_of(&layers, 1, 30, Work::Predict)?; // B = 1, T = 30
    /// assert!(!time.is_zero());
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn time_of(&self, config: &Sequential, batch: usize, steps: usize, work: Work) -> Result<Duration> {
        let mut model = config.clone().build(self, 0)?;
        let x = Array3::zeros((batch, steps, config.input()));
        let mut once: Box<dyn FnMut() -> Result<()>> = match work {
            Work::Predict => Box::new(|| model.predict(x.view()).map(drop)),
            Work::Train => {
                let y = ArrayD::zeros(model.predict(x.view())?.raw_dim());
                model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-3))?;
                let (x, model) = (&x, &mut model);
                Box::new(move || {
                    model.fit(x.view(), y.view(), Fit::new().epochs(1).batch_size(batch).shuffle(false)).map(drop)
                })
            }
        };
        least(&mut once)
    }
}

/// The least time of a few runs.
fn least<E>(mut once: impl FnMut() -> Result<(), E>) -> Result<Duration, E> {
    let (start, mut least) = (Instant::now(), Duration::MAX);
    for run in 0..WARM_UP + RUNS {
        let begun = Instant::now();
        once()?;
        let is_late = start.elapsed() > BUDGET;
        if run >= WARM_UP || is_late {
            least = least.min(begun.elapsed());
        }
        if is_late {
            break;
        }
    }
    Ok(least)
}

fn fastest(config: &Sequential, [batch, steps]: [usize; 2], work: Work) -> Result<Device> {
    let key = Key { config: config.clone(), batch, steps, work };
    let known = lock(&FOUND).iter().find(|(known, _)| *known == key).map(|(_, gpu)| *gpu);
    match known {
        Some(true) => return Ok(Device::auto()),
        Some(false) => return Ok(Device::cpu()),
        None => {}
    }
    let what = match work {
        Work::Predict => "a prediction",
        Work::Train => "a training step",
    };
    let what = format!("{what} of B = {batch}, T = {steps}");
    let (device, found) = faster(&what, |device| device.time_of(config, batch, steps, work))?;
    if let Some(gpu) = found {
        lock(&FOUND).push((key, gpu));
    }
    Ok(device)
}

/// The faster of the best hardware GPU and the CPU executor by the time of some work on each, and true if it was the GPU; `None` where only
/// one of them ran.
fn faster<E: Display>(
    what: &str,
    mut time: impl FnMut(&Device) -> Result<Duration, E>,
) -> Result<(Device, Option<bool>), E> {
    let cpu = Device::cpu();
    let gpu = match Device::gpu(&GpuOptions::default()) {
        Ok(gpu) => gpu,
        Err(reason) => {
            log::info!("using the CPU executor: {reason}");
            return Ok((cpu, None));
        }
    };
    let on_cpu = time(&cpu)?;
    let on_gpu = match time(&gpu) {
        Ok(time) => time,
        Err(reason) => {
            log::warn!("using the CPU executor: {gpu} did not run the model: {reason}");
            return Ok((cpu, None));
        }
    };
    let faster = on_gpu < on_cpu;
    let chosen = if faster { "the GPU" } else { "the CPU executor" };
    log::info!("using {chosen}: {what} takes {on_cpu:.1?} on the CPU, {on_gpu:.1?} on {gpu}");
    Ok((if faster { gpu } else { cpu }, Some(faster)))
}
