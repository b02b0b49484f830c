//! Recurrent weights as whole numbers: the numbers of a model whose weights were rounded so, in inference; nothing else changes.

mod common;

use common::{Draw, close};
use ndarray::{Array3, ArrayD, Axis};
use std::collections::BTreeMap;
use wgpu_lstm::{
    AdapterKind, Bias, Capabilities, Cell, Device, GpuOptions, Gru, Lstm, Sequential, Software, StepWeights, Strategy,
};

fn adapter(strategy: Option<Strategy>) -> Device {
    let options = GpuOptions {
        software: Software::Fallback,
        schedule_as: Some(AdapterKind::Discrete),
        step_weights: StepWeights::Int8,
        strategy,
        ..GpuOptions::default()
    };
    Device::gpu(&options).unwrap()
}

fn cpu() -> Device {
    Device::cpu_with(Capabilities { step_weights: StepWeights::Int8, ..Capabilities::default() })
}

/// Each row of a matrix, the weights of a gate of a unit, rounded to 127 steps of its largest.
fn rounded(mut matrix: ArrayD<f32>) -> ArrayD<f32> {
    for mut row in matrix.lanes_mut(Axis(1)) {
        let largest = row.iter().fold(0.0f32, |most, weight| most.max(weight.abs()));
        row.mapv_inplace(|weight| (weight / (largest / 127.0)).round_ties_even() * (largest / 127.0));
    }
    matrix
}

fn with(parameters: &BTreeMap<String, ArrayD<f32>>, which: &[&str]) -> BTreeMap<String, ArrayD<f32>> {
    let round = |(name, value): (&String, &ArrayD<f32>)| {
        let rounds = which.iter().any(|kind| name.contains(kind));
        (name.clone(), if rounds { rounded(value.clone()) } else { value.clone() })
    };
    parameters.iter().map(round).collect()
}

/// Whole passes round R, steps of a stream W, too.
fn the_numbers_are_those_of_rounded_weights(device: &Device) {
    for (hidden, cell, batch) in
        [(9, Cell::Standard, 3), (33, Cell::Article, 1), (64, Cell::Standard, 9), (20, Cell::Gru, 2)]
    {
        let lstm = Lstm::new(hidden).layers(2).cell(cell).bias(Bias::Double);
        let build = |device: &Device| match cell {
            Cell::Gru => {
                Sequential::new(5).add(Gru::new(hidden).layers(2).return_sequences(true)).build(device, 3).unwrap()
            }
            _ => Sequential::new(5).add(lstm.clone().return_sequences(true)).build(device, 3).unwrap(),
        };
        let given = build(device);
        let mut expected = build(&Device::cpu());
        let own = expected.parameters().unwrap();
        let x: Array3<f32> = Draw::new(4).array3((batch, 7, 5));
        expected.set_parameters(with(&own, &["weight_hh"])).unwrap();
        let what = format!("{device}: H = {hidden}, {cell:?}");
        let (given_y, expected_y) = (given.predict(x.view()).unwrap(), expected.predict(x.view()).unwrap());
        // Sums in another order
        close(&what, given_y.as_slice().unwrap(), expected_y.as_slice().unwrap(), 1e-5, 1e-5);
        expected.set_parameters(with(&own, &["weight_hh", "weight_ih"])).unwrap();
        let expected_y = expected.predict(x.view()).unwrap();
        let mut stream = given.stream(batch).unwrap();
        for step in 0..7 {
            let y = stream.feed(x.slice(ndarray::s![.., step..step + 1, ..])).unwrap();
            let expected = expected_y.slice(ndarray::s![.., step..step + 1, ..]).to_owned();
            close(&format!("{what}, step {step}"), y.as_slice().unwrap(), expected.as_slice().unwrap(), 1e-5, 1e-5);
        }
    }
}

/// Weights that are set while a stream runs are rounded again.
fn a_stream_follows_its_weights(device: &Device) {
    let lstm = Lstm::new(12);
    let [given, expected] = [device, &Device::cpu()].map(|device| lstm.clone().build(device, 4, 3).unwrap());
    let [first, second] = [5, 6].map(|seed| lstm.clone().build(&Device::cpu(), 4, seed).unwrap().parameters().unwrap());
    let [mut stream, mut reference] = [&given, &expected].map(|layer| layer.stream(2).unwrap());
    let x: Array3<f32> = Draw::new(6).array3((2, 1, 4));
    for parameters in [&first, &first, &second, &first] {
        given.set_parameters(parameters.clone()).unwrap();
        expected.set_parameters(with(parameters, &["weight_hh", "weight_ih"])).unwrap();
        for step in 0..3 {
            let [y, expected] = [stream.feed(x.view()).unwrap(), reference.feed(x.view()).unwrap()];
            close(&format!("{device}: step {step}"), &y, &expected, 1e-5, 1e-5);
        }
    }
}

/// Training reads the weights as they are.
fn training_is_that_of_f32(device: &Device, plain: &Device) {
    let x: Array3<f32> = Draw::new(7).array3((6, 5, 3));
    let y = ndarray::Array2::from_shape_fn((6, 2), |(n, k)| x[[n, k, 0]]);
    let trained = [device, plain].map(|device| {
        let network = Sequential::new(3).add(Lstm::new(10)).add(wgpu_lstm::Dense::new(2));
        let mut model = network.build(device, 1).unwrap();
        model.compile(wgpu_lstm::Loss::MeanSquaredError, wgpu_lstm::Optimiser::adam(1e-2)).unwrap();
        model.fit(x.view(), y.view(), wgpu_lstm::Fit::new().epochs(3)).unwrap();
        model.parameters().unwrap()
    });
    assert_eq!(trained[0], trained[1], "{device}");
}

#[test]
fn on_cpu() {
    the_numbers_are_those_of_rounded_weights(&cpu());
    a_stream_follows_its_weights(&cpu());
    training_is_that_of_f32(&cpu(), &Device::cpu_with(Capabilities::default()));
}

mod on_adapter {
    use super::*;

    #[test]
    fn whole_sequences() {
        the_numbers_are_those_of_rounded_weights(&adapter(Some(Strategy::WholeSequence)));
    }

    #[test]
    fn single_steps() {
        the_numbers_are_those_of_rounded_weights(&adapter(Some(Strategy::PerStep)));
        a_stream_follows_its_weights(&adapter(None));
        let options = GpuOptions {
            software: Software::Fallback,
            schedule_as: Some(AdapterKind::Discrete),
            ..GpuOptions::default()
        };
        training_is_that_of_f32(&adapter(None), &Device::gpu(&options).unwrap());
    }
}
