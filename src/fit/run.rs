//! The training loop.

use super::feed::{Batches, Cutting, Epoch, GivenBatch, Source, StepBatches};
use super::metric::scores;
use super::pace::{LOOK, MOST_STEPS};
use super::progress::{Fingerprint, PartialEpoch, Progress, states};
use super::{Callback, CallbackState, EpochEvent, Fit, Flow, History, Reset, StepEvent, Stopped, Validation};
use crate::device::TensorReading;
use crate::error::{Error, Result};
use crate::model::{Data, Evaluate, Inputs, MicroBatch, Model, Resident, Targets, batches, check_divides};
use crate::train::Schedule;
use crate::wait::MaybeSend;
use std::sync::Arc;
use std::time::Instant;

/// Runs the fit.
pub(crate) async fn fit(model: &mut Model, x: Inputs<'_>, y: Targets<'_>, mut fit: Fit<'_>) -> Result<History> {
    if fit.batch_size == 0 {
        return Err(Error::Config("the batch size is 0; it must be at least 1".into()));
    }
    check_carried(model, &fit)?;
    check_accumulate(&fit)?;
    check_only(model, &fit)?;
    let (lengths, weights) = (fit.lengths.take(), fit.weights.take());
    let (x, y) = (x.or_lengths(lengths.clone()), y.with_weights(weights));
    let data = Cutting::of(&fit).data(model, "", x, y)?;
    if let Some(schedule) = &fit.schedule {
        schedule.validate()?;
    }
    let fingerprint = Fingerprint::new(model, &fit, Some(&data), lengths.as_deref())?;
    let validation = std::mem::take(&mut fit.validation);
    let (data, validation) = split(model, data, validation, &fit)?;
    if fit.stateful.is_some() {
        check_divides("x", data.count(), fit.batch_size)?;
        if let Some(validation) = &validation {
            check_divides("validation x", validation.count(), fit.batch_size)?;
        }
    }
    let window = fit.truncated.unwrap_or(usize::MAX).min(data.longest());
    let steps = window.saturating_mul(fit.batch_size.min(data.count()));
    model.set_weighted(data.is_weighted())?;
    run(model, Source::Arrays(data), validation, steps, fingerprint, fit).await
}

/// Runs a fit on batches that iterators give, one an epoch.
pub(crate) async fn fit_batches<I>(
    model: &mut Model,
    mut make: impl FnMut(usize) -> I + MaybeSend,
    mut fit: Fit<'_>,
) -> Result<History>
where
    I: Iterator<Item = GivenBatch> + MaybeSend + 'static,
{
    check_carried(model, &fit)?;
    check_accumulate(&fit)?;
    let refused = [
        (fit.truncated.is_some(), "truncated"),
        (fit.lengths.is_some(), "lengths"),
        (fit.weights.is_some(), "sample_weights or step_weights"),
        (matches!(fit.validation, Validation::Split(_)), "validation_split"),
    ];
    if let Some((_, name)) = refused.iter().find(|(given, _)| *given) {
        return Err(Error::Config(format!(
            "Fit::{name} is for arrays; batches of an iterator bring lengths and weights of their own, and are validated on \
             validation_data"
        )));
    }
    if let Some(schedule) = &fit.schedule {
        schedule.validate()?;
    }
    let fingerprint = Fingerprint::new(model, &fit, None, None)?;
    let validation = match std::mem::take(&mut fit.validation) {
        Validation::Data(x, y) => Some(Cutting::of(&fit).data(model, "validation ", x, y)?),
        Validation::None | Validation::Split(_) => None,
    };
    if let (Some(_), Some(validation)) = (fit.stateful, &validation) {
        check_divides("validation x", validation.count(), fit.batch_size)?;
    }
    let ahead = fit.batches_ahead;
    let source = Source::Batches(Box::new(move |epoch| Batches::new(make(epoch), ahead)));
    run(model, source, validation, fit.batch_size, fingerprint, fit).await
}

/// Runs a fit on checked data; `steps` are those of a batch, all sequences together.
async fn run(
    model: &mut Model,
    mut source: Source<'_, '_, '_>,
    validation: Option<Data<'static, 'static>>,
    steps: usize,
    fingerprint: Fingerprint,
    fit: Fit<'_>,
) -> Result<History> {
    let mut progress = Progress::begin(model, &fit, fingerprint)?;

    let before = (model.progress()?.clone(), model.learning_rate()?);
    // The rate of a run that goes on with its schedule may have been set by a callback since the schedule last advanced.
    let goes_on = progress.begun() && progress.schedule == before.0.schedule;
    if let Some(schedule) = progress.schedule.as_mut().filter(|_| !goes_on) {
        model.set_learning_rate(schedule.begin(before.1))?;
    }
    model.set_seed(fit.seed)?;
    let saved = std::mem::take(&mut progress.callbacks);
    let schedule = progress.schedule.clone();
    *model.progress_mut()? = progress;
    model.set_accumulate(fit.accumulate > 1)?;
    model.pace()?.resize(steps.saturating_mul(fit.accumulate));
    let mut run = Run {
        fit,
        validation,
        boundary: schedule.clone(),
        schedule,
        others: Vec::new(),
        start: Instant::now(),
        history: History::default(),
        last: None,
        steps: 0,
        resident: None,
    };
    let outcome = match run.begin(model, &saved) {
        Ok(Flow::Continue) => run.epochs(model, &mut source).await,
        Ok(Flow::Stop) => Ok(Some(Stopped::Callback)),
        // No step was taken: the run that was in the model can still be resumed.
        Err(error) => put_back(model, before).and(Err(error)),
    };
    run.end(model, outcome).await
}

/// Takes progress and learning rate back to what they were.
fn put_back(model: &mut Model, (progress, rate): (Progress, f64)) -> Result<()> {
    *model.progress_mut()? = progress;
    model.set_learning_rate(rate)
}

/// Steps whose losses are read.
struct AskedLosses {
    epoch: usize,
    /// Number of the first step.
    first: usize,
    /// Sequences of each.
    sequences: Vec<f64>,
    losses: TensorReading,
}

/// A fit that runs.
struct Run<'f> {
    fit: Fit<'f>,
    validation: Option<Data<'static, 'static>>,
    schedule: Option<Schedule>,
    /// The schedule as it was at the last end of an epoch.
    boundary: Option<Schedule>,
    /// Saved states of callbacks that this fit does not have.
    others: Vec<CallbackState>,
    start: Instant,
    history: History,
    /// Epoch, step and loss of the last step that was looked at.
    last: Option<(usize, usize, f32)>,
    /// Steps of an epoch; 0 while they are not known.
    steps: usize,
    /// The data on the device; `None` before that was tried.
    resident: Option<Option<Arc<Resident>>>,
}

impl Run<'_> {
    /// Gives callbacks their saved states back and tells them that the fit begins.
    fn begin(&mut self, model: &mut Model, saved: &[CallbackState]) -> Result<Flow> {
        let mut left: Vec<&CallbackState> = saved.iter().collect();
        let mut flow = Flow::Continue;
        for callback in &mut self.fit.callbacks {
            let Some(own) = callback.state()? else { continue };
            if let Some(at) = left.iter().position(|state| state.name == own.name)
                && callback.restore(left.remove(at))? == Flow::Stop
            {
                flow = Flow::Stop;
            }
        }
        // One with settings was left out on purpose.
        self.others = left.into_iter().filter(|state| state.settings.is_empty()).cloned().collect();
        self.gather(model)?;
        for callback in &mut self.fit.callbacks {
            callback.on_begin(model)?;
        }
        Ok(flow)
    }

    /// Puts the callbacks' states into the model's progress.
    fn gather(&self, model: &mut Model) -> Result<()> {
        let mut all = states(&self.fit.callbacks)?;
        all.extend(self.others.iter().cloned());
        model.progress_mut()?.callbacks = all;
        Ok(())
    }

    async fn epochs(&mut self, model: &mut Model, source: &mut Source<'_, '_, '_>) -> Result<Option<Stopped>> {
        for epoch in model.progress()?.epoch + 1..=self.fit.epochs {
            if self.epoch(model, epoch, source).await? == Flow::Stop {
                return Ok(Some(Stopped::Callback));
            }
        }
        Ok(None)
    }

    /// An epoch, or the rest of one.
    async fn epoch(&mut self, model: &mut Model, epoch: usize, source: &mut Source<'_, '_, '_>) -> Result<Flow> {
        let saved = model.progress()?.partial.clone();
        let done = saved.as_ref().map_or(0, |partial| partial.step);
        let mut batches = source.epoch(model, Cutting::of(&self.fit), epoch, done).await?;
        self.steps = batches.len().unwrap_or(self.steps);
        let mut partial = match saved {
            Some(partial) => partial,
            None => {
                if self.fit.stateful == Some(Reset::EachEpoch) {
                    model.reset_states()?;
                }
                PartialEpoch { learning_rate: model.learning_rate()?, ..PartialEpoch::default() }
            }
        };
        let (flow, ended) = self.steps(model, epoch, &mut batches, &mut partial).await?;
        if flow == Flow::Stop && !ended {
            return Ok(Flow::Stop);
        }
        self.steps = partial.step;

        let loss = partial.loss();
        let validation_loss = self.validate(model).await?;
        drop(batches);
        let metrics = self.metrics(model, source.arrays()).await?;
        if let Some(loss) = validation_loss.filter(|loss| !loss.is_finite())
            && !model.weights_are_finite().await?
        {
            return Err(Error::Diverged { epoch, step: self.steps, loss });
        }
        self.history.loss.push(loss);
        self.history.validation_loss.extend(validation_loss);
        self.history.learning_rate.push(partial.learning_rate);
        let event = EpochEvent {
            epoch,
            epochs: self.fit.epochs,
            steps: self.steps,
            loss,
            validation_loss,
            metrics,
            learning_rate: partial.learning_rate,
            seconds: self.start.elapsed().as_secs_f64(),
        };
        for (name, score) in &event.metrics {
            self.history.metrics.entry(name.clone()).or_default().push(*score);
        }
        if let Some(schedule) = self.schedule.as_mut().filter(|schedule| !schedule.is_per_step()) {
            advance(schedule, model, event.watched() as f64)?;
        }
        self.boundary = self.schedule.clone();
        let progress = model.progress_mut()?;
        (progress.epoch, progress.partial, progress.schedule) = (epoch, None, self.schedule.clone());
        self.tell(model, flow, epoch == self.fit.epochs, |callback, model| callback.on_epoch(&event, model))
    }

    /// The steps of an epoch that are left; true if it came to its end. Losses are read after each few of them, which changes no bit
    /// of what is computed.
    async fn steps(
        &mut self,
        model: &mut Model,
        epoch: usize,
        batches: &mut Epoch<'_, '_, '_>,
        partial: &mut PartialEpoch,
    ) -> Result<(Flow, bool)> {
        let mut intervals: Vec<usize> = self.fit.callbacks.iter().map(|callback| callback.interval().max(1)).collect();
        if !intervals.is_empty() {
            intervals.push(MOST_STEPS);
        }
        // Sequences of the steps whose losses are not read yet.
        let mut queued: Vec<f64> = Vec::new();
        let (mut looked, mut waited) = (Instant::now(), Instant::now());
        let mut step = partial.step;
        // Those before them, whose losses are on their way: the device has these steps to run while the host waits for those.
        let mut asked: Option<AskedLosses> = None;
        // A step whose data are staged already.
        let mut ahead: Option<StepBatches<'_>> = None;
        loop {
            let next = match ahead.take() {
                Some(staged) => Some(staged),
                None => batches.step(model, self.fit.accumulate).await?,
            };
            let Some(mut batch) = next else { break };
            step += 1;
            partial.learning_rate = model.learning_rate()?;
            for part in &mut batch.batches {
                part.data.resident = self.resident.clone().flatten();
            }
            self.step(model, &mut batch, queued.len()).await?;
            // Now the plan is there, whose memory comes first. One epoch reads everything once, so nothing is gained by keeping it.
            if let (None, Some(data)) = (&self.resident, batches.arrays()) {
                self.resident = Some(if epoch < self.fit.epochs { model.reside(data).await } else { None });
            }
            queued.push(batch.sequences);
            let due = batch.last || intervals.iter().any(|&interval| step.is_multiple_of(interval));
            if !due && queued.len() < model.pace()?.stride() && looked.elapsed() < LOOK {
                continue;
            }
            let (first, losses) = (step - queued.len() + 1, model.begin_losses(queued.len())?);
            let before = asked.replace(AskedLosses { epoch, first, sequences: std::mem::take(&mut queued), losses });
            // While the device runs; an iterator's batches may change the plan.
            if batches.arrays().is_some() {
                ahead = batches.step(model, self.fit.accumulate).await?;
                let first = ahead.as_mut().and_then(|ahead| ahead.batches.first_mut());
                let by_host = self.fit.loss.is_none() && !matches!(self.resident, Some(Some(_)));
                if let Some(first) = first.filter(|_| by_host) {
                    model.upload_ahead(&mut first.data, self.carries())?;
                }
            }
            if let Some(before) = before {
                self.take_losses(model, before, partial, &mut waited).await?;
            }
            if due || looked.elapsed() >= LOOK {
                if let Some(last) = asked.take() {
                    self.take_losses(model, last, partial, &mut waited).await?;
                }
                if self.look(model, epoch, partial, batch.last)? == Flow::Stop {
                    return Ok((Flow::Stop, batch.last));
                }
                (looked, waited) = (Instant::now(), Instant::now());
            }
        }
        if let Some(last) = asked {
            self.take_losses(model, last, partial, &mut waited).await?;
        }
        Ok((Flow::Continue, true))
    }

    /// Waits for the losses of some steps, and counts these as done.
    async fn take_losses(
        &mut self,
        model: &mut Model,
        AskedLosses { epoch, first, sequences, losses }: AskedLosses,
        partial: &mut PartialEpoch,
        waited: &mut Instant,
    ) -> Result<()> {
        let losses = losses.numbers().await?;
        model.pace()?.measured(losses.len(), waited.elapsed());
        *waited = Instant::now();
        for (sequences, (step, loss)) in sequences.into_iter().zip((first..).zip(losses)) {
            if !loss.is_finite() {
                return Err(Error::Diverged { epoch, step, loss });
            }
            partial.sum += loss as f64 * sequences;
            partial.seen += sequences;
            partial.step = step;
            self.last = Some((epoch, step, loss));
            self.history.steps += 1;
        }
        Ok(())
    }

    /// Tells callbacks of the steps that are done.
    fn look(&mut self, model: &mut Model, epoch: usize, partial: &PartialEpoch, last: bool) -> Result<Flow> {
        let progress = model.progress_mut()?;
        (progress.partial, progress.schedule) = (Some(partial.clone()), self.schedule.clone());
        let event = StepEvent {
            epoch,
            epochs: self.fit.epochs,
            step: partial.step,
            steps: if last { partial.step } else { self.steps },
            loss: partial.loss(),
            learning_rate: partial.learning_rate,
        };
        if !last {
            return self.tell(model, Flow::Continue, false, |callback, model| callback.on_steps(&event, model));
        }
        // The end of the epoch is still to come, and files are saved then.
        let mut flow = Flow::Continue;
        for callback in &mut self.fit.callbacks {
            if callback.on_steps(&event, model)? == Flow::Stop {
                flow = Flow::Stop;
            }
        }
        self.gather(model)?;
        Ok(flow)
    }

    /// Tells all callbacks of something, then lets them save.
    fn tell(
        &mut self,
        model: &mut Model,
        mut flow: Flow,
        last: bool,
        mut event: impl FnMut(&mut dyn Callback, &mut Model) -> Result<Flow>,
    ) -> Result<Flow> {
        for k in 0..self.fit.callbacks.len() {
            if event(self.fit.callbacks[k].as_mut(), model)? == Flow::Stop {
                flow = Flow::Stop;
            }
            // One that saves at once saves the states of those before it.
            self.gather(model)?;
        }
        let end = if last { Flow::Stop } else { flow };
        for callback in &mut self.fit.callbacks {
            callback.save(model, end)?;
        }
        self.gather(model)?;
        Ok(flow)
    }

    /// True if states go on from batch to batch.
    fn carries(&self) -> bool {
        self.fit.truncated.is_some() || self.fit.stateful.is_some()
    }

    /// Takes an optimiser step; its loss goes to a place in the device's log.
    async fn step(&mut self, model: &mut Model, step: &mut StepBatches<'_>, slot: usize) -> Result<()> {
        let (carries, count) = (self.carries(), step.batches.len());
        if self.fit.accumulate > 1 {
            let group = model.counted(step.batches.iter().map(|batch| &batch.data))?;
            step.batches.iter_mut().for_each(|batch| batch.data.group = Some(group.clone()));
        }
        let mut sum = 0.0;
        for (index, batch) in step.batches.iter().enumerate() {
            if carries && self.fit.stateful.is_none() && batch.begins {
                model.reset_states()?;
            }
            let (data, micro) = (&batch.data, MicroBatch { index, count });
            let Some(loss) = &mut self.fit.loss else {
                model.train_step(data, carries, micro, slot).await?;
                continue;
            };
            let share = (batch.sequences / step.sequences) as f32;
            let own = model.own_step(data, carries, micro, share, |outputs| loss(outputs, &data.own)).await?;
            sum += share * own;
            if micro.is_last() || !own.is_finite() {
                model.log_loss(slot, sum)?;
                break;
            }
        }
        match self.schedule.as_mut().filter(|schedule| schedule.is_per_step()) {
            Some(schedule) => advance(schedule, model, f64::NAN),
            None => Ok(()),
        }
    }

    /// The loss on the validation data, if there are some.
    async fn validate(&mut self, model: &mut Model) -> Result<Option<f32>> {
        let Some(data) = &self.validation else { return Ok(None) };
        let options = match self.fit.stateful {
            Some(_) => Evaluate::new().batch_size(self.fit.batch_size).stateful(true),
            None => Evaluate::new(),
        };
        let Some(own) = &mut self.fit.loss else { return Ok(Some(model.evaluate_data(data, options).await?)) };
        let mut sum = 0.0;
        for range in batches(data.count(), self.fit.batch_size.max(1)) {
            let part = data.rows(range);
            let outputs = model.named_outputs(&part).await?;
            sum += own(&outputs, &part.own)?.0 as f64 * part.count() as f64;
        }
        Ok(Some((sum / data.count() as f64) as f32))
    }

    /// Scores of the epoch, of the validation data or else those trained on.
    async fn metrics(&mut self, model: &Model, trained: Option<&Data<'_, '_>>) -> Result<Vec<(String, f64)>> {
        if self.fit.metrics.is_empty() {
            return Ok(Vec::new());
        }
        match (&self.validation, trained) {
            (Some(data), _) => scores(&mut self.fit.metrics, model, data).await,
            (None, Some(data)) => scores(&mut self.fit.metrics, model, data).await,
            (None, None) => Err(Error::Config(
                "metrics are of all predictions, which batches of an iterator do not give together; set validation_data".into(),
            )),
        }
    }

    /// Ends the fit, whatever became of it: the first error counts, and every callback hears of the end.
    async fn end(mut self, model: &mut Model, outcome: Result<Option<Stopped>>) -> Result<History> {
        let mut outcome = self.divergence(model, outcome).await;
        if matches!(outcome, Err(Error::Diverged { .. }))
            && let Err(error) = self.start_anew(model)
        {
            log::warn!("after divergence, the optimiser could not begin anew: {error}");
        }
        let restored = self.fit.callbacks.iter().any(|callback| callback.restores_weights());
        let mut failed = None;
        for callback in &mut self.fit.callbacks {
            if let Err(error) = callback.on_end(model) {
                failed.get_or_insert(error);
            }
        }
        if let (Err(Error::Diverged { epoch, step, loss }), true, None) = (&outcome, restored, &failed)
            && model.weights_are_finite().await.is_ok_and(|finite| finite)
        {
            let (epoch, step, loss) = (*epoch, *step, *loss);
            outcome = Ok(Some(Stopped::Diverged { epoch, step, loss }));
        }
        self.history.stopped = outcome?;
        if let Some(error) = failed {
            return Err(error);
        }
        self.history.schedule = model.progress()?.schedule.clone();
        self.history.seconds = self.start.elapsed().as_secs_f64();
        Ok(self.history)
    }

    /// Finds divergence that no loss has shown: a step can spoil the weights after its loss, which was taken before it.
    async fn divergence(&mut self, model: &Model, outcome: Result<Option<Stopped>>) -> Result<Option<Stopped>> {
        let Some((epoch, step, loss)) = self.last else { return outcome };
        let spoilt = match &outcome {
            Ok(_) => !model.weights_are_finite().await?,
            // A callback could not save what is not finite.
            Err(Error::NotFinite { .. }) => !model.weights_are_finite().await? || !model.memory_is_finite().await?,
            Err(_) => false,
        };
        if spoilt { Err(Error::Diverged { epoch, step, loss }) } else { outcome }
    }

    /// After divergence: takes the optimiser's memory and carried states, which are no longer finite, back to zero, and the run to
    /// the end of its last whole epoch.
    fn start_anew(&mut self, model: &mut Model) -> Result<()> {
        model.restart_optimiser()?;
        let progress = model.progress_mut()?;
        (progress.partial, progress.schedule) = (None, self.boundary.clone());
        if let Some(schedule) = &mut self.boundary {
            model.set_learning_rate(schedule.begin(0.0))?;
        }
        Ok(())
    }
}

/// Refuses lengths and weights that do not say of which input or target they are.
fn check_only(model: &Model, fit: &Fit<'_>) -> Result<()> {
    if fit.lengths.is_some() && model.graph().inputs.len() > 1 {
        return Err(Error::Config(
            "Fit::lengths is for models of one input; give those of each input by Inputs::lengths".into(),
        ));
    }
    if fit.weights.is_some() && model.graph().outputs.len() > 1 {
        return Err(Error::Config(
            "Fit::sample_weights and Fit::step_weights are for models of one output; give those of each target by \
             Targets::weights"
                .into(),
        ));
    }
    Ok(())
}

/// Refuses to carry states where that has no meaning.
fn check_carried(model: &Model, fit: &Fit<'_>) -> Result<()> {
    if let Some(window) = fit.truncated {
        if window == 0 {
            return Err(Error::Config("truncated was given windows of 0 steps; they must have at least 1".into()));
        }
        if model.graph().inputs.len() > 1 || model.graph().axes.len() > 1 {
            return Err(Error::Config(
                "truncated cuts the steps of one input into windows; this model has several inputs, or layers that change the steps"
                    .into(),
            ));
        }
        if !model.returns_sequences() {
            return Err(Error::Config(
                "truncated needs a model with an output at every step, but this one ends its sequences; set \
                 return_sequences(true) on its recurrent layers, or cut the sequences and use stateful"
                    .into(),
            ));
        }
    }
    if fit.stateful.is_some() && fit.shuffle {
        return Err(Error::Config(
            "stateful carries states from batch to batch, so sequences must stay in their order; set shuffle(false)"
                .into(),
        ));
    }
    if fit.truncated.is_some() || fit.stateful.is_some() { model.check_carried() } else { Ok(()) }
}

/// Refuses steps of no batch, and windows of targets that only the caller's loss understands.
fn check_accumulate(fit: &Fit<'_>) -> Result<()> {
    if fit.accumulate == 0 {
        return Err(Error::Config("accumulate was given 0 batches; a step needs at least 1".into()));
    }
    if fit.loss.is_some() && fit.truncated.is_some() {
        return Err(Error::Config(
            "truncated cuts targets into windows, but those of a loss of one's own may have any shape; cut the sequences and use \
             stateful"
                .into(),
        ));
    }
    Ok(())
}

/// Sets the learning rate of the next step.
fn advance(schedule: &mut Schedule, model: &mut Model, watched: f64) -> Result<()> {
    match schedule.advance(watched) {
        Some(rate) => model.set_learning_rate(rate),
        None => Ok(()),
    }
}

/// Takes the validation data off.
fn split<'x, 'y>(
    model: &Model,
    data: Data<'x, 'y>,
    validation: Validation,
    fit: &Fit<'_>,
) -> Result<(Data<'x, 'y>, Option<Data<'static, 'static>>)> {
    match validation {
        Validation::None => Ok((data, None)),
        Validation::Data(x, y) => {
            let held = Cutting::of(fit).data(model, "validation ", x, y)?;
            Ok((data, Some(held)))
        }
        Validation::Split(share) => {
            let count = data.count();
            let kept = (count as f64 * (1.0 - share)).floor() as usize;
            if !(share > 0.0 && share < 1.0) || kept == 0 || kept == count {
                return Err(Error::Config(format!(
                    "a validation split of {share} leaves {kept} of {count} sequences to train on; it must be above 0 and \
                     below 1 and leave at least one on each side"
                )));
            }
            let rows: Vec<usize> = (kept..count).collect();
            let held = data.select(&rows)?;
            let data = data.first(kept);
            Ok((data, Some(held)))
        }
    }
}
