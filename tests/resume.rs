//! A run that is stopped and goes on ends with the bits of one that was not stopped.

mod common;

use common::Draw;
use ndarray::Array3;
use wgpu_lstm::{
    Checkpoint, Clip, Dense, Device, Dropout, Error, Fit, Loss, Lstm, Model, Optimiser, Schedule, Sequential, Update,
};

const LENGTHS: [usize; 7] = [4, 2, 5, 5, 1, 3, 5];

fn data() -> (Array3<f32>, Array3<f32>) {
    let mut draw = Draw::new(6);
    (draw.array3((7, 5, 3)), draw.array3((7, 5, 2)))
}

fn fresh(device: &Device, optimiser: Optimiser) -> Model {
    let mut model = Sequential::new(3)
        .add(Lstm::new(4).layers(2).dropout(0.3).recurrent_dropout(0.2).weight_dropout(0.1).return_sequences(true))
        .add(Dropout::new(0.2))
        .add(Dense::new(2))
        .build(device, 1)
        .unwrap();
    model.compile(Loss::Huber { delta: 0.7 }, Update::new(optimiser).clip(Clip::Norm(0.5))).unwrap();
    model
}

/// Schedules per step, per epoch, and by the loss.
fn schedules() -> [Schedule; 3] {
    [Schedule::cosine(21).warmup(4, 0.1).per_step(), Schedule::step(2, 0.5).per_epoch(), Schedule::plateau(0.5, 1)]
}

fn fit(epochs: usize) -> Fit<'static> {
    let (x, y) = data();
    Fit::new().epochs(epochs).batch_size(3).seed(8).lengths(LENGTHS.to_vec()).validation_ragged(x, y, LENGTHS.to_vec())
}

fn stopped_and_resumed(device: &Device) {
    let (x, y) = data();
    let folder = tempfile::tempdir().unwrap();
    let optimisers = [Optimiser::adamw(0.02, 0.01), Optimiser::sgd_nesterov(0.05, 0.9), Optimiser::rmsprop(0.01)];
    for (optimiser, schedule) in optimisers.into_iter().zip(schedules()) {
        let path = folder.path().join("stopped.safetensors");
        let mut whole = fresh(device, optimiser.clone());
        let history = whole.fit(x.view(), y.view(), fit(7).schedule(schedule.clone())).unwrap();

        let mut stopped = fresh(device, optimiser.clone());
        let checkpoint = Checkpoint::every_epoch(&path).training(true);
        stopped.fit(x.view(), y.view(), fit(3).schedule(schedule.clone()).callback(checkpoint)).unwrap();
        drop(stopped);
        let mut resumed = Model::load_training(&path, device).unwrap();
        let rest = resumed.fit(x.view(), y.view(), fit(7).resume(true)).unwrap();

        assert_eq!(history.loss[3..], rest.loss, "{optimiser:?}");
        assert_eq!(history.validation_loss[3..], rest.validation_loss, "{optimiser:?}");
        assert_eq!(history.learning_rate[3..], rest.learning_rate, "{optimiser:?}");
        assert_eq!(history.schedule, rest.schedule, "{optimiser:?}");
        assert_eq!(whole.parameters().unwrap(), resumed.parameters().unwrap(), "{optimiser:?}");

        // The file is a model like any other.
        let plain = Model::load(&path, device).unwrap();
        assert!(plain.predict(x.view()).is_ok() && Model::load_training(&path, device).is_ok());
    }
}

on_both!(stopped_and_resumed);

#[test]
fn what_cannot_be_resumed_is_refused() {
    let (x, y) = data();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut model = fresh(&Device::cpu(), Optimiser::adam(0.01));
    model.fit(x.view(), y.view(), fit(1)).unwrap();
    model.save(&path).unwrap();
    let error = Model::load_training(&path, &Device::cpu()).unwrap_err().to_string();
    assert!(error.contains("without the state of its training"), "{error}");
    model.save_training(&path).unwrap();
    let mut again = Model::load_training(&path, &Device::cpu()).unwrap();
    let error = again.fit(x.view(), y.view(), fit(2).seed(9).resume(true)).unwrap_err().to_string();
    assert!(error.contains("seed 8") && error.contains("9"), "{error}");
    // Nothing is left to do.
    assert!(again.fit(x.view(), y.view(), fit(1).resume(true)).unwrap().loss.is_empty());
    // A memory that is cut off, or of something else, is found.
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 40]).unwrap();
    assert!(matches!(Model::load_training(&path, &Device::cpu()), Err(Error::Format { .. })));
    let uncompiled = Sequential::new(3).add(Dense::new(1)).build(&Device::cpu(), 0).unwrap();
    assert!(uncompiled.save_training(&path).unwrap_err().to_string().contains("compile"));
}
