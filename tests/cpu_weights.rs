//! Weights of recurrent layers in f16, bf16 and int8 on the CPU executor: the numbers of a model whose weights were rounded so, in
//! inference; nothing else changes.

mod common;

use common::oracle::{OracleCell, OracleLstm, OracleWeights};
use common::{Draw, close};
use half::{bf16, f16};
use ndarray::{Array3, ArrayD, Axis, Ix3, s};
use std::collections::BTreeMap;
use wgpu_lstm::{
    Bias, Cell, CpuOptions, CpuWeights, Dense, Device, Fit, Gru, Inputs, LayerNorm, Loss, Lstm, Model, Optimiser, Rnn,
    SLstm, Sequential,
};

const FORMS: [CpuWeights; 3] = [CpuWeights::F16, CpuWeights::Bf16, CpuWeights::Int8];

fn cpu(weights: CpuWeights) -> Device {
    Device::cpu_with_options(&CpuOptions { weights, ..CpuOptions::default() })
}

type Parameters = BTreeMap<String, ArrayD<f32>>;

/// Weights of recurrent layers rounded to a form; `heads`: except those of R.
fn rounded(mut parameters: Parameters, form: CpuWeights, heads: bool) -> Parameters {
    for (name, matrix) in &mut parameters {
        let own = ["weight_ih", "weight_hr"].iter().any(|kind| name.contains(kind));
        if !own && (heads || !name.contains("weight_hh")) {
            continue;
        }
        for mut row in matrix.lanes_mut(Axis(1)) {
            // the weights of a gate of a unit
            let factor = row.iter().fold(0.0f32, |most, weight| most.max(weight.abs())) / 127.0;
            row.mapv_inplace(|weight| match form {
                CpuWeights::F16 => f16::from_f32(weight).to_f32(),
                CpuWeights::Bf16 => bf16::from_f32(weight).to_f32(),
                _ => (weight * (1.0 / factor)).round_ties_even() * factor,
            });
        }
    }
    parameters
}

/// Networks of all recurrent layers that have weights.
fn networks(hidden: usize) -> Vec<(&'static str, Sequential)> {
    let lstm = || Lstm::new(hidden).return_sequences(true);
    let gru = || Gru::new(hidden).return_sequences(true);
    let start = || Sequential::new(5);
    vec![
        ("LSTM", start().add(lstm())),
        ("a stack", start().add(lstm().layers(3).bias(Bias::Double))),
        ("both directions", start().add(lstm().layers(2).bidirectional(true)).add(Dense::new(3))),
        ("article", start().add(lstm().cell(Cell::Article))),
        ("projection", start().add(lstm().layers(2).projection(hidden / 2))),
        ("normalised", start().add(lstm().layer_norm(true))),
        ("zoneout", start().add(lstm().zoneout(0.2, 0.1)).add(LayerNorm::new())),
        ("GRU", start().add(gru().layers(2))),
        ("GRU in both directions, reset before", start().add(gru().reset_after(false).bidirectional(true))),
        ("RNN", start().add(Rnn::new(hidden).return_sequences(true))),
        ("sLSTM", start().add(SLstm::new(hidden).return_sequences(true))),
        ("heads", start().add(lstm().heads(2))),
    ]
}

fn predicted(model: &Model, x: &Array3<f32>, lengths: Option<&[usize]>) -> Array3<f32> {
    let inputs = Inputs::from(x.view());
    let inputs = if let Some(lengths) = lengths { inputs.lengths(lengths) } else { inputs };
    model.predict(inputs).unwrap().into_dimensionality::<Ix3>().unwrap()
}

fn holds(what: &str, form: CpuWeights, hidden: usize, given: &Array3<f32>, expected: &Array3<f32>) {
    // int8's factors come after the sums. The f32 products of odd sizes differ by roundings while weights are not packed.
    if form == CpuWeights::Int8 || !hidden.is_multiple_of(16) {
        close(what, given, expected, 1e-5, 1e-5);
    } else {
        assert_eq!(given, expected, "{what}");
    }
}

#[test]
fn the_numbers_are_those_of_rounded_weights() {
    for form in FORMS {
        let device = cpu(form);
        for (hidden, batch) in [(16, 1), (16, 7), (10, 3), (80, 1), (80, 20)] {
            for (name, layers) in networks(hidden) {
                let what = format!("{device}: {name}, H = {hidden}, B = {batch}");
                let given = layers.clone().build(&device, 3).unwrap();
                let own = rounded(given.parameters().unwrap(), form, name == "heads");
                let expected = layers.build_with(&Device::cpu(), own).unwrap();
                let x = Draw::new(4).array3((batch, 7, 5));
                for _ in 0..3 {
                    holds(&what, form, hidden, &predicted(&given, &x, None), &predicted(&expected, &x, None));
                }
                let lengths: Vec<usize> = (0..batch).map(|row| 1 + (3 * row + 2) % 7).collect();
                let [y, expected_y] = [&given, &expected].map(|model| predicted(model, &x, Some(&lengths)));
                holds(&format!("{what}, ragged"), form, hidden, &y, &expected_y);
                if name.contains("directions") {
                    continue; // no streams
                }
                let [mut stream, mut reference] = [&given, &expected].map(|model| model.stream(batch).unwrap());
                for step in 0..7 {
                    let x = x.slice(s![.., step..=step, ..]);
                    let (y, expected) = (stream.feed(x).unwrap(), reference.feed(x).unwrap());
                    holds(&format!("{what}, step {step} of a stream"), form, hidden, &y, &expected);
                }
            }
        }
    }
}

/// Errors against f64, as the forms' documentation has them.
#[test]
fn errors_are_as_stated() {
    let wide = |values: &mut dyn Iterator<Item = &f32>| values.map(|&value| value as f64).collect::<Vec<_>>();
    for (form, most) in FORMS.into_iter().zip([1e-3, 1e-2, 1e-2]) {
        let mut worst = 0.0f64;
        for (hidden, batch, scale) in [(16, 1, 1.0), (64, 8, 1.0), (24, 3, 4.0), (256, 1, 1.0)] {
            let layer = Lstm::new(hidden).build(&cpu(form), 6, 3).unwrap();
            let parameters: Parameters =
                layer.parameters().unwrap().into_iter().map(|(name, values)| (name, values * scale)).collect();
            layer.set_parameters(parameters.clone()).unwrap();
            let x = Draw::new(5).array3((batch, 40, 6));
            let y = layer.forward(x.view(), None).unwrap().output;
            let of = |name: &str| parameters.get(name).map_or(vec![0.0; 4 * hidden], |values| wide(&mut values.iter()));
            let [w_ih, w_hh, b_ih, b_hh] = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"].map(of);
            let weights = vec![OracleWeights { w_ih, w_hh, b_ih, b_hh }];
            let oracle = OracleLstm { cell: OracleCell::Standard, input: 6, hidden, layers: 1, directions: 1, weights };
            let zeros = vec![0.0; batch * hidden];
            let expected = oracle.forward(&wide(&mut x.iter()), batch, 40, &zeros, &zeros).output;
            for (&y, expected) in y.iter().zip(expected) {
                worst = worst.max((y as f64 - expected).abs());
            }
        }
        println!("{form:?}: outputs within {worst:.1e}");
        assert!(worst > 1e-5 && worst <= most, "{form:?}: {worst:e}");
    }
}

#[test]
fn bits_are_the_same_on_any_number_of_threads() {
    for weights in FORMS {
        for (hidden, batch) in [(320, 1), (320, 2), (64, 50)] {
            let run = |threads| {
                let device = Device::cpu_with_options(&CpuOptions { threads, weights, ..CpuOptions::default() });
                let model =
                    Sequential::new(40).add(Lstm::new(hidden).layers(2).return_sequences(true)).build(&device, 1);
                predicted(&model.unwrap(), &Draw::new(2).array3((batch, 12, 40)), None)
            };
            assert_eq!(run(1), run(2), "{weights:?}, H = {hidden}, B = {batch}");
        }
    }
}

#[test]
fn training_is_that_of_f32() {
    let x = Draw::new(7).array3((6, 5, 3));
    let y = ndarray::Array2::from_shape_fn((6, 2), |(n, k)| x[[n, k, 0]]);
    let trained = |form| {
        let network = Sequential::new(3).add(Lstm::new(10).bidirectional(true)).add(Dense::new(2));
        let mut model = network.build(&cpu(form), 1).unwrap();
        model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-2)).unwrap();
        // predictions between steps read other forms of the same weights
        let mut losses = Vec::new();
        for _ in 0..3 {
            losses.extend(model.fit(x.view(), y.view(), Fit::new().epochs(3)).unwrap().loss);
            model.predict(x.view()).unwrap();
        }
        let gradients = model.forward(x.view()).unwrap().backward(y.view()).unwrap();
        (losses, model.parameters().unwrap(), gradients)
    };
    let expected = trained(CpuWeights::F32);
    for form in FORMS {
        assert_eq!(trained(form), expected, "{form:?}");
    }
}

#[test]
fn a_stream_follows_its_weights() {
    for form in FORMS {
        let lstm = Lstm::new(12);
        let [given, expected] = [cpu(form), Device::cpu()].map(|device| lstm.clone().build(&device, 4, 3).unwrap());
        let others = [5, 6].map(|seed| lstm.clone().build(&Device::cpu(), 4, seed).unwrap().parameters().unwrap());
        let [mut stream, mut reference] = [&given, &expected].map(|layer| layer.stream(2).unwrap());
        let x = Draw::new(6).array3((2, 1, 4));
        for which in [0, 0, 1, 0] {
            given.set_parameters(others[which].clone()).unwrap();
            expected.set_parameters(rounded(others[which].clone(), form, false)).unwrap();
            for step in 0..3 {
                let [y, expected] = [stream.feed(x.view()).unwrap(), reference.feed(x.view()).unwrap()];
                close(&format!("{form:?}: step {step}"), &y, &expected, 1e-5, 1e-5);
            }
        }
    }
}

/// Zeros, and weights beyond the largest of f16, which are infinite there.
#[test]
fn extreme_weights_are_as_stated() {
    let output = |form, weight: f32| {
        let layer = Lstm::new(16).build(&cpu(form), 2, 3).unwrap();
        let mut parameters = layer.parameters().unwrap();
        parameters.get_mut("weight_ih_l0").unwrap().fill(0.0);
        parameters.get_mut("weight_ih_l0").unwrap()[[0, 1]] = weight;
        layer.set_parameters(parameters).unwrap();
        layer.forward(Array3::ones((1, 1, 2)).view(), None).unwrap().output
    };
    for form in FORMS {
        close(&format!("{form:?}"), &output(form, 0.0), &output(CpuWeights::F32, 0.0), 1e-6, 1e-6);
        close(&format!("{form:?}"), &output(form, 1e5), &output(CpuWeights::F32, 1e5), 1e-6, 1e-6);
    }
}
