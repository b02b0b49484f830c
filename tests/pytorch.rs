//! The numbers of PyTorch: outputs, final states, every gradient and ten training steps, from files that PyTorch
//! wrote (tests/fixtures/make_pytorch.py computes in f64).
//!
//! Tolerances: 1e-5 forward and 1e-4 for gradients, absolute for values of order 1 and relative above: what f32 sums
//! over up to 40 steps lose, with a margin.

mod common;

use common::{Fixture, close, fixture, fixture_names};
use wgpu_lstm::{Activation, Bias, Cell, Dense, Device, Fit, Loss, Lstm, LstmState, Optimiser, Sequential};

fn lstm_of(fixture: &Fixture) -> Lstm {
    let article = fixture.metadata["cell"] == "article";
    let bias = match (fixture.metadata["bias"].as_str(), article) {
        ("0", _) => Bias::None,
        (_, true) => Bias::Single,
        _ => Bias::Double,
    };
    Lstm::new(fixture.size("H"))
        .layers(fixture.size("L"))
        .bidirectional(fixture.size("D") == 2)
        .bias(bias)
        .cell(if article { Cell::Article } else { Cell::Standard })
}

fn parameters(fixture: &Fixture) -> std::collections::BTreeMap<String, ndarray::ArrayD<f32>> {
    let own = |name: &String| name.starts_with("weight_") || name.starts_with("bias_");
    fixture.tensors.iter().filter(|(name, _)| own(name)).map(|(name, array)| (name.clone(), array.clone())).collect()
}

fn layers_agree(device: &Device, prefix: &str) {
    for name in fixture_names(prefix) {
        let fixture = fixture(&name);
        let layer = lstm_of(&fixture).build(device, fixture.size("I"), 0).unwrap();
        layer.set_parameters(parameters(&fixture)).unwrap();
        let x = fixture.array3("x");
        let initial = LstmState { h: fixture.array3("h_0"), c: fixture.array3("c_0") };
        let out = layer.forward(x.view(), Some(&initial)).unwrap();
        close(&format!("{name} output"), &out.output, &fixture.tensors["output"], 1e-5, 1e-5);
        close(&format!("{name} h_n"), &out.state.h, &fixture.tensors["h_n"], 1e-5, 1e-5);
        close(&format!("{name} c_n"), &out.state.c, &fixture.tensors["c_n"], 1e-5, 1e-5);

        let d_final = LstmState { h: fixture.array3("d_h_n"), c: fixture.array3("d_c_n") };
        let d_output = fixture.array3("d_output");
        let gradients = layer.gradients(x.view(), Some(&initial), d_output.view(), Some(&d_final)).unwrap();
        let expected = fixture.under("grad.");
        close(&format!("{name} dx"), &gradients.x, &expected["x"], 1e-4, 1e-4);
        close(&format!("{name} dh_0"), &gradients.initial.h, &expected["h_0"], 1e-4, 1e-4);
        close(&format!("{name} dc_0"), &gradients.initial.c, &expected["c_0"], 1e-4, 1e-4);
        assert_eq!(gradients.parameters.len(), expected.len() - 3, "{name}: number of parameters");
        for (parameter, gradient) in &gradients.parameters {
            assert_eq!(gradient.shape(), expected[parameter].shape());
            close(&format!("{name} d{parameter}"), gradient, &expected[parameter], 1e-4, 1e-4);
        }
    }
}

fn standard_cell(device: &Device) {
    layers_agree(device, "pytorch_lstm_");
}

fn article_cell(device: &Device) {
    layers_agree(device, "article_lstm_");
}

fn ten_steps_of_training(device: &Device) {
    for name in fixture_names("train_") {
        let fixture = fixture(&name);
        let sequence = fixture.metadata["output"] == "sequence";
        let mut model = Sequential::new(fixture.size("I")).add(lstm_of(&fixture).return_sequences(sequence));
        if fixture.size("dense") > 0 {
            let activation =
                if fixture.metadata["dense_activation"] == "tanh" { Activation::Tanh } else { Activation::Linear };
            model = model.add(Dense::new(fixture.size("dense")).activation(activation));
        }
        let mut model = model.build(device, 0).unwrap();
        model.set_parameters(fixture.under("init.")).unwrap();
        let loss = match fixture.metadata["loss"].as_str() {
            "mse" => Loss::MeanSquaredError,
            "mae" => Loss::MeanAbsoluteError,
            "cross_entropy" => Loss::SoftmaxCrossEntropy,
            other => panic!("{other}"),
        };
        let lr = fixture.number("lr");
        let optimiser = match fixture.metadata["optimiser"].as_str() {
            "adam" => Optimiser::adam(lr),
            "sgd" => Optimiser::sgd(lr, fixture.number("momentum") as f32),
            other => panic!("{other}"),
        };
        model.compile(loss, optimiser).unwrap();
        let clip = fixture.number("clip_norm") as f32;
        model.clip_norm((clip > 0.0).then_some(clip)).unwrap();
        let x = fixture.array3("x");
        let fit = Fit::new().epochs(10).batch_size(x.dim().0).shuffle(false);
        let history = model.fit(x.view(), fixture.tensors["target"].view(), fit).unwrap();
        close(&format!("{name} losses"), &history.loss, &fixture.tensors["losses"], 1e-5, 1e-5);
        let prediction = model.predict(x.view()).unwrap();
        close(&format!("{name} prediction"), &prediction, &fixture.tensors["prediction"], 1e-5, 1e-5);
        let (parameters, expected) = (model.parameters().unwrap(), fixture.under("final."));
        assert_eq!(parameters.len(), expected.len());
        for (parameter, values) in &parameters {
            close(&format!("{name} {parameter}"), values, &expected[parameter], 1e-5, 1e-5);
        }
    }
}

on_both_by_every_strategy!(standard_cell, article_cell, ten_steps_of_training);
