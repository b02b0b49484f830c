//! Plans of a model: made for the sizes of a batch, compiled, and run with its inputs.

use super::Model;
use super::cache::{Compiled, Lease};
use super::data::Data;
use super::training::{Training, not_compiled};
use crate::device::{Executable, Place, Reading};
use crate::error::Result;
use crate::network::{Batch, NetworkPlan, Purpose, graph_plan};
use crate::plan::Capabilities;
use crate::transfer::{Rows, key_and_lengths, upload};
use crate::wait;

/// Purpose of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum PlanPurpose {
    Predict,
    Evaluate,
    /// Evaluation of the rows whose targets are not missing.
    EvaluatePresent,
    Train,
    /// Forward and backward, from gradients of the outputs.
    Pass,
    /// A training step from gradients of the outputs.
    Step,
}

impl PlanPurpose {
    /// True if the plan changes the model.
    pub(super) fn trains(self) -> bool {
        matches!(self, PlanPurpose::Train | PlanPurpose::Step)
    }
}

/// Key of a cached plan: purpose and sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) purpose: PlanPurpose,
    pub(super) ragged: bool,
    pub(super) stateful: bool,
    /// B.
    pub(super) batch: usize,
    /// T of each input.
    pub(super) steps: Vec<usize>,
}

impl Model {
    /// Runs a plan that does not change the model on a batch, with what is then to be read.
    pub(super) async fn run_reading<'c>(
        &self,
        compiled: &'c Compiled<NetworkPlan>,
        data: &Data<'_, '_>,
        places: Vec<Place>,
    ) -> Result<Reading<'c>> {
        self.hand_over(compiled, data, 0).await?;
        let executable = &compiled.executable;
        let weights = self.parameters.version().numbers;
        let done = executable.run_beginning(executable.first_for(weights)).await?;
        let reading = executable.run_reading(done..executable.plan().commands.len(), places)?;
        executable.ran_for(weights);
        Ok(reading)
    }

    /// Uploads a batch to a plan's buffers; `step` is the training step.
    pub(super) async fn hand_over(
        &self,
        compiled: &Compiled<NetworkPlan>,
        data: &Data<'_, '_>,
        step: u64,
    ) -> Result<()> {
        wait::yield_now().await;
        let Compiled { plan, executable } = compiled;
        if let Some(resident) = &data.resident {
            resident.hand_over(compiled, data).await?;
        }
        let ahead = data.ahead.as_ref().is_some_and(|since| executable.is_unsubmitted(since));
        if data.resident.is_none() && !ahead {
            self.upload(compiled, data)?;
        }
        for (k, output) in plan.outputs.iter().enumerate() {
            if let Some(buffer) = output.row_weights
                && let Some(loss) = self.losses()?[k]
            {
                executable.write((buffer, 0), &data.factors(&self.graph, k, loss, output)?)?;
            }
        }
        if let Some(training) = &self.training {
            for hyper in &plan.hyper {
                executable.write((hyper.buffer(), 0), &hyper.numbers(&training.update.optimiser, step))?;
            }
        }
        let key = self.training.as_ref().map_or([0; 2], |training| [training.seed, step as u32]);
        let steps = if plan.words.is_empty() { Vec::new() } else { self.graph.steps(&data.steps())? };
        write_words(executable, plan, key, data.count(), |axis| (data.lengths(&self.graph, axis), steps[axis]))
    }

    /// Uploads inputs and targets of a batch.
    fn upload(&self, Compiled { plan, executable }: &Compiled<NetworkPlan>, data: &Data<'_, '_>) -> Result<()> {
        for (k, input) in plan.inputs.iter().enumerate() {
            match self.blanked(k, data)? {
                Some(x) => upload(executable, input, Rows::all(x.view()))?,
                None => upload(executable, input, data.sequences(&data.inputs[k].x))?,
            }
        }
        for (output, given) in plan.outputs.iter().zip(&data.targets) {
            if let (Some(target), Some(given)) = (&output.target, given) {
                upload(executable, target, data.sequences(&given.y))?;
            }
        }
        Ok(())
    }

    /// Uploads inputs and targets of the next batch of a fit while a GPU runs what was submitted, if the plan is there.
    pub(crate) fn upload_ahead(&self, data: &mut Data<'_, '_>, stateful: bool) -> Result<()> {
        let key = data.key(PlanPurpose::Train, stateful);
        if data.resident.is_some() || self.device.adapter().is_none() {
            return Ok(());
        }
        let Some(compiled) = self.plans.take(&key) else { return Ok(()) };
        let lease = self.plans.lend(key, compiled);
        self.upload(&lease, data)?;
        data.ahead = lease.executable.unsubmitted();
        Ok(())
    }

    pub(super) fn purpose(&self, purpose: PlanPurpose, ragged: bool) -> Result<Purpose<'_>> {
        let training = self.training.as_ref().ok_or_else(not_compiled);
        // Steps past the ends of sequences have weight 0.
        let ends = ragged && self.graph.outputs.iter().any(|output| self.graph.axis(output.from).is_some());
        Ok(match purpose {
            PlanPurpose::Predict => Purpose::Predict,
            PlanPurpose::Evaluate => Purpose::Evaluate { loss: &training?.loss, weighted: ends },
            PlanPurpose::EvaluatePresent => Purpose::Evaluate { loss: &training?.loss, weighted: true },
            PlanPurpose::Train => {
                let Training { loss, update, weighted, accumulate, .. } = training?;
                Purpose::Train { loss, update, weighted: *weighted || *accumulate || ends }
            }
            PlanPurpose::Pass => Purpose::Pass,
            PlanPurpose::Step => Purpose::Step { update: &training?.update },
        })
    }

    /// Steps of a segment, if training has checkpoints along time.
    pub(super) fn segment(&self, purpose: PlanPurpose, steps: &[usize]) -> Option<usize> {
        match (purpose, &self.training, steps) {
            (PlanPurpose::Train, Some(training), &[steps, ..]) => training.checkpoints.segment(steps),
            _ => None,
        }
    }

    /// A compiled plan that does not change the model.
    pub(super) async fn compiled(
        &self,
        purpose: PlanPurpose,
        data: &Data<'_, '_>,
        stateful: bool,
    ) -> Result<Lease<'_, Key, NetworkPlan>> {
        let key = data.key(purpose, stateful);
        let compiled = match self.plans.take(&key) {
            Some(compiled) => compiled,
            None => self.make_ready(&key, self.plan(&key).await?).await?,
        };
        Ok(self.plans.lend(key, compiled))
    }

    /// The plan of a key, by the device's choices of launches.
    pub(super) async fn plan(&self, key: &Key) -> Result<NetworkPlan> {
        let plan = self.device.plan(|capabilities| self.plan_by(key, capabilities)).await?;
        log::debug!("{}", plan.plan);
        Ok(plan)
    }

    /// The plan of a key for a device with these capabilities.
    pub(super) fn plan_by(&self, key: &Key, capabilities: &Capabilities) -> Result<NetworkPlan> {
        let Key { purpose, ragged, stateful, batch, steps } = key;
        let sizes = Batch::of(*batch, steps.clone()).ragged(*ragged).stateful(*stateful);
        let accumulate = purpose.trains() && self.training.as_ref().is_some_and(|training| training.accumulate);
        let sizes = sizes.segment(self.segment(*purpose, steps)).accumulate(accumulate);
        graph_plan(&self.graph, &sizes, self.purpose(*purpose, *ragged)?, capabilities)
    }

    pub(super) async fn make_ready(
        &self,
        Key { purpose, batch, .. }: &Key,
        plan: NetworkPlan,
    ) -> Result<Compiled<NetworkPlan>> {
        let training = self.training.as_ref().filter(|_| purpose.trains());
        // A pass does not change the model: running statistics are its own.
        let owns = |name: &str| *purpose == PlanPurpose::Pass && self.graph.is_statistic(name);
        let shared = |name: &str| {
            let memory = training.and_then(|training| {
                let state = || training.states.get(&(*batch, name.to_string()));
                training.memory.get(name).or_else(|| training.gradients.get(name)).or_else(state).cloned()
            });
            memory.or_else(|| self.parameters.tensor(name).filter(|_| !owns(name)))
        };
        let executable = self.device.compile_with(plan.plan.clone(), shared).await?;
        Ok(Compiled { plan, executable })
    }
}

/// Writes the key of random bits and the lengths of sequences along each time axis that a plan reads; `along` gives those of an axis, if
/// it has some, and its steps.
pub(super) fn write_words(
    executable: &Executable,
    plan: &NetworkPlan,
    key: [u32; 2],
    batch: usize,
    along: impl Fn(usize) -> (Option<Vec<usize>>, usize),
) -> Result<()> {
    for &(axis, buffer) in &plan.words {
        let (lengths, steps) = along(axis);
        executable.write((buffer, 0), &key_and_lengths(key, lengths.as_deref(), batch, steps)?)?;
    }
    Ok(())
}
