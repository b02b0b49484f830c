//! Measurements of a pass or a product, and the choice.

use crate::plan::{Tunable, TunedLaunch};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A launch with its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaunchTime {
    pub(super) launch: TunedLaunch,
    /// Time of the sample by the model of cost, in µs: an estimate.
    pub model_us: f64,
    /// Time of the sample as measured, in µs: the least of the runs.
    pub measured_us: f64,
    /// Runs, after one to warm up.
    pub runs: u32,
    /// Dispatches of the sample.
    pub dispatches: u64,
    /// Threads of a dispatch.
    pub threads: u64,
    /// Bytes of recurrent weights, or of a product's operands, that the workgroups of the sample load; what is beyond their size comes
    /// from caches.
    pub weight_bytes: f64,
    /// Multiply-adds of the sample's products, those of padding included.
    pub multiply_adds: f64,
}

impl LaunchTime {
    /// The launch in words: strategy, kernel, rows, units and threads of a workgroup, units of a thread; of a product its tiles, and the
    /// threads and workgroups that share a sum.
    pub fn launch(&self) -> String {
        self.launch.to_string()
    }
}

/// A pass of a layer, forward or backward, or a product: the launches that were measured, and the choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PassTuning {
    pub(super) pass: Tunable,
    pub(super) choice: TunedLaunch,
    /// The model's choice.
    pub(super) by_model: TunedLaunch,
    /// T of the sample that was run; 1 for a product.
    pub(super) sample_steps: u32,
    /// In the order in which they were measured; the model's choice is the first.
    pub(super) measured: Vec<LaunchTime>,
}

impl PassTuning {
    /// The pass in words: direction of the pass, T, B, H, D, cell. T stands for passes of up to as many steps, from half of it on; 128 also
    /// for all that are longer. Or the product: M, N, K, and ᵀ for operands that are read transposed. M and K above 64 stand for sizes down to
    /// half of them.
    pub fn pass(&self) -> String {
        self.pass.to_string()
    }

    /// True for a product, false for a recurrent layer's pass.
    pub fn is_product(&self) -> bool {
        matches!(self.pass, Tunable::Product(_))
    }

    /// Steps T of the sample that was run: the pass's, or fewer; 1 for a product.
    pub fn sample_steps(&self) -> u32 {
        self.sample_steps
    }

    /// Launches that were measured; the model's choice is the first.
    pub fn measured(&self) -> &[LaunchTime] {
        &self.measured
    }

    /// The launch that plans take from now on: the fastest of those that were measured. `None` if the choice came from a file without
    /// measurements.
    pub fn chosen(&self) -> Option<&LaunchTime> {
        self.measured.iter().find(|time| time.launch == self.choice)
    }

    /// The launch that the model of cost would have chosen.
    pub fn by_model(&self) -> Option<&LaunchTime> {
        self.measured.iter().find(|time| time.launch == self.by_model)
    }
}

impl fmt::Display for PassTuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.pass, self.choice)?;
        let us_a_step = |time: &LaunchTime| time.measured_us / self.sample_steps as f64;
        let unit = if self.is_product() { "µs" } else { "µs a step" };
        match (self.chosen(), self.by_model()) {
            (Some(chosen), Some(model)) if chosen.launch == model.launch => {
                write!(f, ", {:.2} {unit}, as by the model of cost", us_a_step(chosen))
            }
            (Some(chosen), Some(model)) => write!(
                f,
                ", {:.2} {unit}; by the model of cost {}, {:.2} µs",
                us_a_step(chosen),
                model.launch,
                us_a_step(model)
            ),
            _ => Ok(()),
        }
    }
}

/// Tunings that [`Model::tune`](crate::Model::tune) measured or knew.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TuningReport {
    pub(super) passes: Vec<PassTuning>,
}

impl TuningReport {
    /// The passes of the model's recurrent layers and the large products, each shape once.
    pub fn passes(&self) -> &[PassTuning] {
        &self.passes
    }

    /// Adds the passes of another report that are not in this one.
    pub(crate) fn join(&mut self, other: TuningReport) {
        let new = |pass: &PassTuning| !self.passes.iter().any(|known| known.pass == pass.pass);
        let new: Vec<PassTuning> = other.passes.into_iter().filter(new).collect();
        self.passes.extend(new);
    }
}

impl fmt::Display for TuningReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.passes.iter().try_for_each(|pass| writeln!(f, "{pass}"))
    }
}
