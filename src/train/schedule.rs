//! Schedules of the learning rate.

use super::check_count;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// A schedule of the learning rate, with how far it has come: kept in a file and read again, it goes on where it was. The
/// rate that the optimiser was made with is its base.
///
/// ```
/// use wgpu_lstm::{Fit, Schedule};
/// let fit = Fit::new().epochs(90).schedule(Schedule::step(30, 0.1)); // a tenth every 30 epochs
/// let warm = Schedule::cosine(10_000).floor(1e-5).warmup(500, 0.1); // in steps
/// let slow = Schedule::exponential(0.999).per_step();
/// assert!(slow.is_per_step() && !slow.per_epoch().is_per_step());
/// let plateau = Schedule::plateau(0.5, 5).floor(1e-5); // half after 5 epochs without a better loss
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    curve: Curve,
    per_step: bool,
    warmup: Option<Warmup>,
    /// The rate that it began with.
    base: Option<f64>,
    /// Steps or epochs done.
    count: u64,
    plateau: Plateau,
}

/// The curve of a [`Schedule`] over steps or epochs.
///
/// ```
/// use wgpu_lstm::{Curve, Schedule};
/// let curve = Curve::OneCycle { peak: 0.01, over: 5_000, rise: 0.2, start: 25.0, end: 1e4 };
/// let schedule = Schedule::new(curve);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Curve {
    /// The rate is multiplied by a factor every so often, as
    /// [`StepLR`](https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.StepLR.html).
    Step {
        /// Period; at least 1.
        every: u64,
        /// The factor; finite and above 0.
        factor: f64,
    },
    /// The rate is multiplied by a factor each time, as
    /// [`ExponentialLR`](https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ExponentialLR.html).
    Exponential {
        /// The factor; finite and above 0.
        factor: f64,
    },
    /// Half a cosine from the base down to a floor, where the rate then stays, as
    /// [`CosineAnnealingLR`](https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.CosineAnnealingLR.html)
    /// (which would rise again).
    Cosine {
        /// Duration; at least 1.
        over: u64,
        /// The last rate; finite and at least 0.
        floor: f64,
    },
    /// Up to a peak and far down by half cosines (Smith and Topin 2018), as
    /// [`OneCycleLR`](https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.OneCycleLR.html) with
    /// `cycle_momentum=False`; the base does not matter.
    OneCycle {
        /// The highest rate; finite and above 0.
        peak: f64,
        /// Duration; at least 1. The rate then stays as it is.
        over: u64,
        /// Share of the time that goes up; above 0 and below 1, 0.3 by default.
        rise: f64,
        /// The first rate is peak / start; at least 1, 25 by default.
        start: f64,
        /// The last rate is the first / end; at least 1, 1e4 by default.
        end: f64,
    },
    /// The rate is multiplied by a factor when the watched loss (the validation loss, without it the training loss) has not
    /// fallen below (1 − threshold)·best for more than `patience` epochs, as
    /// [`ReduceLROnPlateau`](https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ReduceLROnPlateau.html).
    Plateau {
        /// The factor; above 0 and below 1.
        factor: f64,
        /// Epochs to wait.
        patience: u64,
        /// Share that the loss must fall by; at least 0 and below 1, 1e-4 by default.
        threshold: f64,
        /// Epochs after a reduction in which none is counted as bad; 0 by default.
        cooldown: u64,
        /// The least rate; finite and at least 0, 0 by default.
        floor: f64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Warmup {
    over: u64,
    from: f64,
}

/// State of a plateau schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Plateau {
    /// The rate, once reduced.
    rate: Option<f64>,
    best: Option<f64>,
    bad: u64,
    resting: u64,
}

impl Schedule {
    /// A schedule along a curve: per step for [`Curve::Cosine`] and [`Curve::OneCycle`], else per epoch.
    pub fn new(curve: Curve) -> Schedule {
        let per_step = matches!(curve, Curve::Cosine { .. } | Curve::OneCycle { .. });
        Schedule { curve, per_step, warmup: None, base: None, count: 0, plateau: Plateau::default() }
    }

    /// Step decay: multiplies the rate by `factor` every `every` epochs.
    pub fn step(every: u64, factor: f64) -> Schedule {
        Schedule::new(Curve::Step { every, factor })
    }

    /// The rate times `factor` after each epoch.
    pub fn exponential(factor: f64) -> Schedule {
        Schedule::new(Curve::Exponential { factor })
    }

    /// Cosine annealing down to 0 over a number of optimiser steps.
    pub fn cosine(over: u64) -> Schedule {
        Schedule::new(Curve::Cosine { over, floor: 0.0 })
    }

    /// One-cycle schedule over a number of optimiser steps, with PyTorch's defaults.
    pub fn one_cycle(peak: f64, over: u64) -> Schedule {
        Schedule::new(Curve::OneCycle { peak, over, rise: 0.3, start: 25.0, end: 1e4 })
    }

    /// The rate times `factor` after more than `patience` epochs without a better loss.
    pub fn plateau(factor: f64, patience: u64) -> Schedule {
        Schedule::new(Curve::Plateau { factor, patience, threshold: 1e-4, cooldown: 0, floor: 0.0 })
    }

    /// Counts optimiser steps.
    pub fn per_step(self) -> Schedule {
        Schedule { per_step: true, ..self }
    }

    /// Counts epochs.
    pub fn per_epoch(self) -> Schedule {
        Schedule { per_step: false, ..self }
    }

    /// The least rate of a cosine or a plateau; the other curves have none, and stay as they are.
    pub fn floor(mut self, rate: f64) -> Schedule {
        if let Curve::Cosine { floor, .. } | Curve::Plateau { floor, .. } = &mut self.curve {
            *floor = rate;
        }
        self
    }

    /// Linear warm-up from `from`·base to the base rate over a number of steps or epochs; the curve follows. As
    /// [`LinearLR`](https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.LinearLR.html) before the other
    /// in a `SequentialLR`. Not for one-cycle, which has its own, and plateau.
    pub fn warmup(self, over: u64, from: f64) -> Schedule {
        Schedule { warmup: Some(Warmup { over, from }), ..self }
    }

    /// True if it counts optimiser steps rather than epochs.
    pub fn is_per_step(&self) -> bool {
        self.per_step
    }

    /// Begins with the optimiser's learning rate, or goes on if it has begun before; gives the rate of the next step.
    /// [`Model::fit`](crate::Model::fit) does this; it is here for loops of one's own.
    ///
    /// ```
    /// let mut schedule = wgpu_lstm::Schedule::exponential(0.5);
    /// assert_eq!(schedule.begin(0.1), 0.1);
    /// assert_eq!(schedule.advance(f64::NAN), Some(0.05)); // only a plateau looks at the loss
    /// ```
    pub fn begin(&mut self, learning_rate: f64) -> f64 {
        let base = *self.base.get_or_insert(learning_rate);
        self.rate(base)
    }

    /// Advances by a step or an epoch of this loss and gives the next rate; `None` before [`Schedule::begin`].
    pub fn advance(&mut self, watched: f64) -> Option<f64> {
        let base = self.base?;
        self.count += 1;
        if let Curve::Plateau { factor, patience, threshold, cooldown, floor } = self.curve {
            let now = self.rate(base);
            let memory = &mut self.plateau;
            // NaN is never better, and never the best.
            if watched < memory.best.map_or(f64::INFINITY, |best| best * (1.0 - threshold)) {
                (memory.best, memory.bad) = (Some(watched), 0);
            } else {
                memory.bad += 1;
            }
            if memory.resting > 0 {
                memory.resting -= 1;
                memory.bad = 0;
            }
            if memory.bad > patience {
                (memory.resting, memory.bad) = (cooldown, 0);
                let next = (now * factor).max(floor);
                // PyTorch leaves smaller changes out
                if now - next > 1e-8 {
                    memory.rate = Some(next);
                }
            }
        }
        Some(self.rate(base))
    }

    fn rate(&self, base: f64) -> f64 {
        let mut count = self.count;
        if let Some(Warmup { over, from }) = self.warmup {
            if count < over {
                return base * (from + (1.0 - from) * count as f64 / over as f64);
            }
            count -= over;
        }
        let cosine = |from: f64, to: f64, share: f64| to + (from - to) * (1.0 + (PI * share).cos()) / 2.0;
        match self.curve {
            Curve::Step { every, factor } => base * factor.powf((count / every.max(1)) as f64),
            Curve::Exponential { factor } => base * factor.powf(count as f64),
            Curve::Cosine { over, floor } => cosine(base, floor, (count as f64 / over as f64).min(1.0)),
            Curve::OneCycle { peak, over, rise, start, end } => {
                let (first, last) = (peak / start, over as f64 - 1.0);
                let (now, top) = ((count as f64).min(last), rise * over as f64 - 1.0);
                if now < top {
                    cosine(first, peak, now / top)
                } else {
                    cosine(peak, first / end, (now - top) / (last - top))
                }
            }
            Curve::Plateau { .. } => self.plateau.rate.unwrap_or(base),
        }
    }

    /// Its settings as JSON: two schedules that differ only in how far they have come have the same.
    pub(crate) fn settings(&self) -> Result<String> {
        let Schedule { curve, per_step, warmup, .. } = self;
        serde_json::to_string(&serde_json::json!({ "curve": curve, "per_step": per_step, "warmup": warmup }))
            .map_err(|error| Error::Config(format!("the schedule cannot be written as JSON: {error}")))
    }

    /// Refuses settings out of range, and counts and rates that no run can have come to.
    pub(crate) fn validate(&self) -> Result<()> {
        let Schedule { count, plateau, base, .. } = self;
        check_count("the steps or epochs of the schedule", *count)?;
        check_count("the epochs that the schedule counts as bad", plateau.bad)?;
        check_count("the epochs that the schedule rests", plateau.resting)?;
        if *count > 0 && base.is_none() {
            return Err(Error::Config(format!(
                "the schedule has done {count} steps or epochs, but has no rate that it began with"
            )));
        }
        for (what, value) in
            [("rate that the schedule began with", base), ("reduced rate of the schedule", &plateau.rate)]
        {
            if let Some(rate) = value.filter(|rate| !(*rate >= 0.0 && rate.is_finite())) {
                return Err(Error::Config(format!("the {what} is {rate}; it must be finite and at least 0")));
            }
        }
        let check = |what: &str, value: f64, good: bool, expected: &str| match good {
            true => Ok(()),
            false => Err(Error::Config(format!("{what} of the schedule is {value}; it must be {expected}"))),
        };
        let positive = |what, value: f64| check(what, value, value > 0.0 && value.is_finite(), "finite and above 0");
        let rate = |value: f64| check("floor", value, value >= 0.0 && value.is_finite(), "finite and at least 0");
        let length = |what, value: u64| check(what, value as f64, value > 0, "at least 1");
        match self.curve {
            Curve::Step { every, factor } => {
                length("every", every)?;
                positive("factor", factor)?;
            }
            Curve::Exponential { factor } => positive("factor", factor)?,
            Curve::Cosine { over, floor } => {
                length("over", over)?;
                rate(floor)?;
            }
            Curve::OneCycle { peak, over, rise, start, end } => {
                length("over", over)?;
                positive("peak", peak)?;
                check("rise", rise, rise > 0.0 && rise < 1.0, "above 0 and below 1")?;
                for (what, value) in [("start", start), ("end", end)] {
                    check(what, value, value >= 1.0 && value.is_finite(), "finite and at least 1")?;
                }
            }
            Curve::Plateau { factor, threshold, floor, .. } => {
                check("factor", factor, factor > 0.0 && factor < 1.0, "above 0 and below 1")?;
                check("threshold", threshold, (0.0..1.0).contains(&threshold), "at least 0 and below 1")?;
                rate(floor)?;
            }
        }
        let alone = matches!(self.curve, Curve::OneCycle { .. } | Curve::Plateau { .. });
        match self.warmup {
            Some(_) if alone => {
                return Err(Error::Config("a one-cycle or plateau schedule takes no warm-up; leave it out".into()));
            }
            Some(Warmup { from, .. }) => {
                check("the warm-up's first share", from, (0.0..=1.0).contains(&from), "from 0 to 1")?;
            }
            None => {}
        }
        if self.per_step && matches!(self.curve, Curve::Plateau { .. }) {
            return Err(Error::Config(
                "a plateau schedule counts epochs, whose loss it watches; leave per_step out".into(),
            ));
        }
        Ok(())
    }
}
