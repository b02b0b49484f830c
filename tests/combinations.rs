//! Random combinations of the options of recurrent layers against the naive oracle. A case follows from its seed alone, so a
//! failure is repeated by the line that it prints:
//!
//! ```text
//! WGPU_LSTM_CASE=1234 cargo test --test combinations on_cpu
//! ```

mod common;

use common::recurrent_oracle::*;
use common::{Draw, adapter, close};
use ndarray::Array3;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use wgpu_lstm::{Activation, Bias, Capabilities, Cell, Device, Lstm, LstmState, Strategy};

/// f32 throughout, sums of some dozens of terms; activations whose slope is above 1 may pass errors on from step to step, up to
/// seven of them.
const TOLERANCE: f32 = 3e-5;

/// One of the activations, for both.
fn activation(draw: &mut Draw) -> (Activation, OracleActivation) {
    let (alpha, beta) = (draw.next().abs(), draw.next());
    let (kind, activation) = match draw.below(11) {
        0 => (ActivationKind::Sigmoid, Activation::Sigmoid),
        1 => (ActivationKind::Tanh, Activation::Tanh),
        2 => (ActivationKind::Relu, Activation::Relu),
        3 => (ActivationKind::HardSigmoid, Activation::HardSigmoid { alpha, beta }),
        4 => (ActivationKind::Softsign, Activation::Softsign),
        5 => (ActivationKind::Softplus, Activation::Softplus),
        6 => (ActivationKind::Elu, Activation::Elu { alpha }),
        7 => (ActivationKind::LeakyRelu, Activation::LeakyRelu { alpha }),
        8 => (ActivationKind::Affine, Activation::Affine { alpha, beta }),
        9 => (ActivationKind::ScaledTanh, Activation::ScaledTanh { alpha, beta }),
        // The jump of a thresholded ReLU would make every rounding at its threshold a failure: fixtures hold it.
        _ => (ActivationKind::Sigmoid, Activation::Sigmoid),
    };
    (activation, OracleActivation::new(kind, alpha as f64, beta as f64))
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Runs the case of a seed.
fn check(device: &Device, seed: u64) {
    let mut draw = Draw::new(seed);
    let [t, b, input, hidden] = [1 + draw.below(7), 1 + draw.below(5), 1 + draw.below(6), 1 + draw.below(9)];
    let mut yes = |of: usize| draw.below(of) == 0;
    let cell = if yes(6) {
        Cell::Gru
    } else if yes(6) {
        Cell::GruResetBefore
    } else if yes(8) {
        Cell::Article
    } else {
        Cell::Standard
    };
    let lstm_cell = cell == Cell::Standard;
    let bidirectional = yes(3);
    let (reverse, go_backwards) = (!bidirectional && yes(5), !bidirectional && yes(6));
    let bias = if yes(4) {
        Bias::None
    } else if yes(2) {
        Bias::Single
    } else {
        Bias::Double
    };
    let (peepholes, coupled, clips, cell_clips, normed) = (yes(4), yes(5), yes(5), yes(6), yes(5));
    let (projects, other_activations, zones, ragged, small) = (hidden > 1 && yes(5), yes(3), yes(6), yes(2), yes(4));
    let layers = if go_backwards && !reverse { 1 } else { 1 + draw.below(3) };
    let go_backwards = go_backwards && !reverse;

    let mut lstm = Lstm::new(hidden).layers(layers).bidirectional(bidirectional).bias(bias).cell(cell);
    lstm = lstm.reverse(reverse).go_backwards(go_backwards);
    let oracle_cell = match cell {
        Cell::Standard if normed => RecurrentCell::LayerNormLstm,
        Cell::Standard => RecurrentCell::Lstm,
        Cell::GruResetBefore => RecurrentCell::GruResetBefore,
        Cell::Article => RecurrentCell::Article,
        Cell::Gru => RecurrentCell::GruResetAfter,
    };
    let mut oracle = RecurrentOracle::new(oracle_cell, input, hidden);
    oracle.layers = layers;
    oracle.directions = 1 + bidirectional as usize;
    oracle.go_backwards = reverse || go_backwards;
    oracle.visiting_order = go_backwards;
    if cell != Cell::Article {
        if clips {
            (lstm, oracle.clip) = (lstm.clip(0.8), f64::from(0.8f32));
        }
        if other_activations {
            let [mut gate, candidate, output] = [(); 3].map(|()| activation(&mut draw));
            // Gates without a bound let states grow without one, and roundings with them; fixtures hold those.
            use ActivationKind::{HardSigmoid, ScaledTanh, Sigmoid, Softsign, Tanh};
            while ![HardSigmoid, ScaledTanh, Sigmoid, Softsign, Tanh].contains(&gate.1.kind) {
                gate = activation(&mut draw);
            }
            lstm = lstm.gate_activation(gate.0).candidate_activation(candidate.0);
            (oracle.gate, oracle.candidate) = (gate.1, candidate.1);
            if lstm_cell {
                (lstm, oracle.output_activation) = (lstm.output_activation(output.0), output.1);
            }
        }
    }
    if lstm_cell {
        lstm = lstm.peepholes(peepholes).coupled(coupled);
        oracle.coupled = coupled;
        if cell_clips {
            (lstm, oracle.cell_clip) = (lstm.cell_clip(0.6), f64::from(0.6f32));
        }
        if normed {
            lstm = lstm.layer_norm(true);
        } else if projects {
            let projection = 1 + draw.below(hidden - 1);
            (lstm, oracle.projection) = (lstm.projection(projection), projection);
        }
        if zones && lstm.width() == hidden {
            (lstm, oracle.zoneout_h, oracle.zoneout_c) = (lstm.zoneout(0.25, 0.125), 0.25, 0.125);
        }
    }

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
    let largest = if other_activations { 0.4 } else { 0.9 };
    parameters.values_mut().for_each(|array| array.mapv_inplace(|_| largest * draw.next()));
    layer.set_parameters(parameters.clone()).unwrap();
    oracle.params = parameters.iter().map(|(k, v)| (k.clone(), v.iter().map(|&v| f64::from(v)).collect())).collect();

    let x = draw.array3((b, t, input));
    let mut initial = LstmState::zeros(&lstm, b);
    initial.h.mapv_inplace(|_| 0.5 * draw.next());
    initial.c.mapv_inplace(|_| 0.5 * draw.next());
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
    if ragged && go_backwards {
        // As Keras has it, what is padded comes first; the oracle puts it last.
        let width = expected.output.len() / (b * t);
        for (row, &length) in expected.output.chunks_exact_mut(t * width).zip(&lengths) {
            row.rotate_right((t - length) * width);
        }
    }
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
}

/// So many cases of random seeds, or the one that is asked for.
fn cases(device: &Device, count: u32) {
    if let Ok(seed) = std::env::var("WGPU_LSTM_CASE") {
        return check(device, seed.parse().expect("WGPU_LSTM_CASE is a seed"));
    }
    let config = Config { cases: count, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    // The same seeds every time: a failure is found by everyone or by no one.
    let mut runner =
        TestRunner::new_with_rng(config, proptest::test_runner::TestRng::deterministic_rng(Default::default()));
    runner
        .run(&any::<u32>(), |seed| {
            check(device, seed.into());
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

mod on_cpu {
    #[test]
    fn five_hundred_combinations() {
        super::cases(&wgpu_lstm::Device::cpu(), 500);
    }
}

mod on_adapter {
    /// Most of their time goes into the compilation of shaders.
    #[test]
    fn a_hundred_combinations() {
        super::cases(&super::adapter(), 100);
    }
}
