//! Measurements of launches on a device.

use super::report::{LaunchTime, PassTuning, TuningReport};
use super::sample::Length;
use super::tuner::Tuner;
use crate::device::{Device, Executable};
use crate::error::{Error, Result};
use crate::plan::{Capabilities, Choices, Tunable, TunedLaunch};
use std::time::Duration;

/// Launches that are measured, beside the best by the model of each strategy, kernel or tile.
const MOST: usize = 8;
/// Runs of a launch.
const RUNS: u32 = 5;
/// A launch that takes this many times as long as the best is not run again.
const HOPELESS: f64 = 2.0;

/// Repeats of the first sample, by which the others are made as long as they should be.
const FIRST_REPEATS: u32 = 8;

/// The launches to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The best few by the model of cost, within the device's budget.
    Best,
    /// All, without a budget; nothing is kept.
    All,
}

impl Device {
    /// Makes a plan by the device's choices; where its tuning says so, passes without one are measured before.
    pub(crate) async fn plan<P>(&self, make: impl Fn(&Capabilities) -> Result<P>) -> Result<P> {
        let Some(tuner) = self.tuner() else { return make(self.capabilities()) };
        if tuner.measures() {
            tuner.load(self.capabilities());
            let recording = self.recording_capabilities();
            let plan = make(&recording)?;
            let known = |pass: &Tunable| tuner.find(pass).is_some();
            if recording.choices.asked().iter().all(known) {
                return Ok(plan);
            }
            drop(plan);
            for pass in recording.choices.asked() {
                // A device that failed says so to who runs the plan.
                if let Err(error) = known_or_measured(self, tuner, &pass).await {
                    log::warn!("{pass} is not measured, the model of cost decides: {error}");
                }
            }
        }
        make(&self.tuned_capabilities())
    }

    /// The device's capabilities with its choices of launches, those that were measured or came from a file: a plan by them is the one that
    /// models on this device run.
    ///
    /// ```
    /// use wgpu_lstm::{Device, Lstm};
    /// let device = Device::cpu(); // which has no choices
    /// let plan = Lstm::new(8).plan(3, 4, 10, &device.tuned_capabilities())?; // I = 3, B = 4, T = 10
    /// assert_eq!(plan.flops(), Lstm::new(8).plan(3, 4, 10, device.capabilities())?.flops());
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn tuned_capabilities(&self) -> Capabilities {
        let choices = self.tuner().map_or_else(Choices::default, Tuner::choices);
        let grid_workgroups = self.grid().unwrap_or(0);
        Capabilities { choices, grid_workgroups, ..self.capabilities().clone() }
    }

    /// The same, which record what plans ask for.
    fn recording_capabilities(&self) -> Capabilities {
        let tuned = self.tuned_capabilities();
        Capabilities { choices: tuned.choices.recording(), ..tuned }
    }

    /// Has the passes of a plan measured that have no choice yet.
    pub(crate) async fn tune<P>(
        &self,
        make: impl Fn(&Capabilities) -> Result<P>,
        which: Which,
    ) -> Result<TuningReport> {
        let mut report = TuningReport { passes: Vec::new() };
        let Some(tuner) = self.tuner() else { return Ok(report) };
        let recording = self.recording_capabilities();
        drop(make(&recording)?);
        for pass in recording.choices.asked() {
            report.passes.extend(match which {
                Which::Best => known_or_measured(self, tuner, &pass).await?,
                Which::All => measure(self, &pass, which, None).await?,
            });
        }
        Ok(report)
    }

    /// Writes the device's choices to a file that [`Tuning::File`](crate::Tuning::File) reads: JSON, with the measurements that they rest on.
    ///
    /// # Errors
    /// The CPU executor, which has no choices; a file that cannot be written.
    ///
    /// ```no_run
    /// use wgpu_lstm::{Dense, Device, GpuOptions, Lstm, Sequential, Tuning};
    /// let device = Device::gpu(&GpuOptions::default())?;
    /// let mut model = Sequential::new(3).add(Lstm::new(64)).add(Dense::new(1)).build(&device, 0)?;
    /// println!("{}", model.tune(32, 100)?); // B = 32, T = 100
    /// device.save_tuning("tuning.json")?;
    /// let again = Device::gpu(&GpuOptions { tuning: Tuning::File("tuning.json".into()), ..GpuOptions::default() })?;
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn save_tuning(&self, path: impl AsRef<std::path::Path>) -> Result<()> {
        match self.tuner() {
            Some(tuner) => tuner.save_to(path.as_ref()),
            None => Err(Error::Config("the CPU executor has no choices to save; tune a model on a GPU".into())),
        }
    }
}

/// The known tuning of a pass or a product, else the result of measuring it; `None` if it cannot be measured.
async fn known_or_measured(device: &Device, tuner: &Tuner, pass: &Tunable) -> Result<Option<PassTuning>> {
    tuner.load(device.capabilities());
    let find = || tuner.find(pass);
    if let Some(known) = find() {
        return Ok(Some(known));
    }
    let _alone = tuner.measuring.lock().await;
    // Another thread may have measured it meanwhile.
    if let Some(known) = find() {
        return Ok(Some(known));
    }
    let measured = measure(device, pass, Which::Best, Some(tuner.budget)).await?;
    if let Some(measured) = &measured {
        log::info!("tuned: {measured}");
        tuner.add(measured.clone());
        tuner.save().await;
    }
    Ok(measured)
}

/// Measures launches of a pass or a product, the model's choice first, and takes the fastest; `None` if the device has no clock. Launches that are
/// refused or do not fit into memory are left out.
async fn measure(
    device: &Device,
    pass: &Tunable,
    which: Which,
    budget: Option<Duration>,
) -> Result<Option<PassTuning>> {
    let capabilities = device.capabilities();
    if pass.candidates(capabilities).is_empty() {
        return Ok(None);
    }
    let by_model = pass.by_model(capabilities);
    let us = pass.cost(&by_model, capabilities).us / pass.steps() as f64;
    let mut spent = Spent::new(budget);
    let Some(length) = calibrate(device, pass, us, by_model, &mut spent).await? else {
        log::info!("{pass} is not measured: the device has no clock");
        return Ok(None);
    };
    let launches = launches(pass, by_model, which, capabilities);
    let (mut measured, mut refused): (Vec<LaunchTime>, _) = (Vec::new(), None);
    for (index, &launch) in launches.iter().enumerate() {
        if index > 0 && spent.all() {
            log::info!("{pass}: {} of {} launches were measured in the time for it", index, launches.len());
            break;
        }
        let best = measured.iter().map(|time| time.measured_us).fold(f64::INFINITY, f64::min);
        match time(device, &length, launch, best, &mut spent).await {
            Ok(time) => measured.extend(time),
            Err(error) => {
                log::warn!("{pass}: {launch} is left out: {error}");
                refused = Some(error);
            }
        }
    }
    let fastest = measured.iter().min_by(|a, b| a.measured_us.total_cmp(&b.measured_us));
    let Some(choice) = fastest.map(|time| time.launch) else { return refused.map_or(Ok(None), Err) };
    Ok(Some(PassTuning { pass: *pass, choice, by_model, sample_steps: length.what.steps(), measured }))
}

/// A length of samples that takes about the time that it should, since the model's estimate may be far off.
async fn calibrate(
    device: &Device,
    pass: &Tunable,
    estimated_us: f64,
    launch: TunedLaunch,
    spent: &mut Spent,
) -> Result<Option<Length>> {
    let first = Length::new(pass, estimated_us)?;
    let first = Length { repeats: first.repeats.min(FIRST_REPEATS), ..first };
    let executable = first.compile(device, launch).await?;
    let mut us = f64::INFINITY;
    // The first run also prepares what the driver has put off.
    for _ in 0..2 {
        let Some(now) = first.run(&executable).await? else { return Ok(None) };
        spent.add(now * first.repeats as f64);
        us = us.min(now);
    }
    Length::new(pass, us / first.what.steps() as f64).map(Some)
}

/// The launches to measure, the model's choice first.
fn launches(pass: &Tunable, by_model: TunedLaunch, which: Which, capabilities: &Capabilities) -> Vec<TunedLaunch> {
    let cost = |launch: &TunedLaunch| pass.cost(launch, capabilities).us;
    let mut sorted = pass.candidates(capabilities);
    sorted.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
    let mut chosen = vec![by_model];
    for (rank, launch) in sorted.iter().enumerate() {
        let first = !sorted[..rank].iter().any(|better| better.is_like(launch));
        if *launch != by_model && (which == Which::All || rank < MOST || first) {
            chosen.push(*launch);
        }
    }
    chosen
}

/// The least time of some runs of a launch; `None` if the device has no clock.
async fn time(
    device: &Device,
    length: &Length,
    launch: TunedLaunch,
    best: f64,
    spent: &mut Spent,
) -> Result<Option<LaunchTime>> {
    let executable: Executable = length.compile(device, launch).await?;
    let (mut least, mut runs) = (f64::INFINITY, 0);
    for run in 0..=RUNS {
        let Some(us) = length.run(&executable).await? else { return Ok(None) };
        spent.add(us * length.repeats as f64);
        // The first run also prepares what the driver has put off.
        if run > 0 {
            (least, runs) = (least.min(us), runs + 1);
        }
        if runs > 0 && (least > HOPELESS * best || spent.all()) {
            break;
        }
    }
    let cost = length.what.cost(&launch, device.capabilities());
    Ok(Some(LaunchTime {
        launch,
        model_us: cost.us,
        measured_us: least,
        runs,
        dispatches: cost.dispatches,
        threads: cost.threads,
        weight_bytes: cost.bytes,
        multiply_adds: cost.fmas,
    }))
}

/// Time spent of a budget: by the host's clock, in browsers that of the samples alone.
struct Spent {
    budget: Option<Duration>,
    samples_us: f64,
    #[cfg(not(target_arch = "wasm32"))]
    begun: std::time::Instant,
}

impl Spent {
    fn new(budget: Option<Duration>) -> Spent {
        Spent {
            budget,
            samples_us: 0.0,
            #[cfg(not(target_arch = "wasm32"))]
            begun: std::time::Instant::now(),
        }
    }

    /// Counts a sample.
    fn add(&mut self, us: f64) {
        self.samples_us += us;
    }

    /// True if the budget is spent.
    fn all(&self) -> bool {
        #[cfg(not(target_arch = "wasm32"))]
        let spent = self.begun.elapsed().as_secs_f64() * 1e6;
        #[cfg(target_arch = "wasm32")]
        let spent = self.samples_us;
        self.budget.is_some_and(|budget| spent >= budget.as_secs_f64() * 1e6)
    }
}
