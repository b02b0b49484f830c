//! Options of layers that are out of range or exclude each other, lengths and classes that do not fit: each a message that says
//! what was given and what was expected, and no panic. Training's own settings are in `tests/bad_training_input.rs`.

mod common;

use ndarray::{Array2, Array3};
use wgpu_lstm::{
    Activation, Cell, Dense, Device, Dropout, Embedding, Error, Fit, Gru, Inputs, Layer, LayerNorm, Loss, Lstm, Model,
    Optimiser, Pool, Sequential,
};

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

fn build(layer: impl Into<Layer>) -> Result<Model, Error> {
    Sequential::new(3).add(layer).build(&Device::cpu(), 0)
}

#[test]
fn probabilities_are_from_0_to_below_1() {
    let lstm = || Lstm::new(4).layers(2);
    for p in [-0.1, 1.0, 1.5, f64::NAN, f64::INFINITY] {
        let given = format!("is {p}; it must be at least 0 and below 1");
        says(build(Dropout::new(p)), &["dropout: the probability", &given]);
        for (layer, name) in [
            (lstm().dropout(p), "dropout"),
            (lstm().input_dropout(p), "input_dropout"),
            (lstm().recurrent_dropout(p), "recurrent_dropout"),
            (lstm().weight_dropout(p), "weight_dropout"),
            (lstm().zoneout(p, 0.0), "zoneout of the hidden state"),
            (lstm().zoneout(0.0, p), "zoneout of the cell state"),
        ] {
            says(build(layer.clone()), &["lstm: ", name, &given]);
            says(layer.build(&Device::cpu(), 3, 0), &[name, &given]);
        }
        let gru = || Gru::new(4).layers(2);
        for layer in [gru().dropout(p), gru().input_dropout(p), gru().weight_dropout(p)] {
            says(build(layer), &["gru: ", &given]);
        }
    }
    // The ends that are allowed
    for p in [0.0, 0.999] {
        assert!(build(lstm().dropout(p).input_dropout(p).recurrent_dropout(p).weight_dropout(p).zoneout(p, p)).is_ok());
        assert!(build(Dropout::new(p)).is_ok());
    }
}

#[test]
fn lengths_fit_the_input() {
    let layer = Lstm::new(4).build(&Device::cpu(), 3, 0).unwrap();
    let (x, dy) = (Array3::zeros((2, 5, 3)), Array3::zeros((2, 5, 4)));
    for (lengths, parts) in [
        (vec![5], ["1 lengths", "B = 2"]),
        (vec![5, 1, 2], ["3 lengths", "B = 2"]),
        (vec![], ["0 lengths", "B = 2"]),
        (vec![5, 6], ["sequence 1 is 6", "T = 5"]),
        (vec![usize::MAX, 5], ["sequence 0 is", "T = 5"]),
    ] {
        says(layer.forward_ragged(x.view(), &lengths, None), &parts);
        says(layer.gradients_ragged(x.view(), &lengths, None, dy.view(), None), &parts);
        let mut model = build(Lstm::new(4)).unwrap();
        model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-3)).unwrap();
        let y = Array2::zeros((2, 4));
        says(model.predict(Inputs::from(x.view()).lengths(&lengths)), &parts);
        says(model.evaluate(Inputs::from(x.view()).lengths(&lengths), y.view()), &parts);
        says(model.fit(x.view(), y.view(), Fit::new().lengths(lengths.clone())), &parts);
        let validation = Fit::new().validation_data(Inputs::from(x.clone()).lengths(lengths), Array3::zeros((2, 1, 4)));
        says(model.fit(x.view(), y.view(), validation), &parts);
    }
    assert!(layer.forward_ragged(x.view(), &[0, 5], None).is_ok(), "a sequence may have no step");
}

#[test]
fn options_exclude_each_other() {
    let lstm = || Lstm::new(4);
    let article = || lstm().cell(Cell::Article);
    for (layer, wanted) in [
        (lstm().reverse(true).go_backwards(true), "exclude each other"),
        (lstm().bidirectional(true).go_backwards(true), "exclude each other"),
        (lstm().projection(5), "below the 4 hidden units"),
        (lstm().projection(2).zoneout(0.0, 0.1), "excludes zoneout"),
        (lstm().clip(f32::INFINITY), "clip is inf"),
        (lstm().clip(-1.0), "clip is -1"),
        (lstm().cell_clip(0.0), "cell_clip is 0"),
        (article().coupled(true), "the article cell has no"),
        (article().clip(1.0), "the article cell has no"),
        (article().cell_clip(1.0), "the article cell has no"),
        (article().projection(2), "the article cell has no"),
        (article().zoneout(0.1, 0.0), "the article cell has no"),
        (article().gate_activation(Activation::Relu), "the article cell has no"),
    ] {
        says(build(layer.clone()), &["lstm: ", wanted]);
        says(layer.build(&Device::cpu(), 3, 0), &[wanted]);
    }
    let lstm = || Lstm::from(Gru::new(4));
    for layer in [lstm().peepholes(true), lstm().coupled(true), lstm().projection(2)] {
        says(build(layer), &["gru: the gru cell has no"]);
    }
    for epsilon in [0.0, -1e-5, f32::NAN, f32::INFINITY] {
        says(build(LayerNorm::new().epsilon(epsilon)), &["layer_norm: epsilon is", "above 0"]);
    }
    let late = Sequential::new(1).add(Dense::new(1)).add(Embedding::new(5, 2));
    says(late.build(&Device::cpu(), 0), &["embedding takes indices", "first layer"]);
    says(build(Embedding::new(5, 2)), &["embedding takes indices", "3 features"]);
}

#[test]
fn classes_and_indices_are_in_range() {
    let layers = Sequential::new(2).add(Lstm::new(3).return_sequences(true)).add(Dense::new(4));
    let mut model = layers.build(&Device::cpu(), 0).unwrap();
    model.compile(Loss::SparseSoftmaxCrossEntropy, Optimiser::adam(1e-3)).unwrap();
    let x = Array3::zeros((3, 5, 2));
    for class in [4.0, -1.0, 1.5] {
        let mut y = Array3::zeros((3, 5, 1));
        y[[2, 3, 0]] = class;
        says(model.fit(x.view(), y.view(), Fit::new()), &["y holds", &class.to_string(), "[2, 3, 0]", "from 0 to 3"]);
    }
    let words = Sequential::new(1).add(Embedding::new(4, 2)).add(Lstm::new(3));
    let model = words.build(&Device::cpu(), 0).unwrap();
    for index in [4.0, -1.0, 1.5] {
        let mut x = Array3::zeros((3, 5, 1));
        x[[2, 3, 0]] = index;
        says(model.predict(x.view()), &["x holds", &index.to_string(), "[2, 3]", "from 0 to 3"]);
    }
}

/// Losses that take logits refuse what has been through an activation, wherever it stands.
#[test]
fn losses_of_logits_refuse_activations() {
    for activation in [Activation::Softmax, Activation::LogSoftmax, Activation::Sigmoid] {
        for loss in [Loss::BinaryCrossEntropy, Loss::SoftmaxCrossEntropy, Loss::SparseSoftmaxCrossEntropy] {
            let dense = || Sequential::new(2).add(Dense::new(3).activation(activation));
            for layers in [dense(), dense().add(Dropout::new(0.1)), dense().add(Pool::Mean)] {
                let mut model = layers.build(&Device::cpu(), 0).unwrap();
                let name = format!("{activation:?}");
                says(model.compile(loss.clone(), Optimiser::adam(1e-3)), &["takes logits", &name, "Linear"]);
            }
        }
    }
    // What is no logit may go through softmax
    let layers = Sequential::new(2).add(Dense::new(3).activation(Activation::Softmax));
    assert!(layers.build(&Device::cpu(), 0).unwrap().compile(Loss::MeanSquaredError, Optimiser::adam(1e-3)).is_ok());
}
