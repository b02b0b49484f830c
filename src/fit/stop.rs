//! Callbacks that end a fit from outside: by the clock or by a flag.

use super::{Callback, Flow, StepEvent};
use crate::error::Result;
use crate::model::Model;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Stops a fit when this much time has passed since it began, at the next call of [`Callback::on_steps`]: within about a second,
/// or a step where that takes longer. An epoch's validation is not cut short.
///
/// ```
/// use std::time::Duration;
/// use wgpu_lstm::{Checkpoint, Fit, TimeLimit};
/// let hour = Duration::from_secs(3600);
/// // The checkpoint is also written when the fit ends, so that the rest can be done another day.
/// let fit = Fit::new().epochs(500).callback(Checkpoint::every("training.safetensors", hour / 6)).callback(TimeLimit::new(hour));
/// ```
#[derive(Clone, Debug)]
pub struct TimeLimit {
    limit: Duration,
    start: Option<Instant>,
}

impl TimeLimit {
    /// A limit for each fit.
    pub fn new(limit: Duration) -> TimeLimit {
        TimeLimit { limit, start: None }
    }
}

impl Callback for TimeLimit {
    fn on_begin(&mut self, _: &mut Model) -> Result<()> {
        self.start = Some(Instant::now());
        Ok(())
    }

    fn on_steps(&mut self, _: &StepEvent, _: &mut Model) -> Result<Flow> {
        let over = self.start.is_some_and(|start| start.elapsed() >= self.limit);
        Ok(if over { Flow::Stop } else { Flow::Continue })
    }
}

/// A flag that stops fits when it is raised: by another thread, or by a handler of Ctrl-C. Clones are the same flag. The fit
/// ends at the next call of [`Callback::on_steps`], as with [`TimeLimit`].
///
/// ```
/// use ndarray::{Array2, Array3};
/// use wgpu_lstm::{Device, Fit, Loss, Lstm, Optimiser, Sequential, StopFlag, Stopped};
/// let flag = StopFlag::new();
/// let handler = flag.clone();
/// let on_interrupt = move || handler.raise(); // for the crate ctrlc: ctrlc::set_handler(on_interrupt)
/// on_interrupt();
/// let mut model = Sequential::new(3).add(Lstm::new(2)).build(&Device::cpu(), 0)?;
/// model.compile(Loss::MeanSquaredError, Optimiser::adam(0.01))?;
/// let (x, y) = (Array3::ones((100, 5, 3)), Array2::zeros((100, 2)));
/// let history = model.fit(x.view(), y.view(), Fit::new().batch_size(1).callback(flag))?;
/// assert_eq!((history.steps, history.stopped), (32, Some(Stopped::Callback)));
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// A flag that is not raised.
    pub fn new() -> StopFlag {
        StopFlag::default()
    }

    /// Asks the fits that have the flag, or will have it, to stop.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Takes the flag down for fits to come.
    pub fn lower(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// True once the flag was raised.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Callback for StopFlag {
    fn on_steps(&mut self, _: &StepEvent, _: &mut Model) -> Result<Flow> {
        Ok(if self.is_raised() { Flow::Stop } else { Flow::Continue })
    }
}
