//! Bad input: each a clear error, no panic, and nothing saved is lost.

mod common;

use common::Draw;
use ndarray::{Array1, Array2, Array3, ArrayD};
use std::path::Path;
use wgpu_lstm::{
    Activation, Capabilities, Dense, Device, Error, Fit, GpuOptions, Loss, Lstm, LstmState, Model, Optimiser,
    Sequential,
};

fn cpu() -> Device {
    Device::cpu()
}

fn model() -> Model {
    let mut model = Sequential::new(2).add(Lstm::new(4)).add(Dense::new(1)).build(&cpu(), 0).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-3)).unwrap();
    model
}

#[track_caller]
fn says<T>(result: Result<T, Error>, parts: &[&str]) {
    let text = match result {
        Ok(_) => panic!("no error; expected one that says {parts:?}"),
        // With its cause, which messages leave to who asks for it
        Err(error) => [Some(error.to_string()), std::error::Error::source(&error).map(ToString::to_string)]
            .into_iter()
            .flatten()
            .collect::<Vec<String>>()
            .join(": "),
    };
    for part in parts {
        assert!(text.contains(part), "\"{part}\" is missing in: {text}");
    }
}

#[test]
fn wrong_shapes() {
    let mut model = model();
    let (x, y) = (Array3::zeros((5, 3, 2)), Array2::<f32>::zeros((5, 1)));
    says(model.predict(Array3::zeros((5, 3, 4)).view()), &["4 features", "expects 2", "[5, 3, 4]"]);
    says(model.fit(Array3::zeros((5, 3, 1)).view(), y.view(), Fit::new()), &["1 features", "expects 2"]);
    says(model.fit(x.view(), Array2::zeros((4, 1)).view(), Fit::new()), &["[4, 1, 1]", "expected", "[5, 1, 1]"]);
    says(model.fit(x.view(), Array2::zeros((5, 2)).view(), Fit::new()), &["[5, 1, 2]", "[5, 1, 1]"]);
    says(model.evaluate(x.view(), Array3::zeros((5, 3, 1)).view()), &["[5, 3, 1]", "[5, 1, 1]"]);
    says(model.evaluate(x.view(), ndarray::arr0(1.0).view()), &["y has shape []", "[N, F]"]);
    // One number a sequence is enough where the output has one feature
    assert!(model.evaluate(x.view(), Array1::zeros(5).view()).is_ok());

    let layer = Lstm::new(4).layers(2).build(&cpu(), 3, 0).unwrap();
    let x = Array3::zeros((2, 5, 3));
    says(layer.forward(Array3::zeros((2, 5, 1)).view(), None), &["1 features", "expects 3", "[B, T, I] = [2, 5, 1]"]);
    let state = LstmState { h: Array3::zeros((1, 2, 4)), c: Array3::zeros((2, 2, 4)) };
    says(layer.forward(x.view(), Some(&state)), &["initial state h", "(1, 2, 4)", "(2, 2, 4)"]);
    says(layer.gradients(x.view(), None, Array3::zeros((2, 4, 4)).view(), None), &["T = 4", "T = 5"]);
}

#[test]
fn empty_batches() {
    let mut model = model();
    for shape in [(0, 3, 2), (5, 0, 2)] {
        says(model.predict(Array3::zeros(shape).view()), &["empty", "at least 1"]);
        says(model.fit(Array3::zeros(shape).view(), Array2::zeros((shape.0, 1)).view(), Fit::new()), &["empty"]);
    }
    let layer = Lstm::new(4).build(&cpu(), 3, 0).unwrap();
    says(layer.forward(Array3::zeros((0, 5, 3)).view(), None), &["empty", "[0, 5, 3]"]);
    says(layer.forward(Array3::zeros((2, 0, 3)).view(), None), &["empty"]);
    says(
        model.fit(Array3::zeros((5, 3, 2)).view(), Array2::zeros((5, 1)).view(), Fit::new().batch_size(0)),
        &["batch size is 0"],
    );
}

#[test]
fn numbers_that_are_not_finite_are_named_by_position() {
    let mut model = model();
    let (mut x, mut y) = (Array3::zeros((5, 3, 2)), Array2::zeros((5, 1)));
    x[[4, 1, 0]] = f32::NAN;
    says(model.fit(x.view(), y.view(), Fit::new()), &["x holds NaN", "[sequence, step, feature] = [4, 1, 0]"]);
    says(model.predict(x.view()), &["[4, 1, 0]"]);
    x[[4, 1, 0]] = 0.0;
    y[[2, 0]] = f32::NEG_INFINITY;
    says(model.fit(x.view(), y.view(), Fit::new()), &["y holds -inf", "[2, 0, 0]"]);
    let validation = Fit::new().validation_data(x.clone(), Array3::from_elem((5, 1, 1), f32::NAN));
    says(model.fit(x.view(), Array2::zeros((5, 1)).view(), validation), &["validation y holds NaN"]);
}

fn a_loss_that_turns_nan_says_at_which_step(device: &Device) {
    let mut model = Sequential::new(2).add(Lstm::new(4)).add(Dense::new(1)).build(device, 0).unwrap();
    // Each step is far too long: the weights, and with them the loss, grow beyond f32 within a few steps.
    model.compile(Loss::MeanSquaredError, Optimiser::sgd(1e18, 0.0)).unwrap();
    let mut draw = Draw::new(1);
    let (x, y) = (draw.array3((40, 3, 2)), Array2::from_shape_simple_fn((40, 1), || draw.next()));
    let error = model.fit(x.view(), y.view(), Fit::new().epochs(50).batch_size(4)).unwrap_err();
    let Error::Diverged { epoch, step, loss } = error else { panic!("{error}") };
    assert!(!loss.is_finite() && (1..=10).contains(&step) && epoch >= 1, "{error}");
    assert!(error.to_string().contains(&format!("at step {step} of epoch {epoch}")), "{error}");
}

on_both!(a_loss_that_turns_nan_says_at_which_step);

#[test]
fn settings_out_of_range() {
    says(Sequential::new(2).build(&cpu(), 0), &["no layer"]);
    says(Sequential::new(0).add(Dense::new(1)).build(&cpu(), 0), &["input features is 0"]);
    says(Sequential::new(2).add(Lstm::new(0)).build(&cpu(), 0), &["hidden units is 0"]);
    says(Sequential::new(2).add(Lstm::new(3).layers(0)).build(&cpu(), 0), &["layers is 0"]);
    says(Sequential::new(2).add(Dense::new(0)).build(&cpu(), 0), &["dense units is 0"]);
    let twice = Sequential::new(2).add(Lstm::new(3)).add(Lstm::new(3));
    says(twice.build(&cpu(), 0), &["lstm_1 needs a sequence", "return_sequences(true)"]);
    says(Lstm::new(4).build(&cpu(), 0, 0), &["input features is 0"]);

    let mut fresh = Sequential::new(2).add(Lstm::new(3)).build(&cpu(), 0).unwrap();
    let (x, y) = (Array3::zeros((5, 3, 2)), Array2::<f32>::zeros((5, 3)));
    says(fresh.fit(x.view(), y.view(), Fit::new()), &["call compile first"]);
    says(fresh.clip_norm(Some(1.0)), &["call compile first"]);
    says(fresh.compile(Loss::MeanSquaredError, Optimiser::adam(-1.0)), &["learning rate of Adam is -1"]);
    says(fresh.compile(Loss::MeanSquaredError, Optimiser::sgd(0.1, f32::NAN)), &["momentum of SGD is NaN"]);
    let mut model = model();
    for norm in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        says(model.clip_norm(Some(norm)), &["clip_norm", "above 0"]);
    }
    says(model.set_learning_rate(f64::INFINITY), &["learning rate"]);
    let y = Array2::<f32>::zeros((5, 1));
    for share in [0.0, 1.0, -0.5, f64::NAN, 0.99] {
        says(model.fit(x.view(), y.view(), Fit::new().validation_split(share)), &["validation split"]);
    }
    let logits = Sequential::new(2).add(Lstm::new(3)).add(Dense::new(2).activation(Activation::Sigmoid));
    says(
        logits.build(&cpu(), 0).unwrap().compile(Loss::SoftmaxCrossEntropy, Optimiser::adam(0.1)),
        &["logits", "Linear"],
    );
}

#[test]
fn parameters_that_do_not_fit_change_nothing() {
    let mut model = model();
    let before = model.parameters().unwrap();
    let mut missing = before.clone();
    missing.remove("dense.bias");
    says(model.set_parameters(missing), &["dense.bias", "missing"]);
    let mut wrong = before.clone();
    wrong.insert("lstm.weight_hh_l0".into(), ArrayD::zeros(vec![16, 5]));
    says(model.set_parameters(wrong), &["lstm.weight_hh_l0", "[16, 5]", "[16, 4]"]);
    let mut extra = before.clone();
    extra.insert("lstm.weight_ih_l1".into(), ArrayD::zeros(vec![16, 4]));
    says(model.set_parameters(extra), &["lstm.weight_ih_l1", "no layer"]);
    let mut infinite = before.clone();
    infinite.get_mut("dense.weight").unwrap()[[0, 2]] = f32::INFINITY;
    says(model.set_parameters(infinite), &["dense.weight", "element 2", "inf"]);
    assert_eq!(model.parameters().unwrap(), before);
}

fn load(path: &Path) -> Result<Model, Error> {
    Model::load(path, &cpu())
}

#[test]
fn broken_and_foreign_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    says(load(&path), &["cannot read", "model.safetensors"]);
    says(load(folder.path()), &["is a folder", "give a file in it"]);
    std::fs::write(&path, b"").unwrap();
    says(load(&path), &["model.safetensors", "is empty"]);
    std::fs::write(&path, b"date,temp_max\n2012-01-01,12.8\n").unwrap();
    says(load(&path), &["is text, whatever its name says, not a model that Model::save wrote"]);

    model().save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for length in [1, 7, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        says(load(&path), &["no whole safetensors file"]);
    }
    // Any single changed byte of the header is an error or gives a model; never a panic.
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for at in 0..header {
        let mut changed = whole.clone();
        changed[at] ^= 0x15;
        std::fs::write(&path, &changed).unwrap();
        let _ = load(&path);
    }

    // Tensors without a configuration, as PyTorch's users save them
    let data = [0u8; 8];
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &data).unwrap();
    std::fs::write(&path, safetensors::serialize([("weight", view.clone())], None).unwrap()).unwrap();
    says(load(&path), &["without a model's configuration", "Model::save"]);
    // A configuration that promises more than the file holds
    let forged = |json: &str| {
        let metadata = std::collections::HashMap::from([("wgpu_lstm".to_string(), json.to_string())]);
        std::fs::write(&path, safetensors::serialize([("weight", view.clone())], Some(metadata)).unwrap()).unwrap();
        load(&path)
    };
    let lstm = |layers: &str| {
        format!(
            r#"{{"version":1,"extra":{{}},"model":{{"input":3,"layers":[{{"layer":"lstm","hidden":4,"layers":{layers},
            "bidirectional":false,"bias":"double","cell":"standard","return_sequences":false,"init":"pytorch"}}]}}}}"#
        )
    };
    says(forged(&lstm("4000000000")), &["1 tensors for 4000000000 layers"]);
    says(forged(&lstm("1")), &["lacks tensor lstm.weight_ih_l0 of shape [16, 3]"]);
    says(forged(&lstm("1").replace("standard", "quantum")), &["cannot read (at model.layers[0]", "quantum"]);
    says(forged(&lstm("1").replace("\"version\":1", "\"version\":9")), &["version 9", "version 1"]);
    says(forged("{"), &["cannot read"]);
}

#[test]
fn weights_of_other_sizes_are_refused_and_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    let other = Sequential::new(2).add(Lstm::new(7)).add(Dense::new(1)).build(&cpu(), 1).unwrap();
    other.save(&path).unwrap();
    let mut model = model();
    let before = model.parameters().unwrap();
    says(model.load_weights(&path), &["does not fit the model", "lstm.weight_ih_l0", "[28, 2]", "[16, 2]"]);
    assert_eq!(model.parameters().unwrap(), before);
}

#[test]
fn a_failed_save_leaves_the_older_file_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model().save(&path).unwrap();
    let before = std::fs::read(&path).unwrap();
    says(model().save(folder.path().join("missing/model.safetensors")), &["cannot write"]);
    // A model that training has spoilt
    let mut spoilt = model();
    spoilt.compile(Loss::MeanSquaredError, Optimiser::sgd(1e30, 0.0)).unwrap();
    let x = Array3::from_elem((40, 3, 2), 0.5);
    assert!(spoilt.fit(x.view(), Array2::ones((40, 1)).view(), Fit::new().epochs(9).batch_size(4)).is_err());
    says(spoilt.save(&path), &["tensor", "finite"]);
    // A folder in the file's place cannot be replaced by a file
    let blocked = folder.path().join("blocked");
    std::fs::create_dir(&blocked).unwrap();
    std::fs::write(blocked.join("precious"), b"kept").unwrap();
    says(model().save(&blocked), &["cannot write"]);
    assert_eq!(std::fs::read(blocked.join("precious")).unwrap(), b"kept");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "no temporary file stays: {names:?}");
}

#[test]
fn adapters_that_do_not_exist() {
    let options = GpuOptions { adapter: Some("voodoo 2".into()), ..GpuOptions::default() };
    says(Device::gpu(&options), &["voodoo 2", "Device::cpu()"]);
}

#[test]
fn what_the_device_cannot_hold() {
    let small = Device::cpu_with(Capabilities { max_binding_bytes: 2_000, ..Capabilities::default() });
    says(Lstm::new(64).build(&small, 3, 0), &["lstm.l0.w", "3072 bytes, the device offers 2000"]);
    let layer = Lstm::new(4).build(&small, 3, 0).unwrap();
    says(
        layer.forward(Array3::zeros((100, 2, 3)).view(), None),
        &["one time step", "12800 bytes", "offers 2000", "smaller batch"],
    );
    // A long sequence of the same width is no trouble
    assert!(layer.forward(Array3::zeros((1, 500, 3)).view(), None).is_ok());
}
