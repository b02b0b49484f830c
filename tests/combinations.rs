//! Random combinations of the options of recurrent layers against the naive oracle: outputs, states and, with every kind of
//! dropout, gradients. A case follows from its seed alone, so a failure is repeated by the line that it prints:
//!
//! ```text
//! WGPU_LSTM_CASE=1234 cargo test --test combinations on_cpu
//! ```

mod common;

use common::combination::{Case, ON_ADAPTER, ON_CPU, seeds};
use common::recurrent_oracle::*;
use common::{adapter, close};
use ndarray::Array3;
use wgpu_lstm::{Capabilities, Device, LstmLayer, LstmState, Strategy};

/// f32 throughout, sums of some dozens of terms; activations whose slope is above 1 may pass errors on from step to step, up to
/// seven of them.
const TOLERANCE: f32 = 3e-5;

/// Cases on an adapter in the short form of the tests.
const IN_SHORT: u32 = 45;

/// Gradients go back through the same steps and are sums over them; relative to the sum of the terms' sizes.
const GRADIENTS: f64 = 1e-4;

/// Of the differences: small, so that hardly one meets a corner of an activation or a clip; in f64 it leaves eight digits.
const STEP: f64 = 1e-8;

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Runs the case of a seed.
fn check(device: &Device, seed: u64) {
    let Case { lstm, mut oracle, sizes: [t, b, input], ragged, chances, small, largest, mut draw } = Case::new(seed);
    let go_backwards = oracle.visiting_order;

    let strategy = Strategy::ALL[draw.below(2)];
    let own = match device.adapter() {
        None if small => Device::cpu_with(Capabilities {
            strategy: Some(strategy),
            max_binding_bytes: 8192, // time is split where it can be
            ..Device::cpu().capabilities().clone()
        }),
        None => common::cpu_with(strategy),
        Some(_) => device.clone(),
    };
    let what = format!("WGPU_LSTM_CASE={seed}: T {t}, B {b}, I {input}, {lstm:?}, ragged {ragged}, {strategy:?}");
    let layer = match lstm.clone().build(&own, input, seed) {
        Err(wgpu_lstm::Error::TooLarge { .. }) => lstm.clone().build(device, input, seed),
        other => other,
    };
    let layer = layer.unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut parameters = layer.parameters().unwrap();
    // PyTorch's first weights are small for large H; these reach the clips and the bends.
    parameters.values_mut().for_each(|array| array.mapv_inplace(|_| largest * draw.next()));
    layer.set_parameters(parameters.clone()).unwrap();
    oracle.params = parameters.iter().map(|(k, v)| (k.clone(), v.iter().map(|&v| f64::from(v)).collect())).collect();

    let x = draw.array3((b, t, input));
    let mut initial = LstmState::zeros(&lstm, b).unwrap();
    initial.h.mapv_inplace(|_| 0.5 * draw.next());
    initial.c.mapv_inplace(|_| 0.5 * draw.next());
    if oracle.cell == RecurrentCell::SLstm {
        // n, the second of three states, is a sum of weights.
        let n = initial.c.outer_iter_mut().enumerate().filter(|(slot, _)| slot / oracle.directions % 3 == 1);
        n.for_each(|(_, mut n)| n.mapv_inplace(|value| 0.5 + value.abs()));
    }
    let lengths: Vec<usize> = (0..b).map(|_| draw.below(t + 1)).collect();
    let run = OracleRun {
        x: wide(x.as_slice().unwrap()),
        b,
        t,
        h_0: wide(initial.h.as_slice().unwrap()),
        c_0: wide(initial.c.as_slice().unwrap()),
        lengths: if ragged { lengths.clone() } else { vec![] },
        ..OracleRun::default()
    };
    let mut expected = oracle.forward(&run);
    // As Keras has it, what is padded comes first; the oracle puts it last.
    let padding_first = |output: &mut [f64]| {
        if ragged && go_backwards {
            let width = output.len() / (b * t);
            for (row, &length) in output.chunks_exact_mut(t * width).zip(&lengths) {
                row.rotate_right((t - length) * width);
            }
        }
    };
    padding_first(&mut expected.output);
    let out = match ragged {
        true => layer.forward_ragged(x.view(), &lengths, Some(&initial)),
        false => layer.forward(x.view(), Some(&initial)),
    };
    let out = out.unwrap_or_else(|error| panic!("{what}: {error}"));
    let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect::<Vec<f32>>();
    for (part, given, expected) in [
        ("output", &out.output, &expected.output),
        ("h_n", &out.state.h, &expected.h_n),
        ("c_n", &out.state.c, &expected.c_n),
    ] {
        let given: &Array3<f32> = given;
        close(&format!("{what}: {part}"), given, &narrow(expected), TOLERANCE, TOLERANCE);
    }

    // Gradients of Σ output·d_output + Σ h_n·d_h + Σ c_n·d_c, by the masks of a key.
    let key = [seed as u32, 3];
    let mut layer = layer.random_key(key);
    let d_output = Array3::from_shape_simple_fn(out.output.dim(), || draw.next());
    let mut d_final = LstmState::zeros(&lstm, b).unwrap();
    d_final.h.mapv_inplace(|_| draw.next());
    d_final.c.mapv_inplace(|_| draw.next());
    let gradients = |layer: &LstmLayer| match ragged {
        true => layer.gradients_ragged(x.view(), &lengths, Some(&initial), d_output.view(), Some(&d_final)),
        false => layer.gradients(x.view(), Some(&initial), d_output.view(), Some(&d_final)),
    };
    let mut given = gradients(&layer);
    if let Err(wgpu_lstm::Error::TooLarge { .. }) = given {
        // Training keeps more of a step than the small device can bind.
        layer = lstm.clone().build(device, input, seed).unwrap().random_key(key);
        layer.set_parameters(parameters).unwrap();
        given = gradients(&layer);
    }
    let given = given.unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut run = chances.run(key, &oracle, &run);
    let d_output = wide(d_output.as_slice().unwrap());
    let [d_h, d_c] = [&d_final.h, &d_final.c].map(|array| wide(array.as_slice().unwrap()));
    let loss = |oracle: &RecurrentOracle, run: &OracleRun| {
        let mut result = oracle.forward(run);
        padding_first(&mut result.output);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(&result.output, &d_output) + dot(&result.h_n, &d_h) + dot(&result.c_n, &d_c)
    };
    // Along one direction in each tensor, which has a part in every element: plus or minus one.
    let mut along = |name: &str, gradient: &[f32], loss: &mut dyn FnMut(&[f64]) -> f64| {
        let direction: Vec<f64> = gradient.iter().map(|_| if draw.next() < 0.0 { -1.0 } else { 1.0 }).collect();
        let terms = || gradient.iter().zip(&direction).map(|(&gradient, direction)| f64::from(gradient) * direction);
        let scaled = |by: f64| direction.iter().map(|direction| by * direction).collect::<Vec<f64>>();
        let expected = (loss(&scaled(STEP)) - loss(&scaled(-STEP))) / (2.0 * STEP);
        let (given, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
        assert!(
            (given - expected).abs() <= GRADIENTS * (1.0 + size),
            "{what}, {chances:?}: gradient of {name} along a direction is {given}, expected {expected}; its terms sum to {size}"
        );
    };
    let moved = |values: &[f64], by: &[f64]| values.iter().zip(by).map(|(value, by)| value + by).collect::<Vec<f64>>();
    type Part = fn(&mut OracleRun) -> &mut Vec<f64>;
    let parts: [(&str, &Array3<f32>, Part); 3] = [
        ("x", &given.x, |run| &mut run.x),
        ("h_0", &given.initial.h, |run| &mut run.h_0),
        ("c_0", &given.initial.c, |run| &mut run.c_0),
    ];
    for (name, gradient, part) in parts {
        let values = part(&mut run).clone();
        along(name, gradient.as_slice().unwrap(), &mut |by| {
            *part(&mut run) = moved(&values, by);
            loss(&oracle, &run)
        });
        *part(&mut run) = values;
    }
    assert_eq!(given.parameters.keys().collect::<Vec<_>>(), oracle.params.keys().collect::<Vec<_>>(), "{what}");
    for (name, gradient) in &given.parameters {
        let values = oracle.params[name].clone();
        let gradient: Vec<f32> = gradient.iter().copied().collect();
        along(name, &gradient, &mut |by| {
            oracle.params.insert(name.clone(), moved(&values, by));
            loss(&oracle, &run)
        });
        oracle.params.insert(name.clone(), values);
    }
}

/// So many cases of random seeds, or the one that is asked for.
fn cases(device: &Device, count: u32) {
    if let Ok(seed) = std::env::var("WGPU_LSTM_CASE") {
        return check(device, seed.parse().expect("WGPU_LSTM_CASE is a seed"));
    }
    seeds(count, |seed| check(device, seed));
}

mod on_cpu {
    #[test]
    fn hundreds_of_combinations() {
        super::cases(&wgpu_lstm::Device::cpu(), super::ON_CPU);
    }
}

mod on_adapter {
    #[test]
    fn a_share_of_them() {
        let count = if super::common::long() { super::ON_ADAPTER } else { super::IN_SHORT };
        super::cases(&super::adapter(), count);
    }
}
