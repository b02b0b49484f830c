//! Plans make other forms of weights (f16, int8, layers side by side) anew when the weights change, and only then.

mod common;

use common::{Draw, close};
use ndarray::{Array2, Array3, ArrayD, s};
use std::collections::BTreeMap;
use wgpu_lstm::{
    AdapterKind, Bias, Capabilities, CpuOptions, CpuWeights, Dense, Device, Evaluate, Fit, GpuOptions, Inputs, Loss,
    Lstm, Model, Network, Optimiser, Sequential, Software, StepWeights, Strategy, Update,
};

fn cpu(step_weights: StepWeights) -> Device {
    Device::cpu_with(Capabilities { step_weights, strategy: Some(Strategy::PerStep), ..Capabilities::default() })
}

/// The CPU executor's own plans, with weights in a form.
fn cpu_in(weights: CpuWeights) -> Device {
    Device::cpu_with_options(&CpuOptions { weights, ..CpuOptions::default() })
}

/// An adapter with the kernels for hardware.
fn adapter(step_weights: StepWeights) -> Device {
    let options = GpuOptions {
        software: Software::Fallback,
        schedule_as: Some(AdapterKind::Discrete),
        step_weights,
        strategy: Some(Strategy::PerStep),
        ..GpuOptions::default()
    };
    Device::gpu(&options).unwrap()
}

fn layers() -> Sequential {
    let lstm = Lstm::new(20).layers(2).bias(Bias::Double).return_sequences(true);
    Sequential::new(3).add(lstm).add(Dense::new(2))
}

fn data() -> (Array3<f32>, Array3<f32>) {
    (Draw::new(1).array3((2, 7, 3)), Draw::new(2).array3((2, 7, 2)))
}

fn model(device: &Device, seed: u64) -> Model {
    let mut model = layers().build(device, seed).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-2)).unwrap();
    model
}

/// A model computes, in all ways and twice each, the numbers of a model that never had other weights.
fn is_fresh(what: &str, model: &Model) {
    let mut fresh = self::model(model.device(), 9);
    fresh.set_parameters(model.parameters().unwrap()).unwrap();
    let (x, y) = data();
    let once = |model: &Model| {
        let passed = model.forward(x.view()).unwrap();
        let output = passed.output().unwrap();
        let gradients = passed.backward(y.view()).unwrap();
        let evaluated = model.evaluate_with(x.view(), y.view(), Evaluate::new()).unwrap();
        (model.predict(x.view()).unwrap(), evaluated, output, gradients)
    };
    let expected = once(&fresh);
    for time in ["first", "second"] {
        assert_eq!(once(model), expected, "{what}, the {time} time, on {}", model.device());
    }
}

fn every_run_uses_the_weights_of_now(device: &Device) {
    let (x, y) = data();
    let mut model = model(device, 1);
    is_fresh("at first", &model);
    let others = self::model(device, 2).parameters().unwrap();
    model.set_parameters(others).unwrap();
    is_fresh("set", &model);
    let mut recurrent = self::model(device, 3).parameters().unwrap();
    recurrent.retain(|name, _| name.contains("weight_hh"));
    model.set_some_parameters(recurrent).unwrap();
    is_fresh("set in part", &model);
    model.fit(x.view(), y.view(), Fit::new().epochs(2)).unwrap();
    is_fresh("trained", &model);
    model.compile(Loss::MeanSquaredError, Update::new(Optimiser::adam(1e-2)).freeze("dense.")).unwrap();
    model.fit(x.view(), y.view(), Fit::new()).unwrap();
    is_fresh("trained in part", &model);
    model.step_with(x.view(), |outputs| Ok((1.0, outputs.clone()))).unwrap();
    is_fresh("trained by another loss", &model);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    self::model(device, 4).save(&path).unwrap();
    model.load_partial(&path).unwrap();
    is_fresh("loaded", &model);
    let mut clone = model.clone();
    clone.fit(x.view(), y.view(), Fit::new()).unwrap();
    is_fresh("whose clone was trained", &model);
    is_fresh("a clone", &clone);
}

fn a_layer_uses_the_weights_of_now(device: &Device) {
    let lstm = Lstm::new(20).layers(2);
    let [layer, fresh] = [1, 1].map(|seed| lstm.clone().build(device, 3, seed).unwrap());
    let others: BTreeMap<String, ArrayD<f32>> = lstm.build(device, 3, 5).unwrap().parameters().unwrap();
    let (x, _) = data();
    let dy = Draw::new(3).array3((2, 7, 20));
    let once = |layer: &wgpu_lstm::LstmLayer| {
        let gradients = layer.gradients(x.view(), None, dy.view(), None).unwrap();
        (layer.forward(x.view(), None).unwrap(), gradients.x, gradients.parameters)
    };
    let before = once(&layer);
    assert_eq!(once(&layer), before, "{device}");
    layer.set_parameters(others.clone()).unwrap();
    fresh.set_parameters(others).unwrap();
    let after = once(&layer);
    assert_eq!(after, once(&fresh), "{device}");
    assert_ne!(after.0, before.0, "{device}");
}

fn translator(device: &Device) -> Model {
    let mut net = Network::new();
    let (past, previous) = (net.input("past", 3), net.input("previous", 2));
    let encoded = net.layer(Lstm::new(20)).of(past);
    let states = net.states(encoded);
    let hidden = net.layer(Lstm::new(20).return_sequences(true)).starts_from(states).of(previous);
    let next = net.layer(Dense::new(2)).of(hidden);
    let mut model = net.output("next", next).build(device, 1).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(0.1)).unwrap();
    model
}

/// A decoding goes on with the parameters with which it began, and equals the whole network.
fn decodings_keep_their_weights(device: &Device) {
    let mut model = translator(device);
    let (past, previous) = (Draw::new(4).array3((2, 5, 3)), Draw::new(5).array3((2, 6, 2)));
    let whole =
        |model: &Model| model.predict(Inputs::new().add("past", past.view()).add("previous", previous.view())).unwrap();
    let decoder = model.decoder("previous", "next").unwrap();
    let begin = || decoder.begin(Inputs::new().add("past", past.view())).unwrap();
    let feed = |decoding: &mut wgpu_lstm::Decoding, step: usize, expected: &ArrayD<f32>| {
        let y: Array2<f32> = decoding.feed(previous.slice(s![.., step, ..])).unwrap();
        // Single steps and whole sequences have sums in another order; int8 rounds W of single steps, too.
        let tolerance = if device.capabilities().step_weights == StepWeights::Int8 { 2e-2 } else { 1e-5 };
        let expected = expected.slice(s![.., step, ..]).to_owned();
        close(&format!("{device}: step {step}"), &y, &expected, tolerance, tolerance);
    };
    let (before, mut first) = (whole(&model), begin());
    (0..3).for_each(|step| feed(&mut first, step, &before));
    let target = Array3::from_elem((2, 6, 2), 3.0);
    let inputs = || Inputs::new().add("past", past.view()).add("previous", previous.view());
    model.fit(inputs(), target.view(), Fit::new().epochs(3)).unwrap();
    let (after, mut second) = (whole(&model), begin());
    assert!((&after - &before).iter().any(|difference| difference.abs() > 0.1), "the weights are others now");
    for step in 0..3 {
        feed(&mut second, step, &after);
        feed(&mut first, 3 + step, &before);
    }
}

/// Batches that a GPU runs while the host takes the results of those before.
fn outputs_of_many_batches_are_those_of_each(device: &Device) {
    let mut model = Sequential::new(3).add(Lstm::new(5)).add(Dense::new(2)).build(device, 1).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-2)).unwrap();
    let (x, y) =
        (Draw::new(6).array3((777, 3, 3)), Draw::new(7).array3((777, 1, 2)).index_axis_move(ndarray::Axis(1), 0));
    let all = model.predict(x.view()).unwrap();
    let mut sum = 0.0;
    for first in [0, 256, 512, 768] {
        let range = first..777.min(first + 256);
        let (x, y) = (x.slice(s![range.clone(), .., ..]), y.slice(s![range.clone(), ..]));
        assert_eq!(
            model.predict(x).unwrap(),
            all.slice(s![range.clone(), ..]).to_owned().into_dyn(),
            "{device}: {range:?}"
        );
        sum += model.evaluate(x, y).unwrap() as f64 * range.len() as f64;
    }
    // The sum of four means
    close("the loss", &[model.evaluate(x.view(), y.view()).unwrap()], &[(sum / 777.0) as f32], 1e-6, 0.0);
}

fn in_every_way(device: &Device) {
    every_run_uses_the_weights_of_now(device);
    a_layer_uses_the_weights_of_now(device);
    decodings_keep_their_weights(device);
}

fn all(open: fn(StepWeights) -> Device) {
    for step_weights in [StepWeights::F32, StepWeights::F16, StepWeights::Int8] {
        in_every_way(&open(step_weights));
    }
    outputs_of_many_batches_are_those_of_each(&open(StepWeights::F32));
}

#[test]
fn on_cpu() {
    all(cpu);
}

#[test]
fn on_cpu_in_short_forms() {
    [CpuWeights::F16, CpuWeights::Bf16, CpuWeights::Int8].map(cpu_in).iter().for_each(in_every_way);
}

mod on_adapter {
    #[test]
    fn in_every_form() {
        super::all(super::adapter);
    }
}
