//! Models as a user sees them: fit, callbacks, evaluate, predict, summary, save and load.

mod common;

use common::{Draw, close};
use ndarray::{Array2, Array3, Axis, s};
use wgpu_lstm::data::Scaler;
use wgpu_lstm::{
    Activation, Callback, Cell, Checkpoint, Dense, Device, EarlyStopping, EpochEvent, Fit, Flow, Loss, Lstm, Model,
    Optimiser, Result, Sequential, StepEvent,
};

/// The sum of a sequence's first feature: easy to learn.
fn sums(count: usize) -> (Array3<f32>, Array2<f32>) {
    let x = Draw::new(1).array3((count, 6, 2));
    let y = Array2::from_shape_fn((count, 1), |(n, _)| x.slice(s![n, .., 0]).sum() / 3.0);
    (x, y)
}

fn model(device: &Device) -> Model {
    let mut model = Sequential::new(2).add(Lstm::new(12)).add(Dense::new(1)).build(device, 3).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(0.02)).unwrap();
    model
}

fn training_learns(device: &Device) {
    let (x, y) = sums(200);
    let mut model = model(device);
    let before = model.evaluate(x.view(), y.view()).unwrap();
    let history = model.fit(x.view(), y.view(), Fit::new().epochs(15).validation_split(0.2)).unwrap();
    assert_eq!((history.loss.len(), history.validation_loss.len(), history.steps), (15, 15, 15 * 5));
    let after = model.evaluate(x.view(), y.view()).unwrap();
    assert!(after < 0.05 * before, "{before} to {after}");
    let tail = s![160.., .., ..];
    let held_out = model.evaluate(x.slice(tail), y.slice(s![160.., ..])).unwrap();
    close("validation loss", &[held_out], &[history.validation_loss[14]], 0.0, 1e-5);
    // evaluate is the mean of squares of predict's errors
    let errors = model.predict(x.view()).unwrap() - y.view().into_dyn();
    close("evaluate", &[after], &[errors.mapv(|error| error * error).mean().unwrap()], 1e-7, 1e-4);
}

fn every_loss_and_optimiser_learns(device: &Device) {
    let (x, y) = sums(64);
    let classes = Array2::from_shape_fn((64, 2), |(n, k)| ((y[[n, 0]] > 0.0) == (k == 1)) as u8 as f32);
    for (loss, target) in
        [(Loss::MeanSquaredError, &y), (Loss::MeanAbsoluteError, &y), (Loss::SoftmaxCrossEntropy, &classes)]
    {
        for optimiser in [Optimiser::adam(0.01), Optimiser::adam_keras(0.01), Optimiser::sgd(0.1, 0.9)] {
            let layers = Sequential::new(2)
                .add(Lstm::keras(8).cell(Cell::Standard))
                .add(Dense::keras(6).activation(Activation::Relu))
                .add(Dense::keras(target.ncols()));
            let mut model = layers.build(device, 5).unwrap();
            model.compile(loss.clone(), optimiser.clone()).unwrap();
            model.clip_norm(Some(1.0)).unwrap();
            let history = model.fit(x.view(), target.view(), Fit::new().epochs(25).batch_size(16)).unwrap();
            assert!(history.loss[24] < 0.6 * history.loss[0], "{loss:?} {optimiser:?}: {:?}", history.loss);
        }
    }
}

fn article_cell_learns(device: &Device) {
    let (x, y) = sums(64);
    let layers = Sequential::new(2).add(Lstm::keras(10).cell(Cell::Article).bidirectional(true)).add(Dense::new(1));
    let mut model = layers.build(device, 1).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(0.02)).unwrap();
    let history = model.fit(x.view(), y.view(), Fit::new().epochs(20)).unwrap();
    assert!(history.loss[19] < 0.3 * history.loss[0], "{:?}", history.loss);
}

on_both!(training_learns, every_loss_and_optimiser_learns, article_cell_learns);

/// Records what it is told.
#[derive(Default)]
struct Record {
    steps: Vec<(usize, usize, usize)>,
    epochs: Vec<EpochEvent>,
    stop_after: usize,
    ended: bool,
}

impl Callback for &mut Record {
    fn on_steps(&mut self, event: &StepEvent, _: &mut Model) -> Result<Flow> {
        self.steps.push((event.epoch, event.step, event.steps));
        Ok(Flow::Continue)
    }

    fn on_epoch(&mut self, event: &EpochEvent, _: &mut Model) -> Result<Flow> {
        self.epochs.push(event.clone());
        Ok(if event.epoch == self.stop_after { Flow::Stop } else { Flow::Continue })
    }

    fn on_end(&mut self, _: &mut Model) -> Result<()> {
        self.ended = true;
        Ok(())
    }
}

#[test]
fn callbacks_hear_of_steps_epochs_and_the_end() {
    let (x, y) = sums(80);
    let mut record = Record { stop_after: 2, ..Record::default() };
    let fit = Fit::new().epochs(9).batch_size(2).callback(&mut record);
    let history = model(&Device::cpu()).fit(x.view(), y.view(), fit).unwrap();
    assert_eq!(record.steps, [(1, 32, 40), (1, 40, 40), (2, 32, 40), (2, 40, 40)]);
    assert_eq!(history.loss, record.epochs.iter().map(|event| event.loss).collect::<Vec<_>>());
    assert!(record.epochs.iter().all(|event| event.epochs == 9 && event.validation_loss.is_none()));
    assert!(record.ended && history.loss.len() == 2);
}

/// Spoils the weights after some epochs, as if the fit had gone wrong.
struct Spoil(usize);

impl Callback for Spoil {
    fn on_epoch(&mut self, event: &EpochEvent, model: &mut Model) -> Result<Flow> {
        if event.epoch >= self.0 {
            let spoilt = model.parameters()?.into_iter().map(|(name, array)| (name, array.mapv(|value| value + 3.0)));
            model.set_parameters(spoilt.collect())?;
        }
        Ok(Flow::Continue)
    }
}

#[test]
fn early_stopping_goes_back_to_the_best_weights() {
    let (x, y) = sums(60);
    for restore in [true, false] {
        let mut model = model(&Device::cpu());
        let fit = Fit::new()
            .epochs(50)
            .validation_data(x.clone(), y.clone().insert_axis(Axis(1)))
            .callback(EarlyStopping::new(3).restore_best(restore))
            .callback(Spoil(5));
        let history = model.fit(x.view(), y.view(), fit).unwrap();
        let best = history.validation_loss.iter().copied().fold(f32::INFINITY, f32::min);
        assert!(history.loss.len() < 12, "{:?}", history.validation_loss);
        let now = model.evaluate(x.view(), y.view()).unwrap();
        assert_eq!(now == best, restore, "{now} {best}");
    }
}

#[test]
fn checkpoints_keep_the_best_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("best.safetensors");
    let (x, y) = sums(60);
    let mut model = model(&Device::cpu());
    let fit = Fit::new().epochs(8).validation_split(0.5).callback(Checkpoint::best(&path)).callback(Spoil(4));
    let history = model.fit(x.view(), y.view(), fit).unwrap();
    let best = history.validation_loss.iter().copied().fold(f32::INFINITY, f32::min);
    let mut saved = Model::load(&path, &Device::cpu()).unwrap();
    saved.compile(Loss::MeanSquaredError, Optimiser::adam(0.1)).unwrap();
    assert_eq!(saved.evaluate(x.slice(s![30.., .., ..]), y.slice(s![30.., ..])).unwrap(), best);
}

fn saved_models_predict_the_same(device: &Device) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let layers = Sequential::new(3)
        .add(Lstm::new(5).layers(2).bidirectional(true).cell(Cell::Article).return_sequences(true))
        .add(Lstm::keras(4))
        .add(Dense::new(3).activation(Activation::Sigmoid))
        .add(Dense::keras(2).bias(false));
    let mut model = layers.build(device, 9).unwrap();
    let scaler = Scaler::standard(Array2::from_shape_fn((9, 2), |(t, f)| (t * 3 + f) as f32).view()).unwrap();
    model.set_extra("scaler", &scaler).unwrap();
    model.save(&path).unwrap();
    model.save(&path).unwrap(); // over the older file
    let again = Model::load(&path, device).unwrap();
    let x = Draw::new(2).array3((3, 4, 3));
    assert_eq!(model.predict(x.view()).unwrap(), again.predict(x.view()).unwrap());
    assert_eq!(model.config().unwrap(), again.config().unwrap());
    assert_eq!(again.extra::<Scaler>("scaler").unwrap(), scaler);
    assert!(again.extra::<Scaler>("lookback").unwrap_err().to_string().contains("it keeps: scaler"));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["model.safetensors"], "no temporary file stays");
}

mod files {
    use super::*;
    on_both!(saved_models_predict_the_same);
}

/// The file's names are PyTorch's: a module with children `lstm` and `dense` loads them with load_state_dict.
#[test]
fn files_have_pytorchs_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let layers = Sequential::new(3).add(Lstm::new(2).layers(2).bidirectional(true)).add(Dense::new(1));
    layers.build(&Device::cpu(), 0).unwrap().save(&path).unwrap();
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names: Vec<_> = file.iter().map(|(name, view)| (name.to_string(), view.shape().to_vec())).collect();
    names.sort();
    let mut expected = vec![("dense.bias".to_string(), vec![1]), ("dense.weight".to_string(), vec![1, 4])];
    for (layer, input) in [(0, 3), (1, 4)] {
        for suffix in ["", "_reverse"] {
            expected.push((format!("lstm.bias_hh_l{layer}{suffix}"), vec![8]));
            expected.push((format!("lstm.bias_ih_l{layer}{suffix}"), vec![8]));
            expected.push((format!("lstm.weight_hh_l{layer}{suffix}"), vec![8, 2]));
            expected.push((format!("lstm.weight_ih_l{layer}{suffix}"), vec![8, input]));
        }
    }
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn the_summary_shows_shapes_and_counts() {
    let layers = Sequential::new(3)
        .add(Lstm::new(8).layers(2).bidirectional(true).return_sequences(true))
        .add(Lstm::keras(4))
        .add(Dense::new(2).activation(Activation::Tanh));
    let model = layers.build(&Device::cpu(), 0).unwrap();
    let summary = model.summary();
    // PyTorch counts 2·(4·8·(3 + 8 + 2)) + 2·(4·8·(16 + 8 + 2)) for the first, Keras 4·4·(16 + 4 + 1) for the second
    for part in ["[B, T, 16]", "2496", "lstm_1", "[B, 4]", "336", "Dense(2, tanh)", "[B, 2]", "10", "2842 parameters"] {
        assert!(summary.contains(part), "{part} is missing in\n{summary}");
    }
    assert_eq!(model.parameter_count(), 2842);
}

#[test]
fn sequence_models_take_and_give_sequences() {
    let layers = Sequential::new(2).add(Lstm::new(6).bidirectional(true).return_sequences(true)).add(Dense::new(3));
    let mut model = layers.build(&Device::cpu(), 0).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(0.01)).unwrap();
    let (x, y) = (Draw::new(1).array3((5, 4, 2)), Draw::new(2).array3((5, 4, 3)));
    let history = model.fit(x.view(), y.view(), Fit::new().epochs(5)).unwrap();
    assert!(history.loss[4] < history.loss[0]);
    assert_eq!(model.predict(x.view()).unwrap().shape(), [5, 4, 3]);
    // A batch of one sequence of one step
    assert_eq!(model.predict(Array3::zeros((1, 1, 2)).view()).unwrap().shape(), [1, 1, 3]);
}

#[test]
fn a_learning_rate_of_zero_changes_nothing() {
    let (x, y) = sums(10);
    let mut model = model(&Device::cpu());
    let before = model.parameters().unwrap();
    model.set_learning_rate(0.0).unwrap();
    model.fit(x.view(), y.view(), Fit::new().epochs(3)).unwrap();
    assert_eq!(model.parameters().unwrap(), before);
    model.set_learning_rate(0.01).unwrap();
    model.fit(x.view(), y.view(), Fit::new()).unwrap();
    assert_ne!(model.parameters().unwrap(), before);
}
