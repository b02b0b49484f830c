//! Padding told from values: what follows for streams and files, and what is refused. `tests/layer_files.rs` holds its numbers
//! against Keras.

mod common;

use common::Draw;
use ndarray::{Array2, Array3, array, s};
use wgpu_lstm::{
    Dense, Device, Embedding, Error, Fit, Inputs, Loss, Lstm, Masking, Model, Optimiser, Pool, Sequential,
};

fn build(layers: Sequential) -> Model {
    let mut model = layers.build(&Device::cpu(), 3).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-3)).unwrap();
    model
}

fn masked(value: f32) -> Model {
    build(Sequential::new(2).add(Masking::new(value)).add(Lstm::new(4)).add(Dense::new(1)))
}

#[track_caller]
fn says<T>(result: Result<T, Error>, parts: &[&str]) {
    let text = match result {
        Ok(_) => panic!("no error; expected one that says {parts:?}"),
        Err(error) => error.to_string(),
    };
    for part in parts {
        assert!(text.contains(part), "\"{part}\" is missing in: {text}");
    }
}

/// [3, 5, 2], padded by a value after 5, 2 and 3 steps.
fn padded(value: f32) -> Array3<f32> {
    let mut x = Draw::new(1).array3((3, 5, 2));
    x.slice_mut(s![1, 2.., ..]).fill(value);
    x.slice_mut(s![2, 3.., ..]).fill(value);
    x
}

#[test]
fn holes_and_starts_are_refused_by_sequence_and_step() {
    let y = Array2::<f32>::zeros((3, 1));
    for (step, late) in [(0, 1), (3, 4)] {
        let mut model = masked(-1.0);
        let mut x = padded(-1.0);
        x.slice_mut(s![0, step, ..]).fill(-1.0);
        let parts = [&format!("[sequence, step] = [0, {step}]"), "features are -1", &format!("step {late} after it")];
        says(model.predict(x.view()), &parts);
        says(model.evaluate(x.view(), y.view()), &parts);
        says(model.fit(x.view(), y.view(), Fit::new()), &parts);
        let validation = Fit::new().validation_data(x.clone(), Array3::zeros((3, 1, 1)));
        says(model.fit(padded(-1.0).view(), y.view(), validation), &["validation x is masked", parts[0]]);
    }
    // One feature of the value is no mask
    let mut x = padded(-1.0);
    x[[0, 1, 0]] = -1.0;
    assert!(masked(-1.0).predict(x.view()).is_ok());

    let words = Sequential::new(1).add(Embedding::new(5, 3).mask_zero(true)).add(Lstm::new(4)).add(Dense::new(1));
    let x = array![[[1.0], [2.0]], [[0.0], [3.0]]];
    says(build(words).predict(x.view()), &["[sequence, step] = [1, 0]", "step 1 after it"]);
    // Without mask_zero, 0 is an index like any other
    let words = Sequential::new(1).add(Embedding::new(5, 3)).add(Lstm::new(4)).add(Dense::new(1));
    assert!(build(words).predict(x.view()).is_ok());
}

#[test]
fn lengths_beside_a_mask_must_agree() {
    let (x, y) = (padded(9.0), Array2::<f32>::zeros((3, 1)));
    let mut model = masked(9.0);
    let told = model.predict(x.view()).unwrap();
    assert_eq!(model.predict(Inputs::from(x.view()).lengths(&[5, 2, 3])).unwrap(), told);
    for lengths in [[5, 2, 2], [5, 2, 4]] {
        let given = format!("sequence 2 is given as {}", lengths[2]);
        let parts = [given.as_str(), "from step 3 on"];
        says(model.predict(Inputs::from(x.view()).lengths(&lengths)), &parts);
        says(model.evaluate(Inputs::from(x.view()).lengths(&lengths), y.view()), &parts);
        says(model.fit(x.view(), y.view(), Fit::new().lengths(lengths.to_vec())), &parts);
        let validation =
            Fit::new().validation_data(Inputs::from(x.clone()).lengths(lengths.to_vec()), Array3::zeros((3, 1, 1)));
        says(model.fit(x.view(), y.view(), validation), &parts);
    }
    says(model.predict(Inputs::from(x.view()).lengths(&[5, 2])), &["2 lengths", "B = 3"]);
    says(model.predict(Inputs::from(x.view()).lengths(&[5, 2, 6])), &["sequence 2 is 6", "T = 5"]);
}

#[test]
fn a_stream_refuses_masked_steps() {
    let mut stream = masked(-1.0).stream(3).unwrap();
    says(stream.feed(padded(-1.0).view()), &["[stream, step] = [1, 2]", "no padding"]);
    assert!(stream.feed(padded(0.5).slice(s![.., ..2, ..])).is_ok());
    let words = Sequential::new(1).add(Embedding::new(5, 3).mask_zero(true)).add(Lstm::new(4));
    let mut stream = words.build(&Device::cpu(), 0).unwrap().stream(2).unwrap();
    says(stream.feed(array![[[1.0]], [[0.0]]].view()), &["[stream, step] = [1, 0]"]);
}

#[test]
fn where_a_mask_may_be() {
    let build = |layers: Sequential| layers.build(&Device::cpu(), 0);
    let late = Sequential::new(2).add(Dense::new(2)).add(Masking::new(0.0)).add(Lstm::new(3));
    says(build(late), &["masking", "must be the first layer"]);
    for value in [f32::NAN, f32::INFINITY] {
        says(build(Sequential::new(2).add(Masking::new(value)).add(Lstm::new(3))), &["masking", "must be finite"]);
    }
}

/// Padded steps go on as zeros, as in Keras: a dense layer's output there is its bias.
#[test]
fn padded_steps_are_zeros() {
    let model = build(Sequential::new(2).add(Masking::new(7.0)).add(Dense::new(3)));
    let y = model.predict(padded(7.0).view()).unwrap();
    let row = |n: usize, t: usize| (0..3).map(|f| y[[n, t, f]]).collect::<Vec<_>>();
    let bias: Vec<f32> = model.parameters().unwrap()["dense.bias"].iter().copied().collect();
    for (n, t) in [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4)] {
        assert_eq!(row(n, t), bias, "[sequence, step] = [{n}, {t}]");
    }
    assert_ne!(row(1, 1), bias);
}

#[test]
fn masks_are_saved_with_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let layers = Sequential::new(2).add(Masking::new(-2.0)).add(Lstm::new(4).return_sequences(true)).add(Pool::Mean);
    let model = build(layers);
    assert!(model.summary().contains("Masking(-2)"), "{}", model.summary());
    assert!(model.training_plan(4, 5).unwrap().find("words").is_some(), "a masked batch has lengths");
    model.save(&path).unwrap();
    let again = Model::load(&path, &Device::cpu()).unwrap();
    let x = padded(-2.0);
    assert_eq!(again.predict(x.view()).unwrap(), model.predict(x.view()).unwrap());

    let words = || Sequential::new(1).add(Embedding::new(5, 3).mask_zero(true)).add(Lstm::new(4));
    let model = build(words());
    model.save(&path).unwrap();
    let again = Model::load(&path, &Device::cpu()).unwrap();
    let x = array![[[1.0], [4.0], [0.0]]];
    assert_eq!(again.predict(x.view()).unwrap(), model.predict(x.view()).unwrap());
    assert_eq!(again.predict(x.view()).unwrap(), model.predict(x.slice(s![.., ..2, ..])).unwrap());
}
