//! Callbacks: every one hears of the end however a fit ends, divergence ends with the best weights where there are some, and
//! `on_steps` stops, saves and sets the rate.

mod common;

use common::Draw;
use ndarray::{Array2, Array3, Axis};
use std::collections::BTreeMap;
use std::time::Duration;
use wgpu_lstm::{
    Callback, Checkpoint, Dense, Device, EarlyStopping, EpochEvent, Error, Fit, Flow, Loss, Lstm, Model, Optimiser,
    Result, Schedule, Sequential, StepEvent, StopFlag, Stopped, TimeLimit,
};

fn data(count: usize) -> (Array3<f32>, Array2<f32>) {
    let mut draw = Draw::new(3);
    let x = draw.array3((count, 4, 2));
    let y = Array2::from_shape_fn((count, 1), |(n, _)| x[[n, 1, 0]] + x[[n, 3, 1]]);
    (x, y)
}

fn fresh(device: &Device, optimiser: Optimiser) -> Model {
    let mut model = Sequential::new(2).add(Lstm::new(4)).add(Dense::new(1)).build(device, 1).unwrap();
    model.compile(Loss::MeanSquaredError, optimiser).unwrap();
    model
}

/// Moments of a fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Begin,
    Steps,
    Epoch,
    Save,
    End,
}

/// Counts what it hears, and fails at a moment.
#[derive(Default)]
struct Count {
    heard: BTreeMap<Moment, usize>,
    fails: Option<Moment>,
}

impl Count {
    fn hear(&mut self, moment: Moment) -> Result<()> {
        *self.heard.entry(moment).or_default() += 1;
        match self.fails {
            Some(at) if at == moment => Err(Error::Config(format!("failed in {moment:?}"))),
            _ => Ok(()),
        }
    }
}

impl Callback for &mut Count {
    fn on_begin(&mut self, _: &mut Model) -> Result<()> {
        self.hear(Moment::Begin)
    }
    fn on_steps(&mut self, _: &StepEvent, _: &mut Model) -> Result<Flow> {
        self.hear(Moment::Steps).map(|()| Flow::Continue)
    }
    fn on_epoch(&mut self, _: &EpochEvent, _: &mut Model) -> Result<Flow> {
        self.hear(Moment::Epoch).map(|()| Flow::Continue)
    }
    fn save(&mut self, _: &mut Model, _: Flow) -> Result<()> {
        self.hear(Moment::Save)
    }
    fn on_end(&mut self, _: &mut Model) -> Result<()> {
        self.hear(Moment::End)
    }
}

#[test]
fn every_end_is_heard_once_and_the_first_error_returned() {
    let (x, y) = data(6);
    for fails in [Moment::Begin, Moment::Steps, Moment::Epoch, Moment::Save, Moment::End] {
        let [mut first, mut second, mut last] =
            [None, Some(fails), Some(Moment::End)].map(|fails| Count { fails, ..Count::default() });
        let fit = Fit::new().epochs(3).callback(&mut first).callback(&mut second).callback(&mut last);
        let error = fresh(&Device::cpu(), Optimiser::adam(0.01)).fit(x.view(), y.view(), fit).unwrap_err().to_string();
        assert_eq!(error, format!("failed in {fails:?}"));
        for count in [&first, &second, &last] {
            assert_eq!(count.heard[&Moment::End], 1, "{fails:?}: {:?}", count.heard);
        }
    }
    let mut count = Count::default();
    let fit = Fit::new().epochs(3).callback(&mut count);
    assert_eq!(fresh(&Device::cpu(), Optimiser::adam(0.01)).fit(x.view(), y.view(), fit).unwrap().stopped, None);
    assert_eq!(count.heard.values().copied().collect::<Vec<_>>(), [1, 3, 3, 3, 1]);
    // Divergence
    let mut count = Count::default();
    let fit = Fit::new().epochs(9).callback(&mut count);
    let error = fresh(&Device::cpu(), Optimiser::sgd(1e30, 0.9)).fit(x.view(), y.view(), fit).unwrap_err();
    assert!(matches!(error, Error::Diverged { .. }), "{error}");
    assert_eq!(count.heard[&Moment::End], 1);
    // Settings that are refused: nothing begins, so nothing ends
    let mut count = Count::default();
    let fit = Fit::new().batch_size(0).callback(&mut count);
    fresh(&Device::cpu(), Optimiser::adam(0.01)).fit(x.view(), y.view(), fit).unwrap_err();
    assert!(count.heard.is_empty());
}

/// Sets the rate at the end of an epoch, and keeps the weights as they were after each.
struct Rate {
    after: usize,
    rate: f64,
    weights: Vec<BTreeMap<String, ndarray::ArrayD<f32>>>,
}

impl Callback for &mut Rate {
    fn on_epoch(&mut self, event: &EpochEvent, model: &mut Model) -> Result<Flow> {
        if event.epoch == self.after {
            model.set_learning_rate(self.rate)?;
        }
        self.weights.push(model.parameters()?);
        Ok(Flow::Continue)
    }
}

/// After four epochs, steps are far too long. The optimiser's memory is spoilt, too, and must not spoil a later fit.
fn divergence_ends_with_the_best_weights(device: &Device) {
    let (x, y) = data(40);
    for optimiser in [Optimiser::sgd(0.05, 0.9), Optimiser::adam(0.01)] {
        for validate in [false, true] {
            let mut model = fresh(device, optimiser.clone());
            let mut rate = Rate { after: 4, rate: 1e38, weights: Vec::new() };
            let mut fit = Fit::new().epochs(50).batch_size(8).callback(EarlyStopping::new(20)).callback(&mut rate);
            if validate {
                fit = fit.validation_data(x.clone(), y.clone().insert_axis(Axis(1)));
            }
            let history = model.fit(x.view(), y.view(), fit).unwrap();
            let Some(Stopped::Diverged { epoch: 5, step, loss }) = history.stopped else { panic!("{history:?}") };
            assert!((1..=5).contains(&step) && (step < 5) != loss.is_finite(), "{history:?}");
            let watched = if validate { &history.validation_loss } else { &history.loss };
            assert_eq!((history.loss.len(), watched.len()), (4, 4));
            let best = (0..4).min_by(|&a, &b| watched[a].total_cmp(&watched[b])).unwrap();
            assert_eq!(model.parameters().unwrap(), rate.weights[best], "{watched:?}");

            // As a model with these weights and a new optimiser
            let mut anew = fresh(device, optimiser.clone());
            anew.set_parameters(rate.weights.swap_remove(best)).unwrap();
            model.set_learning_rate(optimiser.lr).unwrap();
            let fit = || Fit::new().epochs(3).batch_size(8);
            let again = model.fit(x.view(), y.view(), fit()).unwrap();
            assert_eq!(again.loss, anew.fit(x.view(), y.view(), fit()).unwrap().loss);
            assert_eq!(model.parameters().unwrap(), anew.parameters().unwrap());
        }
    }
    // No best weights at hand
    for stopping in [EarlyStopping::new(20), EarlyStopping::new(20).restore_best(false)] {
        let mut model = fresh(device, Optimiser::sgd(1e38, 0.0));
        let error = model.fit(x.view(), y.view(), Fit::new().epochs(9).batch_size(8).callback(stopping)).unwrap_err();
        assert!(matches!(error, Error::Diverged { epoch: 1, .. }), "{error}");
        // A later fit from weights that are finite
        model.set_parameters(fresh(device, Optimiser::sgd(0.1, 0.0)).parameters().unwrap()).unwrap();
        model.set_learning_rate(0.01).unwrap();
        assert!(model.fit(x.view(), y.view(), Fit::new().epochs(2)).unwrap().loss.iter().all(|loss| loss.is_finite()));
    }
}

/// The loss of a step is taken before it: the last step can spoil weights without a loss that shows it.
fn a_last_step_that_spoils_the_weights_is_divergence(device: &Device) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let (x, mut y) = data(8);
    y *= 1e3;
    let one = || Fit::new().batch_size(8); // one step an epoch
    let mut model = fresh(device, Optimiser::sgd(1e38, 0.0));
    let error = model.fit(x.view(), y.view(), one()).unwrap_err();
    let Error::Diverged { epoch: 1, step: 1, loss } = error else { panic!("{error}") };
    assert!(
        loss.is_finite() && error.to_string().contains("weights became infinite or NaN in step 1 of epoch 1"),
        "{error}"
    );

    // In the middle, at the end, and where something is to be saved; the spoilt weights are never the best.
    for (epochs, save) in [(9, false), (3, false), (9, true), (3, true)] {
        let mut rate = Rate { after: 2, rate: 1e38, weights: Vec::new() };
        let mut fit = one().epochs(epochs).callback(&mut rate);
        if save {
            fit = fit.callback(Checkpoint::every_epoch(&path).training(true));
        }
        let mut model = fresh(device, Optimiser::sgd(1e-6, 0.0));
        let history = model.fit(x.view(), y.view(), fit.callback(EarlyStopping::new(5))).unwrap();
        let Some(Stopped::Diverged { epoch, .. }) = history.stopped else { panic!("{history:?}") };
        assert!((3..=4).contains(&epoch), "{history:?}");
        assert_eq!(model.parameters().unwrap(), rate.weights[1], "{epochs} {save}");
        if save {
            assert_eq!(Model::load(&path, device).unwrap().parameters().unwrap(), rate.weights[1]);
        }
    }
}

/// An action in `on_steps` at a step.
struct At {
    step: usize,
    act: fn(&mut Model) -> Result<Flow>,
    seen: Vec<(usize, usize)>,
    every: usize,
}

impl At {
    fn new(step: usize, act: fn(&mut Model) -> Result<Flow>) -> At {
        At { step, act, seen: Vec::new(), every: 32 }
    }
}

impl Callback for &mut At {
    fn on_steps(&mut self, event: &StepEvent, model: &mut Model) -> Result<Flow> {
        self.seen.push((event.epoch, event.step));
        if event.step == self.step { (self.act)(model) } else { Ok(Flow::Continue) }
    }
    fn interval(&self) -> usize {
        self.every
    }
}

fn fits_stop_within_an_epoch(device: &Device) {
    let (x, y) = data(100);
    let mut model = fresh(device, Optimiser::adam(0.01));
    let mut at = At::new(32, |_| Ok(Flow::Stop));
    let history = model.fit(x.view(), y.view(), Fit::new().epochs(3).batch_size(2).callback(&mut at)).unwrap();
    assert_eq!((history.steps, history.loss.len(), history.stopped), (32, 0, Some(Stopped::Callback)));
    // On a slow device losses are read, and steps heard, more often.
    assert_eq!(at.seen.last(), Some(&(1, 32)));
    // The rest: the run is the whole run.
    let rest = model.fit(x.view(), y.view(), Fit::new().epochs(3).batch_size(2).resume(true)).unwrap();
    let mut whole = fresh(device, Optimiser::adam(0.01));
    let history = whole.fit(x.view(), y.view(), Fit::new().epochs(3).batch_size(2)).unwrap();
    assert_eq!((&rest.loss, rest.steps), (&history.loss, 150 - 32));
    assert_eq!(model.parameters().unwrap(), whole.parameters().unwrap());

    // After the last steps of an epoch, the epoch ends as usual.
    let mut at = At::new(50, |_| Ok(Flow::Stop));
    let fit = Fit::new().epochs(3).batch_size(2).callback(&mut at);
    let history = fresh(device, Optimiser::adam(0.01)).fit(x.view(), y.view(), fit).unwrap();
    assert_eq!((history.steps, history.loss.len(), history.stopped), (50, 1, Some(Stopped::Callback)));
}

on_both!(
    divergence_ends_with_the_best_weights,
    a_last_step_that_spoils_the_weights_is_divergence,
    fits_stop_within_an_epoch
);

#[test]
fn intervals_are_kept() {
    let (x, y) = data(90);
    let mut at = At { every: 20, ..At::new(0, |_| Ok(Flow::Continue)) };
    let fit = Fit::new().batch_size(2).callback(&mut at);
    fresh(&Device::cpu(), Optimiser::adam(0.01)).fit(x.view(), y.view(), fit).unwrap();
    assert_eq!(at.seen, [(1, 20), (1, 32), (1, 40), (1, 45)]);
}

/// A rate set within an epoch holds until a schedule advances.
#[test]
fn steps_can_set_the_rate() {
    let (x, y) = data(100);
    let fit = |schedule: Option<Schedule>| {
        let mut at = At::new(32, |model| model.set_learning_rate(0.5).map(|()| Flow::Continue));
        let mut fit = Fit::new().epochs(2).batch_size(2).callback(&mut at);
        if let Some(schedule) = schedule {
            fit = fit.schedule(schedule);
        }
        fresh(&Device::cpu(), Optimiser::sgd(0.01, 0.0)).fit(x.view(), y.view(), fit).unwrap().learning_rate
    };
    assert_eq!(fit(None), [0.5, 0.5]);
    assert_eq!(fit(Some(Schedule::step(1, 0.1))), [0.5, 0.5], "the schedule's 0.001 holds for 32 steps");
    assert_eq!(fit(Some(Schedule::step(1000, 0.1).per_step())), [0.01, 0.01]);
}

#[test]
fn clocks_and_flags_stop() {
    let (x, y) = data(100);
    let flag = StopFlag::new();
    let mut model = fresh(&Device::cpu(), Optimiser::adam(0.01));
    let mut fit = |fit: Fit| model.fit(x.view(), y.view(), fit.epochs(2).batch_size(2)).unwrap();
    assert_eq!(fit(Fit::new().callback(TimeLimit::new(Duration::ZERO))).steps, 32);
    assert_eq!(fit(Fit::new().callback(TimeLimit::new(Duration::from_secs(3600)))).stopped, None);
    assert_eq!(fit(Fit::new().callback(flag.clone())).steps, 100);
    flag.raise();
    assert_eq!(fit(Fit::new().callback(flag.clone())).stopped, Some(Stopped::Callback));
    flag.lower();
    assert_eq!(fit(Fit::new().callback(flag)).steps, 100);
}

#[test]
fn settings_of_callbacks() {
    let (x, y) = data(4);
    let fit =
        |fit: Fit| fresh(&Device::cpu(), Optimiser::adam(0.01)).fit(x.view(), y.view(), fit).unwrap_err().to_string();
    for delta in [-1.0, f32::NAN, f32::INFINITY] {
        let error = fit(Fit::new().callback(EarlyStopping::new(1).min_delta(delta)));
        assert!(error.contains("min_delta") && error.contains(&delta.to_string()), "{error}");
    }
    let error = fit(Fit::new().callback(Checkpoint::every_steps("never", 0)));
    assert!(error.contains("every 0 steps"), "{error}");
}
