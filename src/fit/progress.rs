//! Progress of a run, as a checkpoint holds it, and what must be the same where the run goes on.

use super::{Callback, CallbackState, Fit, Validation};
use crate::error::{Error, Result};
use crate::model::{Data, Model};
use crate::train::{Schedule, check_count};
use ndarray::{ArrayView, Dimension};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Progress of a run: what one that goes on must know beside the model and its optimiser's memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Epochs done.
    pub epoch: usize,
    /// Seed of the order of sequences and of random bits.
    pub seed: u64,
    /// State of the schedule.
    pub schedule: Option<Schedule>,
    /// The epoch that is begun, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<PartialEpoch>,
    /// Data and settings; older files have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// States of callbacks, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub callbacks: Vec<CallbackState>,
}

/// The part of an epoch that is done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PartialEpoch {
    /// Steps done.
    pub step: usize,
    /// Sum of the losses, each times the sequences that it counts for.
    pub sum: f64,
    /// Those sequences.
    pub seen: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
}

impl PartialEpoch {
    /// Mean loss so far.
    pub fn loss(&self) -> f32 {
        (self.sum / self.seen) as f32
    }
}

impl Progress {
    /// True once a step was taken.
    pub fn begun(&self) -> bool {
        self.epoch > 0 || self.partial.is_some()
    }

    /// Refuses what no run can have come to.
    pub fn validate(&self) -> Result<()> {
        check_count("the epochs done", self.epoch as u64)?;
        if let Some(schedule) = &self.schedule {
            schedule.validate()?;
        }
        let Some(PartialEpoch { step, sum, seen, learning_rate }) = self.partial else { return Ok(()) };
        check_count("the steps done in the epoch", step as u64)?;
        let good = [
            ("sum of losses", sum, sum.is_finite()),
            // 0 where all sequences so far have no steps.
            ("number of sequences", seen, seen >= 0.0 && seen.is_finite()),
            ("learning rate", learning_rate, learning_rate >= 0.0 && learning_rate.is_finite()),
        ];
        match good.iter().find(|(.., good)| !good) {
            Some((what, value, _)) => Err(Error::Config(format!("the {what} of the epoch that is begun is {value}"))),
            None if step == 0 => Err(Error::Config("the epoch that is begun has 0 steps".into())),
            None => Ok(()),
        }
    }

    /// The progress with which a fit begins: none, or that of the run which it resumes.
    ///
    /// # Errors
    /// A run that differs from the fit, unless that is accepted.
    pub fn begin(model: &Model, fit: &Fit<'_>, fingerprint: Fingerprint) -> Result<Progress> {
        let run = model.progress()?;
        if !(fit.resume && run.begun()) {
            return Ok(Progress {
                seed: fit.seed,
                schedule: fit.schedule.clone(),
                fingerprint: Some(fingerprint),
                ..Progress::default()
            });
        }
        let changes = run.changes(fit, &fingerprint)?;
        let (mut partial, mut schedule) = (run.partial.clone(), run.schedule.clone());
        if !changes.is_empty() {
            let all: Vec<&str> = changes.iter().map(|(_, text)| text.as_str()).collect();
            let all = all.join("; ");
            if !fit.accept_changes {
                return Err(Error::Config(format!(
                    "this fit differs from the run that it resumes: {all}; give what the run had, or accept the difference by \
                     Fit::accept_changes(true)"
                )));
            }
            log::warn!("a run is resumed with changes: {all}");
            if changes.iter().any(|(name, _)| ORDER.contains(&name.as_str())) {
                partial = None;
            }
            if changes.iter().any(|(name, _)| name == SCHEDULE) {
                schedule = fit.schedule.clone();
            }
        }
        let callbacks = run.callbacks.clone();
        Ok(Progress { epoch: run.epoch, seed: fit.seed, schedule, partial, fingerprint: Some(fingerprint), callbacks })
    }

    /// Settings that differ from a fit's: name and message of each.
    fn changes(&self, fit: &Fit<'_>, fingerprint: &Fingerprint) -> Result<Vec<(String, String)>> {
        let mut changes = Vec::new();
        let mut compare = |name: &str, run: &str, given: &str| {
            if run != given {
                let text = format!("{name} {run} in the run, {given} in this fit");
                changes.push((name.to_string(), text));
            }
        };
        match &self.fingerprint {
            None => compare(SEED, &self.seed.to_string(), &fit.seed.to_string()),
            Some(run) => {
                // Names that only one of them has are of another version.
                for (name, value) in &run.0 {
                    compare(name, value, fingerprint.0.get(name).unwrap_or(value));
                }
                let given: Vec<_> = states(&fit.callbacks)?;
                let (run, given) = (settings(&self.callbacks), settings(&given));
                for name in run.keys().chain(given.keys().filter(|name| !run.contains_key(*name))) {
                    let of = |all: &BTreeMap<String, String>| {
                        all.get(name).map_or("none".into(), |all| format!("with {all}"))
                    };
                    compare(name, &of(&run), &of(&given));
                }
            }
        }
        if let Some(given) = &fit.schedule {
            let run = self.schedule.as_ref().map_or(Ok("none".to_string()), Schedule::settings)?;
            compare(SCHEDULE, &run, &given.settings()?);
        }
        Ok(changes)
    }
}

/// States of the callbacks that have some.
pub(super) fn states(callbacks: &[Box<dyn Callback + '_>]) -> Result<Vec<CallbackState>> {
    callbacks.iter().filter_map(|callback| callback.state().transpose()).collect()
}

/// Settings of callbacks that a run's result depends on, by name; a second one of a name has a number.
fn settings(states: &[CallbackState]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for state in states.iter().filter(|state| !state.settings.is_empty()) {
        let numbered = (2..).map(|number| format!("{} {number}", state.name));
        let free = std::iter::once(state.name.clone()).chain(numbered).find(|name| !all.contains_key(name));
        all.extend(free.map(|name| (name, state.settings.clone())));
    }
    all
}

const SCHEDULE: &str = "schedule";
const SEED: &str = "seed";

/// Names of what decides the steps of an epoch and their order.
const ORDER: [&str; 8] = ["x", "lengths", "batch size", "accumulate", "shuffle", SEED, "truncated", "validation"];

/// Data and settings of a run by name, each as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fingerprint(BTreeMap<String, String>);

impl Fingerprint {
    /// That of a fit on x and y, before validation data are split off.
    pub fn new(
        model: &Model,
        fit: &Fit<'_>,
        data: Option<&Data<'_, '_>>,
        lengths: Option<&[usize]>,
    ) -> Result<Fingerprint> {
        let (none, batches) = (|| "none".to_string(), || "of an iterator".to_string());
        let validation = match &fit.validation {
            Validation::None => none(),
            Validation::Split(share) => format!("on a share of {share}"),
            Validation::Data(x, y) => {
                let data = match fit.loss {
                    None if fit.missing_targets => {
                        model.data("validation ", x.clone(), Some(y.clone().missing(true)))?
                    }
                    None => model.data("validation ", x.clone(), Some(y.clone()))?,
                    Some(_) => model.own_data("validation ", x.clone(), y.clone())?,
                };
                let arrays = format!("on x {}", of_inputs(&data));
                match x.lengths_given() {
                    None => format!("{arrays} and y {}", of_targets(&data)),
                    Some(lengths) => format!("{arrays}, y {} and lengths {}", of_targets(&data), whole(lengths)),
                }
            }
        };
        let (loss, update, checkpoints) = model.training_settings()?;
        let stateful = match fit.stateful {
            None => "false",
            Some(super::Reset::EachEpoch) => "with states from zero in each epoch",
            Some(super::Reset::ByHand) => "with states reset by hand",
        };
        let all = [
            ("x", data.map_or_else(batches, of_inputs)),
            ("y", data.map_or_else(batches, of_targets)),
            ("weights", data.and_then(of_weights).unwrap_or_else(none)),
            ("lengths", lengths.map_or_else(none, whole)),
            ("batch size", fit.batch_size.to_string()),
            ("accumulate", fit.accumulate.to_string()),
            ("shuffle", fit.shuffle.to_string()),
            (SEED, fit.seed.to_string()),
            ("truncated", fit.truncated.map_or_else(none, |steps| format!("to {steps} steps"))),
            ("stateful", stateful.into()),
            ("validation", validation),
            ("loss", loss),
            ("optimiser", update),
            ("checkpoints of time", checkpoints),
        ];
        Ok(Fingerprint(all.into_iter().map(|(name, value)| (name.to_string(), value)).collect()))
    }
}

/// Shapes and checksums of all inputs.
fn of_inputs(data: &Data<'_, '_>) -> String {
    let all: Vec<String> = data.inputs.iter().map(|input| numbers(&input.x.view())).collect();
    all.join(", ")
}

/// Shapes and checksums of all targets.
fn of_targets(data: &Data<'_, '_>) -> String {
    let all = data.targets.iter().flatten().map(|target| numbers(&target.y.view()));
    let own = data.own.values().map(|target| numbers(&target.view()));
    all.chain(own).collect::<Vec<String>>().join(", ")
}

/// Shapes and checksums of the weights of all targets; `None` if there are none.
fn of_weights(data: &Data<'_, '_>) -> Option<String> {
    let weights = data.targets.iter().flatten().filter_map(|target| target.weights.as_ref());
    let all: Vec<String> = weights.map(|weights| numbers(&weights.view())).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// Shape and checksum of an array.
fn numbers<D: Dimension>(values: &ArrayView<'_, f32, D>) -> String {
    let checksum = match values.as_slice() {
        Some(all) => crc32c::crc32c(bytemuck::cast_slice(all)),
        None => {
            let (mut checksum, mut values, mut part) = (0, values.iter().copied(), Vec::with_capacity(4096));
            loop {
                part.clear();
                part.extend(values.by_ref().take(4096));
                if part.is_empty() {
                    break checksum;
                }
                checksum = crc32c::crc32c_append(checksum, bytemuck::cast_slice(&part));
            }
        }
    };
    format!("{:?} (checksum {checksum:08x})", values.shape())
}

/// Number and checksum of lengths.
fn whole(lengths: &[usize]) -> String {
    let all: Vec<u64> = lengths.iter().map(|&length| length as u64).collect();
    format!("of {} sequences (checksum {:08x})", all.len(), crc32c::crc32c(bytemuck::cast_slice(&all)))
}
