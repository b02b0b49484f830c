//! Saturated gates: gradients and states against the equations in f64, where values near 0 and 1 hide what is left of them.
//!
//! Sums of gates are small whole numbers times powers of two, so that f32 has them exactly; what remains is the activations and a
//! few products. The bound is 2e-6 relative: ten roundings and a GPU's division and exponential.

mod common;

use common::Draw;
use ndarray::{Array1, Array2, Array3, ArrayD};
use std::collections::BTreeMap;
use wgpu_lstm::{Bias, Device, Gru, LstmLayer, LstmState};

const BOUND: f64 = 2e-6;

/// σ(a), and its slope from the side that is small.
fn sigmoid(a: f64) -> (f64, f64) {
    let small = (-a.abs()).exp() / (1.0 + (-a.abs()).exp());
    (if a < 0.0 { small } else { 1.0 - small }, small * (1.0 - small))
}

/// tanh(a) and its slope.
fn tanh(a: f64) -> (f64, f64) {
    (a.tanh(), 1.0 / a.cosh().powi(2))
}

/// Compares with `right`·x.
fn near(what: &str, given: f32, right: f64, x: f64) {
    // Slopes end at the least normal number, 1.2e-38.
    let (error, right) = ((f64::from(given) - right * x).abs(), right * x);
    assert!(error <= BOUND * right.abs() + 1e-36 * x, "{what}: {given:e}, expected {right:e}");
}

/// Sums of gates, from open to far beyond where their value rounds to 0 or 1.
fn sums(draw: &mut Draw) -> f64 {
    const SUMS: [f64; 9] = [0.0, 0.25, 1.0, 5.0, 12.0, 17.0, 25.0, 40.0, 60.0];
    SUMS[draw.below(SUMS.len())] * [1.0, -1.0][draw.below(2)]
}

/// Sets W [gates, 1] so that the sums are `sums` for this x; nothing else is in them.
fn set(layer: &LstmLayer, sums: &[f64], x: f64) {
    let gates = sums.len();
    let weights: Vec<f32> = sums.iter().map(|sum| (sum / x) as f32).collect();
    let parameters = BTreeMap::from([
        ("weight_ih_l0".to_string(), Array2::from_shape_vec((gates, 1), weights).unwrap().into_dyn()),
        ("weight_hh_l0".to_string(), Array2::zeros((gates, 1)).into_dyn()),
        ("bias_ih_l0".to_string(), Array1::<f32>::zeros(gates).into_dyn()) as (String, ArrayD<f32>),
    ]);
    layer.set_parameters(parameters).unwrap();
}

/// One step of one unit: gradients of an LSTM's gates, times inputs of up to 2^30.
fn gradients_of_an_lstm(device: &Device) {
    let layer = wgpu_lstm::Lstm::new(1).bias(Bias::Single).build(device, 1, 0).unwrap();
    let mut draw = Draw::new(5);
    for case in 0..60 {
        let x = 2f64.powi(draw.below(31) as i32);
        let a: [f64; 4] = std::array::from_fn(|_| sums(&mut draw));
        let (c_0, dh, dc) = (f64::from(draw.next()), f64::from(draw.next()), f64::from(draw.next()));
        set(&layer, &a, x);
        let one = |value: f64| Array3::from_elem((1, 1, 1), value as f32);
        let initial = LstmState { h: one(0.0), c: one(c_0) };
        let end = LstmState { h: one(0.0), c: one(dc) };
        let given = layer.gradients(one(x).view(), Some(&initial), one(dh).view(), Some(&end)).unwrap();
        let ((i, i_slope), (f, f_slope), (g, g_slope), (o, o_slope)) =
            (sigmoid(a[0]), sigmoid(a[1]), tanh(a[2]), sigmoid(a[3]));
        let (tc, tc_slope) = tanh(f * c_0 + i * g);
        let d_c = dc + dh * o * tc_slope;
        // d_c is a sum of two: where they cancel, what is left is only as exact as they are.
        let exact = d_c.abs() > 0.1 * (dc.abs() + (dh * o * tc_slope).abs());
        let right = [d_c * g * i_slope, d_c * c_0 * f_slope, d_c * i * g_slope, dh * tc * o_slope];
        // tanh(c) is as exact as c, which may cancel, too.
        let c_exact = (f * c_0 + i * g).abs() > 0.1 * ((f * c_0).abs() + (i * g).abs());
        for (gate, right) in right.into_iter().enumerate() {
            if if gate == 3 { c_exact } else { exact && c_exact } {
                let what = format!("case {case}, gate {gate}, sums {a:?}");
                near(&format!("{what}, bias"), given.parameters["bias_ih_l0"][gate], right, 1.0);
                near(&format!("{what}, weight at x = {x}"), given.parameters["weight_ih_l0"][[gate, 0]], right, x);
            }
        }
    }
}

/// The same of a GRU, whose update (1 − z) ⊙ n takes what is left of z beside 1.
fn steps_and_gradients_of_a_gru(device: &Device) {
    let layer = Gru::new(1).bias(Bias::Single).build(device, 1, 0).unwrap();
    let mut draw = Draw::new(6);
    for case in 0..60 {
        let x = 2f64.powi(draw.below(31) as i32);
        let a: [f64; 3] = std::array::from_fn(|_| sums(&mut draw));
        let dh = f64::from(draw.next());
        set(&layer, &a, x);
        let one = |value: f64| Array3::from_elem((1, 1, 1), value as f32);
        let h = layer.forward(one(x).view(), None).unwrap().output[[0, 0, 0]];
        let given = layer.gradients(one(x).view(), None, one(dh).view(), None).unwrap();
        let ((_, z_slope), (n, n_slope), (rest, _)) = (sigmoid(a[1]), tanh(a[2]), sigmoid(-a[1]));
        let what = format!("case {case}, sums {a:?}");
        near(&format!("{what}, h"), h, rest * n, 1.0);
        let right = [0.0, -dh * n * z_slope, dh * rest * n_slope];
        for (gate, right) in right.into_iter().enumerate() {
            near(&format!("{what}, gate {gate}, bias"), given.parameters["bias_ih_l0"][gate], right, 1.0);
            near(&format!("{what}, gate {gate}, weight"), given.parameters["weight_ih_l0"][[gate, 0]], right, x);
        }
    }
}

/// A closed input gate lets nothing in, however long: c = T·σ(a)·tanh(1) beside an open forget gate.
fn a_closed_gate_stays_closed(device: &Device) {
    const STEPS: usize = 10_000;
    let layer = wgpu_lstm::Lstm::new(1).bias(Bias::Single).build(device, 1, 0).unwrap();
    for closed in [-20.0, -40.0, -60.0] {
        set(&layer, &[closed, 60.0, 1.0, 0.0], 1.0);
        let out = layer.forward(Array3::ones((1, STEPS, 1)).view(), None).unwrap();
        let right = STEPS as f64 * sigmoid(closed).0 * 1f64.tanh();
        // A sum of equal terms in f32 drifts by half an ulp a step at worst; here 1e-4 of it.
        let given = f64::from(out.state.c[[0, 0, 0]]);
        assert!((given - right).abs() <= 3e-4 * right, "{closed}: {given:e}, expected {right:e}");
    }
}

on_both!(gradients_of_an_lstm, steps_and_gradients_of_a_gru, a_closed_gate_stays_closed);
