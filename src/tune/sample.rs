//! Samples on a device: how long they are, and the time of one.

use crate::device::{Device, Executable};
use crate::error::Result;
use crate::plan::{Recurrence, Tunable, TunedLaunch};
use crate::schedule::recurrence::most_steps;

/// Bytes of a sample's largest tensor.
const MOST_BYTES: u64 = 32 << 20;
/// Steps of a sample: enough for what a dispatch of many steps costs to be shared by them.
const MOST_STEPS: u32 = 128;
/// Dispatches of a sample, which are one submission.
const MOST_DISPATCHES: u32 = 4096;
/// Time of a sample in ms, as far as its steps can be chosen so.
const TARGET_MS: f64 = 4.0;

/// The length of samples, the same for all launches of a shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Length {
    /// The shape; a pass has T of the sample.
    pub what: Tunable,
    /// Number of runs, one after the other.
    pub repeats: u32,
}

impl Length {
    /// The length for a step, or a product, of `us`.
    pub fn new(what: &Tunable, us: f64) -> Result<Length> {
        let us = if us.is_finite() { us.max(0.1) } else { 1e3 };
        let wanted = (TARGET_MS * 1e3 / us).clamp(1.0, MOST_DISPATCHES as f64) as u32;
        let Tunable::Recurrence(pass) = what else {
            // A product may be two dispatches.
            return Ok(Length { what: *what, repeats: wanted.div_ceil(2) });
        };
        // A pass of many steps has other launches than one of a single step.
        let least = pass.steps.min(2);
        let steps = wanted.min(MOST_STEPS).min(most_steps(pass, MOST_BYTES)?).clamp(least, pass.steps);
        let what = Tunable::Recurrence(Recurrence { steps, ..*pass });
        Ok(Length { what, repeats: (wanted / steps).max(1) })
    }

    /// A sample by a launch, ready to run.
    pub async fn compile(&self, device: &Device, launch: TunedLaunch) -> Result<Executable> {
        device.compile_with(self.what.sample(launch, self.repeats, device.capabilities())?, |_| None).await
    }

    /// Runs a sample and gives the µs of one of the repeats: by the GPU's clock, where it has one, else by the host's. `None` in
    /// browsers without the first.
    pub async fn run(&self, executable: &Executable) -> Result<Option<f64>> {
        let ms = match executable.gpu_milliseconds_async().await? {
            Some(ms) => Some(ms),
            None => wall(executable).await?,
        };
        Ok(ms.map(|ms| ms * 1e3 / self.repeats as f64))
    }
}

/// Milliseconds of a run by the host's clock, until a result can be read.
#[cfg(not(target_arch = "wasm32"))]
async fn wall(executable: &Executable) -> Result<Option<f64>> {
    let begun = std::time::Instant::now();
    executable.run_async().await?;
    executable.read_async((crate::plan::BufferId(0), 0), 1).await?;
    Ok(Some(begun.elapsed().as_secs_f64() * 1e3))
}

#[cfg(target_arch = "wasm32")]
async fn wall(_: &Executable) -> Result<Option<f64>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_as_long_as_its_step_is_short() {
        let pass = Recurrence {
            backward: false,
            cell: "standard",
            hidden: 64,
            heads: 1,
            terms: 64,
            input: None,
            batch: 1,
            directions: 1,
            steps: 1000,
            fused: true,
            plain: true,
        };
        let length = |us: f64, steps| {
            let length = Length::new(&Tunable::Recurrence(Recurrence { steps, ..pass }), us).unwrap();
            (length.what.steps(), length.repeats)
        };
        assert_eq!(length(10.0, 1000), (128, 3), "4 ms are 400 steps");
        assert_eq!(length(400.0, 1000), (10, 1));
        assert_eq!(length(1e6, 1000), (2, 1), "as long as it takes");
        assert_eq!(length(10.0, 1), (1, 400));
        assert_eq!(length(f64::NAN, 3), (3, 1));
        assert_eq!(length(0.0, 1), (1, 4096));
    }
}
