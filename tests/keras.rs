//! Keras: the quickstart's program from Keras's own first weights follows Keras's 100 losses within 1e-3 relative.

mod common;

use common::{close, fixture};
use ndarray::{Array2, ArrayD};
use wgpu_lstm::{Dense, Device, Fit, Loss, Lstm, Optimiser, Sequential};

fn the_quickstart_follows_keras(device: &Device) {
    let keras = fixture("keras_quickstart.safetensors");
    let mut model = Sequential::new(1).add(Lstm::keras(10)).add(Dense::keras(1)).build(device, 0).unwrap();
    // Keras has [in, 4H] and [in, out]; the gates i, f, c, o come in the crate's order.
    let turned = |name: &str| -> ArrayD<f32> {
        let matrix: Array2<f32> = keras.tensors[name].clone().into_dimensionality().unwrap();
        matrix.reversed_axes().as_standard_layout().into_owned().into_dyn()
    };
    let parameters = [
        ("lstm.weight_ih_l0", turned("kernel")),
        ("lstm.weight_hh_l0", turned("recurrent_kernel")),
        ("lstm.bias_ih_l0", keras.tensors["bias"].clone()),
        ("dense.weight", turned("dense_kernel")),
        ("dense.bias", keras.tensors["dense_bias"].clone()),
    ];
    model.set_parameters(parameters.map(|(name, array)| (name.to_string(), array)).into()).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam_keras(1e-3)).unwrap();
    let x = keras.array3("x");
    let history = model.fit(x.view(), keras.tensors["y"].view(), Fit::new().epochs(100).shuffle(false)).unwrap();
    assert_eq!(history.loss.len(), 100);
    close("losses", &history.loss, &keras.tensors["losses"], 0.0, 1e-3);
    close("prediction", &model.predict(x.view()).unwrap(), &keras.tensors["prediction"], 0.0, 1e-3);
}

on_both!(the_quickstart_follows_keras);

/// Keras's initialisers: forget bias 1, recurrent weights orthogonal, kernels within Glorot's limit.
#[test]
fn initial_weights_are_of_kerass_kind() {
    let model = Sequential::new(3).add(Lstm::keras(8)).add(Dense::keras(2)).build(&Device::cpu(), 5).unwrap();
    let parameters = model.parameters().unwrap();
    let bias = &parameters["lstm.bias_ih_l0"];
    let ones: Vec<usize> = (0..32).filter(|&row| bias[[row]] == 1.0).collect();
    assert_eq!(ones, (8..16).collect::<Vec<_>>());
    assert_eq!(bias.sum(), 8.0);
    let limit = (6.0f32 / (3.0 + 32.0)).sqrt();
    assert!(parameters["lstm.weight_ih_l0"].iter().all(|weight| weight.abs() <= limit));
    assert!(parameters["lstm.weight_ih_l0"].iter().any(|weight| weight.abs() > 0.8 * limit));
    let r: Array2<f32> = parameters["lstm.weight_hh_l0"].clone().into_dimensionality().unwrap();
    let gram = r.t().dot(&r);
    for ((a, b), value) in gram.indexed_iter() {
        assert!((value - (a == b) as u8 as f32).abs() < 1e-5, "{a} {b} {value}");
    }
    // 4·(8·(8 + 3) + 8) + 8·2 + 2: what model.count_params() gives in Keras
    assert_eq!(model.parameter_count(), 384 + 18);
}
