//! Twelve steps of every optimiser, with weight decay, clipping, penalties and bounds, are those of PyTorch or Keras
//! (tests/fixtures/make_training.py computes in f64).
//!
//! Tolerance 2e-5: f32 gradients, divided by roots of small means of squares, over twelve steps.

mod common;

use common::{Draw, close, fixture};
use ndarray::{Array2, Axis};
use wgpu_lstm::{
    Bias, Clip, Dense, Device, Fit, Loss, Lstm, Optimiser, Regulariser, Rule, Sequential, Update, WeightDecay,
};

fn cases() -> Vec<(&'static str, Update)> {
    let nadam = Rule::Nadam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, momentum_decay: 0.1 };
    let decoupled = Optimiser { lr: 0.01, rule: nadam, weight_decay: WeightDecay::Decoupled(0.1) };
    vec![
        ("sgd_nesterov_l2", Optimiser::sgd_nesterov(0.1, 0.9).weight_decay(0.01).into()),
        ("sgd_clip_value", Update::new(Optimiser::sgd(0.5, 0.5)).clip(Clip::Value(0.05))),
        ("adam_l2", Optimiser::adam(0.01).weight_decay(0.05).into()),
        ("adamw", Optimiser::adamw(0.01, 0.1).into()),
        ("rmsprop", Optimiser::rmsprop(0.002).into()),
        ("rmsprop_l2_clip_norm", Update::new(Optimiser::rmsprop(0.002).weight_decay(0.05)).clip(Clip::Norm(0.1))),
        ("nadam", Optimiser::nadam(0.01).into()),
        ("nadam_decoupled", decoupled.into()),
        ("keras_rmsprop", Optimiser::rmsprop_keras(0.002).into()),
        ("keras_nadam", Optimiser::nadam_keras(0.01).into()),
        (
            "keras_adam_decay_clip_value",
            Update::new(Optimiser::adam_keras(0.01).decoupled_weight_decay(0.1)).clip(Clip::Value(0.05)),
        ),
        (
            "keras_penalties",
            Update::new(Optimiser::sgd(0.2, 0.0))
                .clip(Clip::Norm(0.3))
                .regularise(Regulariser::l1_l2(0.01, 0.02).on("weight_ih"))
                .regularise(Regulariser::l2(0.05).on("weight_hh"))
                .regularise(Regulariser::l1(0.03).on("dense.weight")),
        ),
        (
            "keras_max_norm",
            Update::new(Optimiser::sgd(0.2, 0.0))
                .regularise(Regulariser::max_norm(0.6).on("weight_ih"))
                .regularise(Regulariser::max_norm(0.5).on("weight_hh"))
                .regularise(Regulariser::max_norm(0.4).on("dense.weight")),
        ),
    ]
}

fn twelve_steps_of_pytorch_and_keras(device: &Device) {
    let fixture = fixture("training_optimisers.safetensors");
    let (x, y, init) = (fixture.array3("x"), &fixture.tensors["y"], fixture.under("init."));
    for (name, update) in cases() {
        let after = fixture.under(&format!("{name}.final."));
        let bias = if after.contains_key("lstm.bias_hh_l0") { Bias::Double } else { Bias::Single };
        let layers = Sequential::new(3).add(Lstm::new(4).bias(bias)).add(Dense::new(2));
        let mut model = layers.build(device, 0).unwrap();
        let own = init.iter().filter(|(name, _)| after.contains_key(*name));
        model.set_parameters(own.map(|(name, array)| (name.clone(), array.clone())).collect()).unwrap();
        model.compile(Loss::MeanSquaredError, update).unwrap();
        let fit = Fit::new().epochs(12).batch_size(x.dim().0).shuffle(false);
        let history = model.fit(x.view(), y.view(), fit).unwrap();
        close(&format!("{name} losses"), &history.loss, &fixture.tensors[&format!("{name}.losses")], 1e-6, 2e-5);
        let parameters = model.parameters().unwrap();
        assert_eq!(parameters.len(), after.len());
        for (parameter, values) in &parameters {
            close(&format!("{name} {parameter}"), values, &after[parameter], 2e-5, 2e-5);
        }
    }
}

/// After every step each unit's incoming weights keep the bound, in both directions; biases are left alone.
fn max_norm_bounds_every_matrix(device: &Device) {
    let x = Draw::new(1).array3((8, 3, 5));
    let y = Array2::from_shape_fn((8, 2), |(n, f)| (3 * n + f) as f32);
    let layers = Sequential::new(5).add(Lstm::new(3).layers(2).bidirectional(true)).add(Dense::new(2));
    let mut model = layers.build(device, 2).unwrap();
    model
        .compile(Loss::MeanSquaredError, Update::new(Optimiser::adam(0.1)).regularise(Regulariser::max_norm(0.5)))
        .unwrap();
    model.fit(x.view(), y.view(), Fit::new().epochs(10)).unwrap();
    let parameters = model.parameters().unwrap();
    let norms = |name: &str| -> Vec<f32> {
        let rows = parameters[name].axis_iter(Axis(0));
        rows.map(|row| row.iter().map(|w| w * w).sum::<f32>().sqrt()).collect()
    };
    for name in parameters.keys().filter(|name| name.contains("weight")) {
        let norms = norms(name);
        assert!(norms.iter().all(|&norm| norm <= 0.5 + 1e-5), "{name}: {norms:?}");
        assert!(norms.iter().any(|&norm| norm > 0.49), "{name}: {norms:?}");
    }
    assert!(norms("dense.bias").iter().any(|&norm| norm > 0.6), "{:?}", norms("dense.bias"));
}

on_both!(twelve_steps_of_pytorch_and_keras, max_norm_bounds_every_matrix);

/// Settings go through JSON, for files that hold them.
#[test]
fn updates_and_losses_are_serialised() {
    for (_, update) in cases() {
        let json = serde_json::to_string(&update).unwrap();
        assert_eq!(serde_json::from_str::<Update>(&json).unwrap(), update, "{json}");
    }
    let loss = Loss::Quantile { quantiles: vec![0.25, 0.5] };
    assert_eq!(serde_json::from_str::<Loss>(&serde_json::to_string(&loss).unwrap()).unwrap(), loss);
}
