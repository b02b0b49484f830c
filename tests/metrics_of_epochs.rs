//! Metrics after each epoch: their values, history, events, logs, early stopping and checkpoints by them.

mod common;

use common::Draw;
use ndarray::{Array2, Array3, Axis};
use std::sync::{Arc, Mutex};
use wgpu_lstm::{
    Callback, Checkpoint, CsvLog, Dense, Device, EarlyStopping, EpochEvent, Error, Evaluate, Fit, Flow, Loss, Losses,
    Lstm, Model, NamedArrays, Optimiser, Result, Sequential, TensorBoard, metrics,
};

fn data(seed: u64, count: usize) -> (Array3<f32>, Array2<f32>) {
    let mut draw = Draw::new(seed);
    let x = draw.array3((count, 4, 2));
    let y = x.sum_axis(Axis(1)).sum_axis(Axis(1)).insert_axis(Axis(1));
    (x, y)
}

fn model(device: &Device) -> Model {
    let mut model = Sequential::new(2).add(Lstm::new(4)).add(Dense::new(1)).build(device, 2).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(0.02)).unwrap();
    model
}

fn mae(prediction: ndarray::ArrayViewD<'_, f32>, target: ndarray::ArrayViewD<'_, f32>) -> Result<f64> {
    metrics::mae(prediction, target)
}

/// The last epoch's values are those of the model that the fit leaves.
fn values_are_those_of_the_model(device: &Device) {
    let ((x, y), (vx, vy)) = (data(1, 20), data(2, 9));
    let mut trained = model(device);
    let fit = Fit::new()
        .epochs(3)
        .validation_data(vx.view(), vy.view())
        .metric("mae", mae)
        .metric("twice", |p, t| Ok(2.0 * mae(p, t)?));
    let history = trained.fit(x.view(), y.view(), fit).unwrap();
    let expected = metrics::mae(trained.predict(vx.view()).unwrap().view(), vy.view()).unwrap();
    assert_eq!(history.metrics["mae"].len(), 3);
    assert_eq!(history.metrics["mae"][2], expected);
    assert_eq!(history.metrics["twice"][2], 2.0 * expected);
    // Metrics change no bit of what is trained; without validation they are of the training data.
    let mut plain = model(device);
    plain.fit(x.view(), y.view(), Fit::new().epochs(3)).unwrap();
    assert_eq!(plain.parameters().unwrap(), trained.parameters().unwrap());
    let history = plain.fit(x.view(), y.view(), Fit::new().metric("mae", mae)).unwrap();
    let expected = metrics::mae(plain.predict(x.view()).unwrap().view(), y.view()).unwrap();
    assert_eq!(history.metrics["mae"], [expected]);
    // A loss of one's own has metrics, too.
    let mut own = model(device);
    own.compile(Losses::new(), Optimiser::adam(0.02)).unwrap();
    let loss = |outputs: &NamedArrays, targets: &NamedArrays| {
        let error = &outputs["y"] - &targets["y"];
        Ok((error.mapv(|e| e * e).mean().unwrap(), NamedArrays::from([("y".into(), error)])))
    };
    let history = own.fit_with(x.view(), y.view(), Fit::new().metric("mae", mae), loss).unwrap();
    assert_eq!(history.metrics["mae"].len(), 1);
    assert!(own.evaluate_with(x.view(), y.view(), Evaluate::new()).is_err(), "there is no loss to evaluate");
}

on_both!(values_are_those_of_the_model);

/// Gives the next of these values at each epoch.
fn given(
    values: &[f64],
) -> impl FnMut(ndarray::ArrayViewD<'_, f32>, ndarray::ArrayViewD<'_, f32>) -> Result<f64> + use<> {
    let (values, mut at) = (values.to_vec(), 0..);
    let mut values = move || at.next().and_then(|at: usize| values.get(at).copied());
    move |_, _| values().ok_or_else(|| Error::Config("no value is left".into()))
}

/// Keeps the weights of each epoch.
struct Keep(Arc<Mutex<Vec<NamedArrays>>>);

impl Callback for Keep {
    fn on_epoch(&mut self, event: &EpochEvent, model: &mut Model) -> Result<Flow> {
        assert_eq!(event.value("score")?.to_bits(), event.metrics[0].1.to_bits());
        assert!(event.value("loss")?.is_finite());
        assert!(event.value("f1").unwrap_err().to_string().contains("it has loss, score"));
        self.0.lock().unwrap().push(model.parameters()?);
        Ok(Flow::Continue)
    }
}

#[test]
fn early_stopping_and_checkpoints_by_a_metric() {
    let (x, y) = data(3, 8);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("best.safetensors");
    let values = [0.1, 0.5, 0.3, f64::NAN, 0.9];
    for (larger, best, epochs) in [(true, 1, 4), (false, 0, 3)] {
        let weights = Arc::new(Mutex::new(Vec::new()));
        let mut stopping = EarlyStopping::new(2).watch("score");
        let mut checkpoint = Checkpoint::best(&path).watch("score");
        if larger {
            (stopping, checkpoint) = (stopping.larger_is_better(), checkpoint.larger_is_better());
        }
        let fit = Fit::new().epochs(9).metric("score", given(&values));
        let fit = fit.callback(Keep(weights.clone())).callback(checkpoint).callback(stopping);
        let mut model = model(&Device::cpu());
        let history = model.fit(x.view(), y.view(), fit).unwrap();
        assert_eq!(history.loss.len(), epochs, "larger is better: {larger}");
        let expected = &weights.lock().unwrap()[best];
        assert_eq!(&model.parameters().unwrap(), expected);
        assert_eq!(&Model::load(&path, &Device::cpu()).unwrap().parameters().unwrap(), expected);
    }
    let watch = |name: &str| {
        let fit = Fit::new().callback(EarlyStopping::new(2).watch(name));
        model(&Device::cpu()).fit(x.view(), y.view(), fit).unwrap_err().to_string()
    };
    assert!(watch("f1").contains("no value \"f1\""), "{}", watch("f1"));
    assert!(watch("validation_loss").contains("no value \"validation_loss\""));
}

#[test]
fn logs_have_columns_of_metrics() {
    let (x, y) = data(4, 8);
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("log.csv");
    let mut trained = model(&Device::cpu());
    let fit =
        |epochs, values: &[f64]| Fit::new().epochs(epochs).metric("a, \"b\"", given(values)).metric("c", given(values));
    let run = fit(2, &[0.5, 0.25]).callback(CsvLog::new(&csv)).callback(TensorBoard::new(folder.path()));
    trained.fit(x.view(), y.view(), run).unwrap();
    let text = std::fs::read_to_string(&csv).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "epoch,loss,validation_loss,learning_rate,seconds,\"a, \"\"b\"\"\",c");
    assert!(lines[1].starts_with("1,") && lines[1].ends_with(",0.5,0.5"), "{text}");
    assert!(lines.len() == 3 && lines[2].ends_with(",0.25,0.25"), "{text}");
    let events = std::fs::read_dir(folder.path().join("train")).unwrap().next().unwrap().unwrap();
    let events = std::fs::read(events.path()).unwrap();
    let text = |tag: &str| events.windows(tag.len()).filter(|window| *window == tag.as_bytes()).count();
    assert_eq!((text("epoch_c"), text("epoch_loss")), (2, 2));
    // A run that goes on adds rows; other columns are refused.
    trained.fit(x.view(), y.view(), fit(3, &[0.125]).resume(true).callback(CsvLog::append(&csv))).unwrap();
    assert_eq!(std::fs::read_to_string(&csv).unwrap().lines().count(), 4);
    let plain = Fit::new().epochs(4).resume(true).callback(CsvLog::append(&csv));
    let error = trained.fit(x.view(), y.view(), plain).unwrap_err().to_string();
    assert!(error.contains("has the columns"), "{error}");
}

#[test]
fn bad_metrics_are_refused() {
    let (x, y) = data(5, 8);
    let says = |fit: Fit<'_>, part: &str| {
        let error = model(&Device::cpu()).fit(x.view(), y.view(), fit).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    says(Fit::new().metric("loss", mae), "two scores called \"loss\"");
    says(Fit::new().metric("a", mae).metric("a", mae), "two scores called \"a\"");
    says(Fit::new().metric_of("z", "a", mae), "output \"z\", which has no target; those with one: y");
    says(Fit::new().metric("a", |_, _| Err(Error::Config("no score".into()))), "no score");
}
