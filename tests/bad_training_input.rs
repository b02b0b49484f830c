//! Bad settings and data of training: each a message that says what was given and what was expected, no panic, and a model
//! that still trains.

mod common;

use common::Draw;
use ndarray::{Array1, Array2, Array3};
use wgpu_lstm::{
    Activation, Clip, Curve, Dense, Device, Error, Fit, Loss, Lstm, Model, Optimiser, Regulariser, Rule, Schedule,
    Sequential, Update,
};

/// Two inputs, an LSTM of two layers and two directions, `outputs` outputs.
fn fresh(outputs: usize) -> Model {
    let layers = Sequential::new(2).add(Lstm::new(3).layers(2).bidirectional(true)).add(Dense::new(outputs));
    layers.build(&Device::cpu(), 0).unwrap()
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

#[test]
fn settings_of_losses() {
    let mut model = fresh(4);
    let mut compile = |loss| model.compile(loss, Optimiser::adam(1e-3));
    for delta in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        says(compile(Loss::Huber { delta }), &["delta of the Huber loss", &delta.to_string(), "above 0"]);
    }
    says(compile(Loss::Quantile { quantiles: vec![] }), &["no quantile", "at least one"]);
    for quantile in [0.0, 1.0, -0.5, f32::NAN] {
        let quantiles = vec![0.5, quantile];
        says(compile(Loss::Quantile { quantiles }), &["a quantile is", &quantile.to_string(), "below 1"]);
    }
    says(compile(Loss::Quantile { quantiles: vec![0.1, 0.5, 0.9] }), &["3 outputs for each", "4 outputs"]);
    says(fresh(3).compile(Loss::GaussianNll, Optimiser::adam(1e-3)), &["2 outputs for each", "3 outputs"]);
    let sigmoid = Sequential::new(2).add(Dense::new(2).activation(Activation::Sigmoid));
    let mut sigmoid = sigmoid.build(&Device::cpu(), 0).unwrap();
    for loss in [Loss::BinaryCrossEntropy, Loss::SoftmaxCrossEntropy, Loss::SparseSoftmaxCrossEntropy] {
        says(sigmoid.compile(loss, Optimiser::adam(1e-3)), &["takes logits", "Sigmoid", "Linear"]);
    }
}

#[test]
fn targets_that_a_loss_has_no_meaning_for() {
    let x: Array3<f32> = Draw::new(1).array3((5, 3, 2));
    let mut model = fresh(3);
    model.compile(Loss::SparseSoftmaxCrossEntropy, Optimiser::adam(1e-3)).unwrap();
    for class in [3.0, -1.0, 0.5, 1e30] {
        let mut y = Array2::zeros((5, 1));
        y[[4, 0]] = class;
        let parts = ["y holds", &class.to_string(), "[4, 0, 0]", "from 0 to 2"];
        says(model.fit(x.view(), y.view(), Fit::new()), &parts);
        says(model.evaluate(x.view(), y.view()), &parts);
    }
    // One-hot targets belong to the other loss
    says(model.fit(x.view(), Array2::zeros((5, 3)).view(), Fit::new()), &["[5, 1, 3]", "[5, 1, 1]"]);
    let validation = Fit::new().validation_data(x.clone(), Array3::from_elem((5, 1, 1), 9.0));
    says(model.fit(x.view(), Array1::zeros(5).view(), validation), &["validation y holds 9"]);
    for loss in [Loss::BinaryCrossEntropy, Loss::SoftmaxCrossEntropy] {
        model.compile(loss, Optimiser::adam(1e-3)).unwrap();
        for chance in [-0.01, 1.01] {
            let y = Array2::from_elem((5, 3), chance);
            says(model.fit(x.view(), y.view(), Fit::new()), &["y holds", &chance.to_string(), "from 0 to 1"]);
        }
    }
}

#[test]
fn settings_of_optimisers() {
    let mut model = fresh(1);
    let mut compile = |optimiser| model.compile(Loss::MeanSquaredError, optimiser);
    says(compile(Optimiser::sgd_nesterov(0.1, 0.0)), &["momentum of SGD is 0", "above 0", "nesterov"]);
    says(compile(Optimiser::sgd(0.1, 0.9).weight_decay(-0.1)), &["weight decay of SGD is -0.1", "at least 0"]);
    says(compile(Optimiser::adamw(1e-3, f64::NAN)), &["weight decay of Adam is NaN"]);
    says(compile(Optimiser::nadam(f64::INFINITY)), &["learning rate of Nadam is inf"]);
    let with = |rule| Optimiser { rule, ..Optimiser::adam(1e-3) };
    let rms = |decay, epsilon| with(Rule::RmsProp { decay, epsilon, epsilon_inside_root: false });
    says(compile(rms(1.0, 1e-8)), &["decay of RMSprop is 1", "below 1"]);
    says(compile(rms(0.9, 0.0)), &["epsilon of RMSprop is 0", "above 0"]);
    let nadam = |beta1, beta2, momentum_decay| with(Rule::Nadam { beta1, beta2, epsilon: 1e-8, momentum_decay });
    says(compile(nadam(1.0, 0.9, 0.1)), &["beta1 of Nadam is 1"]);
    says(compile(nadam(0.9, -0.1, 0.1)), &["beta2 of Nadam is -0.1"]);
    says(compile(nadam(0.9, 0.9, -1.0)), &["momentum_decay of Nadam is -1"]);
}

#[test]
fn settings_of_clipping_and_regularisers() {
    let mut model = fresh(1);
    let update = || Update::new(Optimiser::adam(1e-3));
    let mut compile = |update| model.compile(Loss::MeanSquaredError, update);
    for limit in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        says(compile(update().clip(Clip::Value(limit))), &["clipped to", &limit.to_string(), "above 0"]);
        says(compile(update().clip(Clip::Norm(limit))), &["clip_norm", "above 0"]);
    }
    let mut on = |regulariser| compile(update().regularise(regulariser));
    says(on(Regulariser::l1(-1.0)), &["penalty is -1", "at least 0"]);
    says(on(Regulariser::l2(f64::NAN)), &["penalty is NaN"]);
    says(on(Regulariser::max_norm(0.0)), &["max_norm is 0", "above 0"]);
    says(on(Regulariser::l2(0.1).on("kernel")), &["on \"kernel\"", "no parameter", "lstm.weight_ih_l0"]);
    says(on(Regulariser::l2(0.1).on("l0_reverse")), &["names lstm.weight_ih_l0_reverse but not lstm.weight_ih_l0"]);
    says(on(Regulariser::l2(0.1).on("bias_hh")), &["names lstm.bias_hh_l0 but not lstm.bias_ih_l0"]);
    says(on(Regulariser::max_norm(1.0).on("dense")), &["dense.bias of shape [1]", "matrices only"]);
    assert!(on(Regulariser::l2(0.1).on("bias")).is_ok());
    assert!(on(Regulariser::max_norm(1.0).on("weight_ih_l1")).is_ok());
}

#[test]
fn settings_of_schedules_and_weights() {
    let mut model = fresh(1);
    model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-3)).unwrap();
    let (x, y) = (Array3::zeros((5, 3, 2)), Array2::<f32>::zeros((5, 1)));
    let mut fit = |fit: Fit| model.fit(x.view(), y.view(), fit);
    let cycle = |rise, start| Curve::OneCycle { peak: 0.1, over: 9, rise, start, end: 1e4 };
    for (schedule, parts) in [
        (Schedule::step(0, 0.5), ["every", "0", "at least 1"]),
        (Schedule::step(3, 0.0), ["factor", "0", "above 0"]),
        (Schedule::exponential(f64::NAN), ["factor", "NaN", "above 0"]),
        (Schedule::cosine(0), ["over", "0", "at least 1"]),
        (Schedule::cosine(9).floor(-0.1), ["floor", "-0.1", "at least 0"]),
        (Schedule::cosine(9).warmup(3, 1.5), ["warm-up", "1.5", "from 0 to 1"]),
        (Schedule::one_cycle(-1.0, 9), ["peak", "-1", "above 0"]),
        (Schedule::new(cycle(1.0, 25.0)), ["rise", "1", "below 1"]),
        (Schedule::new(cycle(0.5, 0.0)), ["start", "0", "at least 1"]),
        (Schedule::one_cycle(0.1, 9).warmup(3, 0.1), ["one-cycle", "warm-up", "leave it out"]),
        (Schedule::plateau(1.0, 3), ["factor", "1", "below 1"]),
        (Schedule::plateau(0.5, 3).per_step(), ["plateau", "epochs", "per_step"]),
    ] {
        says(fit(Fit::new().schedule(schedule)), &parts);
    }
    for length in [4, 6] {
        says(fit(Fit::new().sample_weights(Array1::ones(length))), &["the weights", "5 sequences"]);
    }
    // The model returns a single step
    says(fit(Fit::new().step_weights(Array2::ones((5, 3)))), &["[5, 3]", "[N, T] = [5, 1]"]);
    for weight in [-1.0, f32::NAN, f32::INFINITY] {
        let mut weights = Array1::ones(5);
        weights[3] = weight;
        says(fit(Fit::new().sample_weights(weights)), &["[3, 0]", &weight.to_string(), "at least 0"]);
    }
    assert_eq!(fit(Fit::new().epochs(2)).unwrap().loss.len(), 2);
    assert_eq!(model.learning_rate().unwrap(), 1e-3, "a schedule that was refused changed nothing");
    says(fresh(1).learning_rate(), &["call compile first"]);
}
