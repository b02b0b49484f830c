//! Stacks of layers against what PyTorch and Keras computed (`tests/fixtures/layers_*`): outputs, the loss and the gradient of
//! every parameter, by the public way: one step of plain gradient descent with a rate of 1. Among them: dense layers with every
//! activation, layer normalisation, embeddings, and padding told from values.

mod common;

use common::{Fixture, close, fixture, fixture_names};
use ndarray::{Array3, ArrayD};
use wgpu_lstm::{Device, Fit, Layer, Loss, Model, Optimiser, Sequential};

/// f32 throughout, sums of a few dozens of terms; the files are computed in f64.
const VALUES: f32 = 1e-5;
/// A gradient is the difference of two parameters of up to 3, each rounded to 1e-7, and a sum over steps and rows.
const GRADIENTS: f32 = 1e-5;

fn layers(file: &Fixture) -> Vec<Layer> {
    serde_json::from_str(&file.metadata["layers"]).unwrap()
}

fn model(file: &Fixture, device: &Device) -> Model {
    let inputs = file.tensors["x"].shape()[2];
    let stack = layers(file).into_iter().fold(Sequential::new(inputs), |stack, layer| stack.add(layer));
    let mut model = stack.build(device, 0).unwrap();
    model.set_parameters(file.under("param.")).unwrap();
    model
}

/// The output with zeros in padded steps: what a dense layer makes of these says nothing.
fn without_padding(mut output: ArrayD<f32>, file: &Fixture) -> ArrayD<f32> {
    let lengths = file.metadata.get("lengths").filter(|_| output.ndim() == 3);
    let lengths: Vec<usize> = lengths.map_or(vec![], |text| serde_json::from_str(text).unwrap());
    for (row, &length) in lengths.iter().enumerate() {
        output.index_axis_mut(ndarray::Axis(0), row).slice_axis_mut(ndarray::Axis(0), (length..).into()).fill(0.0);
    }
    output
}

fn check(device: &Device, name: &str) {
    let file = fixture(name);
    let mut model = model(&file, device);
    let (x, target) = (file.array3("x"), file.tensors["target"].clone());
    let output = without_padding(model.predict(x.view()).unwrap(), &file);
    assert_eq!(output.shape(), file.tensors["output"].shape(), "{name}");
    close(&format!("{name} output"), &output, &file.tensors["output"], VALUES, VALUES);

    model.compile(Loss::MeanSquaredError, Optimiser::sgd(1.0, 0.0)).unwrap();
    let loss = model.evaluate(x.view(), target.view()).unwrap();
    close(&format!("{name} loss"), &[loss], &file.tensors["loss"], VALUES, VALUES);
    let history = model.fit(x.view(), target.view(), Fit::new().batch_size(x.dim().0)).unwrap();
    close(&format!("{name} training loss"), &history.loss, &file.tensors["loss"], VALUES, VALUES);
    let (before, after) = (file.under("param."), model.parameters().unwrap());
    for (parameter, gradient) in file.under("grad.") {
        let given = &before[&parameter] - &after[&parameter];
        close(&format!("{name} d{parameter}"), &given, &gradient, GRADIENTS, GRADIENTS);
    }
}

fn references(device: &Device) {
    fixture_names("layers_").iter().for_each(|name| check(device, name));
}

/// Lengths given by hand, and lengths told from values, are the same plan: the same bits.
fn lengths_by_value_are_lengths(device: &Device) {
    let masked = |name: &String| fixture(name).metadata.contains_key("lengths");
    let names: Vec<String> = fixture_names("layers_").into_iter().filter(masked).collect();
    assert!(names.len() > 5);
    for name in names {
        let file = fixture(&name);
        let (x, target) = (file.array3("x"), &file.tensors["target"]);
        let lengths: Vec<usize> = serde_json::from_str(&file.metadata["lengths"]).unwrap();
        let trained = |given: Option<Vec<usize>>| {
            let mut model = model(&file, device);
            model.compile(Loss::MeanSquaredError, Optimiser::sgd(1.0, 0.0)).unwrap();
            let fit = Fit::new().batch_size(3).epochs(2); // batches of three and of one
            let validation = fit.validation_data(x.clone(), target_3d(target));
            let fit = match given {
                Some(lengths) => validation.lengths(lengths),
                None => validation,
            };
            let history = model.fit(x.view(), target.view(), fit).unwrap();
            (model.parameters().unwrap(), history.loss, history.validation_loss)
        };
        assert_eq!(trained(Some(lengths)), trained(None), "{name}");
    }
}

fn target_3d(target: &ArrayD<f32>) -> Array3<f32> {
    let target = if target.ndim() == 2 { target.clone().insert_axis(ndarray::Axis(1)) } else { target.clone() };
    target.into_dimensionality().unwrap()
}

on_both!(references, lengths_by_value_are_lengths);
