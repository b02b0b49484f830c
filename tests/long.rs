//! T = 70,000: longer than the 65,535 turns after which some drivers end a loop.

mod common;

use common::oracle::{OracleCell, OracleLstm, OracleWeights};
use common::{Draw, close};
use ndarray::Array3;
use wgpu_lstm::{Bias, Device, Lstm};

const STEPS: usize = 70_000;

fn forward_and_backward(device: &Device) {
    let (b, i, h) = (2, 1, 3);
    let mut draw = Draw::new(1);
    let layer = Lstm::new(h).bias(Bias::Single).build(device, i, 6).unwrap();
    let x = draw.array3((b, STEPS, i));
    let out = layer.forward(x.view(), None).unwrap();

    let parameters = layer.parameters().unwrap();
    let wide = |name: &str| parameters[name].iter().map(|&value| value as f64).collect::<Vec<_>>();
    let weights = OracleWeights {
        w_ih: wide("weight_ih_l0"),
        w_hh: wide("weight_hh_l0"),
        b_ih: wide("bias_ih_l0"),
        b_hh: vec![0.0; 4 * h],
    };
    let oracle = OracleLstm {
        cell: OracleCell::Standard,
        input: i,
        hidden: h,
        layers: 1,
        directions: 1,
        weights: vec![weights],
    };
    let flat: Vec<f64> = x.iter().map(|&value| value as f64).collect();
    let zeros = vec![0.0; b * h];
    let expected = oracle.forward(&flat, b, STEPS, &zeros, &zeros);
    let narrow: Vec<f32> = expected.output.iter().map(|&value| value as f32).collect();
    // The forget gate makes errors fade, so a long sequence is no worse than a short one.
    close("output", &out.output, &narrow, 1e-5, 1e-5);

    // Only the last step has a gradient: that of the input fades with the distance; that of the bias and of the weights
    // equals what the last 200 steps give.
    let mut d_output = Array3::zeros((b, STEPS, h));
    d_output.slice_mut(ndarray::s![.., STEPS - 1, ..]).fill(1.0);
    let gradients = layer.gradients(x.view(), None, d_output.view(), None).unwrap();
    assert!(gradients.x.iter().all(|value| value.is_finite()));
    let tail = ndarray::s![.., STEPS - 200.., ..];
    let state = {
        let before = layer.forward(x.slice(ndarray::s![.., ..STEPS - 200, ..]), None).unwrap();
        before.state
    };
    let short = layer.gradients(x.slice(tail), Some(&state), d_output.slice(tail), None).unwrap();
    for (name, gradient) in &gradients.parameters {
        close(name, gradient, &short.parameters[name], 1e-5, 1e-4);
    }
    close("dx", gradients.x.slice(tail).iter(), &short.x, 1e-6, 1e-4);

    // With a gradient at every step the bias's gradient is a sum over all of them: one of half the steps is missed.
    let ones = Array3::from_elem((b, STEPS, h), 1.0 / STEPS as f32);
    let all = layer.gradients(x.view(), None, ones.view(), None).unwrap();
    let half = layer
        .gradients(x.slice(ndarray::s![.., ..STEPS / 2, ..]), None, ones.slice(ndarray::s![.., ..STEPS / 2, ..]), None)
        .unwrap();
    for (&whole, &part) in all.parameters["bias_ih_l0"].iter().zip(&half.parameters["bias_ih_l0"]) {
        // x is noise without a trend: each half gives half, within a few parts in a hundred
        assert!((whole - 2.0 * part).abs() < 0.05 * whole.abs() + 1e-4, "{whole} {part}");
    }
}

on_both!(forward_and_backward);
