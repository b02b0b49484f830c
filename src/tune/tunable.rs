//! The launches of a shape: candidates, estimates, and what is run to measure one.

use crate::error::{Error, Result};
use crate::plan::product::ProductLaunch;
use crate::plan::{Capabilities, Launch, Plan, Tunable, TunedLaunch};
use crate::schedule::cost::{self, Cost};
use crate::schedule::recurrence::sample;

/// Cycles of a card's clock in a µs, for products, which are estimated in cycles.
const CYCLES: f64 = 2e3;

impl Tunable {
    /// Launches that a device can run.
    pub(super) fn candidates(&self, capabilities: &Capabilities) -> Vec<TunedLaunch> {
        match self {
            Tunable::Recurrence(pass) => {
                Launch::candidates(pass, capabilities).into_iter().map(TunedLaunch::Recurrence).collect()
            }
            Tunable::Product(shape) => {
                let ways = ProductLaunch::ways(&shape.sample(), shape.rounds, capabilities);
                ways.into_iter().map(TunedLaunch::Product).collect()
            }
        }
    }

    /// The launch that the model of cost chooses.
    pub(super) fn by_model(&self, capabilities: &Capabilities) -> TunedLaunch {
        match self {
            Tunable::Recurrence(pass) => TunedLaunch::Recurrence(Launch::by_model(pass, capabilities)),
            Tunable::Product(shape) => {
                TunedLaunch::Product(ProductLaunch::by_model(&shape.sample(), shape.rounds, capabilities))
            }
        }
    }

    /// Cost of a candidate by the model.
    pub(super) fn cost(&self, launch: &TunedLaunch, capabilities: &Capabilities) -> Cost {
        match (self, launch) {
            (Tunable::Recurrence(pass), TunedLaunch::Recurrence(launch)) => cost::of_launch(pass, launch, capabilities),
            (Tunable::Product(shape), TunedLaunch::Product(launch)) => {
                let product = shape.sample();
                let work = launch.work(&product, capabilities);
                Cost { us: launch.cost(&product, capabilities) / CYCLES, ..work }
            }
            // A candidate of another family is none.
            _ => Cost { us: f64::INFINITY, dispatches: 0, bytes: 0.0, fmas: 0.0, threads: 0 },
        }
    }

    /// Plan of `repeats` runs by a candidate, one after the other.
    pub(super) fn sample(&self, launch: TunedLaunch, repeats: u32, base: &Capabilities) -> Result<Plan> {
        match (self, launch) {
            (Tunable::Recurrence(pass), TunedLaunch::Recurrence(_)) => {
                let choices = base.choices.with(*self, launch);
                sample(pass, repeats, &Capabilities { choices, ..base.clone() })
            }
            (Tunable::Product(shape), TunedLaunch::Product(launch)) => shape.sample_plan(launch, repeats, base),
            _ => Err(Error::Plan(format!("{launch} is no launch of {self}"))),
        }
    }

    /// Time steps of a run; 1 for a product.
    pub(super) fn steps(&self) -> u32 {
        match self {
            Tunable::Recurrence(pass) => pass.steps,
            Tunable::Product(_) => 1,
        }
    }
}

impl TunedLaunch {
    /// True if two launches are by the same kernel and strategy, of which each has its best measured.
    pub(super) fn is_like(&self, other: &TunedLaunch) -> bool {
        match (self, other) {
            (TunedLaunch::Recurrence(one), TunedLaunch::Recurrence(other)) => {
                (one.division, one.strategy) == (other.division, other.strategy)
            }
            (TunedLaunch::Product(one), TunedLaunch::Product(other)) => one.tile == other.tile,
            _ => false,
        }
    }
}
