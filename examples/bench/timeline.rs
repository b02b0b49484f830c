//! Timelines of fits and predictions in steady state: the time for which the device had nothing to run, and how far the host was ahead of it.

use crate::cases::Case;
use crate::measure::{Mode, sorted};
use anyhow::{Result, ensure};
use ndarray::Array3;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::Serialize;
use std::fmt;
use std::time::Duration;
use wgpu_lstm::{Device, Fit, Loss, Optimiser, Sequential, Submission};

/// Steps of a fit, in epochs of so many.
const STEPS: [usize; 2] = [128, 32];
/// Batches of a prediction.
const BATCHES: usize = 16;
/// Share of the submissions at the beginning and at the end that are left out: the device's work comes and goes there.
const EDGE: f64 = 0.1;

/// A timeline in numbers; times in milliseconds.
#[derive(Serialize)]
pub struct Row {
    version: &'static str,
    device: String,
    mode: &'static str,
    case: String,
    /// Steps of the fit, or batches of the prediction.
    steps: usize,
    /// Submissions in steady state.
    submissions: usize,
    /// From the beginning of the first of them to the end of the last, on the device.
    span_ms: f64,
    /// Of that, without anything to run between submissions.
    idle_ms: f64,
    idle_share: f64,
    /// Submissions for which the device waited: the host had not recorded them when it had run the one before.
    waited_for: usize,
    /// Time from recorded to the end of the submission before, which the device still ran: least and median of those that it found ready.
    ahead_ms: Option<[f64; 2]>,
    /// Time of the host for recording: median.
    record_ms: f64,
    /// Time of the driver for taking it, which on software adapters is that of running the one before: median.
    submit_ms: f64,
    /// Time on the device: median.
    device_ms: f64,
}

impl Row {
    pub const HEAD: &str = "mode    | submissions    span ms |  idle ms  share | waited for | ahead: least  median ms | record ms submit ms device ms";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row {
            mode, submissions, span_ms, idle_ms, idle_share, waited_for, record_ms, submit_ms, device_ms, ..
        } = self;
        let ahead = |k: usize| self.ahead_ms.map_or("-".into(), |ahead| format!("{:.3}", ahead[k]));
        write!(
            f,
            "{mode:7} | {submissions:11} {span_ms:10.2} | {idle_ms:8.3} {:4.1} % | {waited_for:10} | {:>12} {:>10} | {record_ms:9.4} {submit_ms:9.4} {device_ms:9.4}",
            100.0 * idle_share,
            ahead(0),
            ahead(1),
        )
    }
}

/// Runs a case in a mode, once to warm up and once for the timeline.
pub fn case(device: &Device, mode: Mode, case: Case) -> Result<Row> {
    let Case { t, b, i, .. } = case;
    let mut generator = Pcg64::seed_from_u64(1);
    let mut random =
        |shape: (usize, usize, usize)| Array3::from_shape_simple_fn(shape, || generator.random_range(-1.0f32..1.0));
    let mut model = Sequential::new(i).add(case.lstm()).build(device, 1)?;
    let (steps, all) = match mode {
        Mode::Train => {
            model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-3))?;
            let [steps, of_an_epoch] = STEPS;
            let (x, y) = (random((of_an_epoch * b, t, i)), random((of_an_epoch * b, t, case.lstm().output())));
            let mut fit = |epochs: usize| model.fit(x.view(), y.view(), Fit::new().epochs(epochs).batch_size(b));
            fit(2)?;
            let all = recorded(device, || fit(steps / of_an_epoch).map(drop))?;
            (steps, all)
        }
        Mode::Forward => {
            // B of the case does not count: a prediction makes batches of its own.
            let x = random((BATCHES * (65_536 / t).clamp(1, 256), t, i));
            let predict = || model.predict(x.view()).map(drop);
            predict()?;
            (BATCHES, recorded(device, predict)?)
        }
        Mode::Stream => {
            anyhow::bail!("a stream's step is fed when the one before was read, so its device always waits")
        }
    };
    ensure!(all.len() > 2, "{case}: the device ran {} submissions, too few for a steady state", all.len());
    let edge = (EDGE * all.len() as f64) as usize;
    let steady = &all[edge..all.len() - edge];
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let median = |of: fn(&Submission) -> Duration| sorted(steady.iter().map(|one| ms(of(one))))[steady.len() / 2];
    let pairs = || steady.windows(2).map(|pair| (&pair[0], &pair[1]));
    let span_ms = ms(steady[steady.len() - 1].ended.saturating_sub(steady[0].started));
    let idle_ms: f64 = pairs().map(|(before, one)| ms(one.idle_after(before))).sum();
    let ahead = sorted(pairs().filter_map(|(before, one)| one.ahead_of(before)).map(ms));
    Ok(Row {
        version: env!("CARGO_PKG_VERSION"),
        device: device.to_string(),
        mode: mode.name(),
        case: case.to_string(),
        steps,
        submissions: steady.len(),
        span_ms,
        idle_ms,
        idle_share: idle_ms / span_ms,
        waited_for: pairs().count() - ahead.len(),
        ahead_ms: ahead.first().map(|&least| [least, ahead[ahead.len() / 2]]),
        record_ms: median(|one| one.recorded.saturating_sub(one.begun)),
        submit_ms: median(|one| one.submitted.saturating_sub(one.recorded)),
        device_ms: median(|one| one.ended.saturating_sub(one.started)),
    })
}

/// The timeline of some work.
fn recorded(device: &Device, work: impl FnOnce() -> wgpu_lstm::Result<()>) -> Result<Vec<Submission>> {
    ensure!(device.begin_timeline(2048)?, "{device} has no timestamps, so there is no timeline");
    work()?;
    Ok(device.end_timeline()?)
}
