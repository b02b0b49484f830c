//! Cells that carry several states, heads of recurrent weights, and what a cell refuses. Random combinations of these with all other
//! options are in `tests/combinations.rs`, gradients of whole plans in f64 in `tests/layers.rs` and `tests/segments.rs`.

mod common;

use common::recurrent_oracle::*;
use common::{Draw, close};
use ndarray::{Array3, ArrayD, IxDyn, s};
use std::collections::BTreeMap;
use wgpu_lstm::{
    Activation, Bias, Cell, Dense, Device, Error, Gru, IndRnn, Init, Lstm, LstmState, MinLstm, Rnn, SLstm, Sequential,
};

/// f32 against f64 over a dozen steps of states below 2.
const TOLERANCE: f32 = 1e-5;

fn wide<'a>(values: impl IntoIterator<Item = &'a f32>) -> Vec<f64> {
    values.into_iter().map(|&value| f64::from(value)).collect()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

/// From zero states the first step divides by nothing, however far the gates are from 0: n is 1 and h is o ⊙ z.
fn s_lstm_begins_from_zero(device: &Device) {
    let (h, t) = (5, 12);
    for (input_gate, forget_gate) in [(0.0f32, 0.0f32), (-300.0, 50.0), (300.0, 50.0), (-300.0, -300.0), (80.0, -80.0)]
    {
        let layer = SLstm::new(h).build(device, 2, 4).unwrap();
        let mut parameters = layer.parameters().unwrap();
        let bias = parameters.get_mut("bias_ih_l0").unwrap();
        bias.slice_mut(s![..h]).mapv_inplace(|b| b + input_gate);
        bias.slice_mut(s![h..2 * h]).mapv_inplace(|b| b + forget_gate);
        layer.set_parameters(parameters.clone()).unwrap();
        let x = Draw::new(1).array3((2, t, 2));
        let out = layer.forward(x.view(), None).unwrap();

        let mut oracle = RecurrentOracle::new(RecurrentCell::SLstm, 2, h);
        oracle.params = parameters.iter().map(|(name, values)| (name.clone(), wide(values))).collect();
        let run = OracleRun { x: wide(&x), b: 2, t, ..OracleRun::default() };
        let expected = oracle.forward(&run);
        let what = format!("{device}: gates {input_gate} {forget_gate}");
        // f32 rounds a sum of 300 to 3e-5, and its exponential with it.
        let tolerance = TOLERANCE + 2e-7 * input_gate.abs().max(-forget_gate);
        close(&format!("{what} output"), &out.output, &narrow(&expected.output), tolerance, tolerance);
        close(&format!("{what} c, n, m"), &out.state.c, &narrow(&expected.c_n), tolerance, tolerance);
        let first = layer.forward(x.slice(s![.., ..1, ..]), None).unwrap();
        assert!(first.state.c.slice(s![1..2, .., ..]).iter().all(|&n| n == 1.0), "{what}: n {}", first.state.c);
        let dy = Array3::ones(out.output.dim());
        let gradients = layer.gradients(x.view(), None, dy.view(), None).unwrap();
        let all = gradients.parameters.values().flatten().chain(&gradients.x).chain(&gradients.initial.c);
        assert!(all.clone().all(|gradient| gradient.is_finite()), "{what}");
    }
}

/// Heads are a matrix with zeros between them, also where they are one unit each.
fn heads_are_blocks_of_a_matrix(device: &Device) {
    let h = 6;
    type OfHeads = fn(usize) -> Lstm;
    let layers: [(&str, usize, OfHeads); 4] = [
        ("lstm", 4, |heads| Lstm::new(6).heads(heads)),
        ("gru", 3, |heads| Gru::new(6).heads(heads).into()),
        ("rnn", 1, |heads| Rnn::new(6).heads(heads).into()),
        ("s_lstm", 4, |heads| SLstm::new(6).heads(heads).into()),
    ];
    for (name, gates, of) in layers {
        for heads in [2, 3, 6] {
            let (blocks, whole) = (of(heads).build(device, 3, 5).unwrap(), of(1).build(device, 3, 6).unwrap());
            let units = h / heads;
            let mut parameters = blocks.parameters().unwrap();
            let r = &parameters["weight_hh_l0"];
            let shape: &[usize] = if gates * units == 1 { &[heads] } else { &[heads, gates * units, units] };
            assert_eq!(r.shape(), shape, "{name}");
            let r = r.to_shape((heads, gates, units, units)).unwrap().to_owned();
            let matrix = ArrayD::from_shape_fn(IxDyn(&[gates * h, h]), |at| {
                let (gate, to, from) = (at[0] / h, at[0] % h, at[1]);
                let same = to / units == from / units;
                if same { r[[to / units, gate, to % units, from % units]] } else { 0.0 }
            });
            parameters.insert("weight_hh_l0".into(), matrix);
            whole.set_parameters(parameters).unwrap();
            let x = Draw::new(2).array3((3, 7, 3));
            let (given, expected) = (blocks.forward(x.view(), None).unwrap(), whole.forward(x.view(), None).unwrap());
            close(&format!("{name} {heads} heads"), &given.output, &expected.output, 1e-6, 1e-6);
            let dy = Draw::new(3).array3(given.output.dim());
            let given = blocks.gradients(x.view(), None, dy.view(), None).unwrap();
            let expected = whole.gradients(x.view(), None, dy.view(), None).unwrap();
            close(&format!("{name} {heads} heads dx"), &given.x, &expected.x, 1e-5, 1e-5);
            close(&format!("{name} {heads} heads dh_0"), &given.initial.h, &expected.initial.h, 1e-5, 1e-5);
        }
    }
}

/// Streams carry c, n and m; the state of one stream is taken out and put back.
fn s_lstm_streams(device: &Device) {
    let layer = SLstm::new(4).heads(2).layers(2).build(device, 3, 0).unwrap();
    let x = Draw::new(7).array3((2, 9, 3));
    let whole = layer.forward(x.view(), None).unwrap();
    let mut stream = layer.stream(2).unwrap();
    stream.feed(x.slice(s![.., ..4, ..])).unwrap();
    let state = stream.state(1).unwrap();
    assert_eq!(state.c[0].len(), 12);
    let rest = stream.feed(x.slice(s![.., 4.., ..])).unwrap();
    let expected = whole.output.slice(s![.., 4.., ..]).to_owned();
    close("in pieces", &rest, &expected, 1e-6, 1e-6);
    stream.reset(0).unwrap();
    stream.set_state(1, &state).unwrap();
    let again = stream.feed(x.slice(s![.., 4.., ..])).unwrap();
    assert_eq!(again.slice(s![1, .., ..]), rest.slice(s![1, .., ..]));
    assert_ne!(again.slice(s![0, .., ..]), rest.slice(s![0, .., ..]));
}

on_both_by_every_strategy!(s_lstm_begins_from_zero, heads_are_blocks_of_a_matrix, s_lstm_streams);

/// Long sequences of small heads: gradients of recurrent weights in one dispatch, split where loops would be too long.
#[test]
fn gradients_of_many_heads_take_few_dispatches() {
    use wgpu_lstm::network::{Batch, Node, gradients};
    let node = Node::new("rnn", 3, IndRnn::new(128).return_sequences(true));
    let plan = gradients(&node, Batch::new(2, 10), &Default::default()).unwrap().plan;
    assert_eq!(plan.dispatches_of("head_product"), 1);
}

#[test]
fn parameters_have_the_shapes_of_the_cells() {
    let shapes = |layer: Lstm| -> BTreeMap<String, Vec<usize>> {
        let parameters = layer.build(&Device::cpu(), 3, 0).unwrap().parameters().unwrap();
        parameters.into_iter().map(|(name, values)| (name, values.shape().to_vec())).collect()
    };
    let of = |all: &[(&str, &[usize])]| -> BTreeMap<String, Vec<usize>> {
        all.iter().map(|(name, shape)| (format!("{name}_l0"), shape.to_vec())).collect()
    };
    let rnn: [(&str, &[usize]); 4] =
        [("weight_ih", &[4, 3]), ("weight_hh", &[4, 4]), ("bias_ih", &[4]), ("bias_hh", &[4])];
    assert_eq!(shapes(Rnn::new(4).into()), of(&rnn));
    assert_eq!(shapes(IndRnn::new(4).into()), of(&[("weight_ih", &[4, 3]), ("weight_hh", &[4]), ("bias_ih", &[4])]));
    assert_eq!(shapes(MinLstm::new(4).into()), of(&[("weight_ih", &[12, 3]), ("bias_ih", &[12])]));
    let s_lstm: [(&str, &[usize]); 3] = [("weight_ih", &[16, 3]), ("weight_hh", &[2, 8, 2]), ("bias_ih", &[16])];
    assert_eq!(shapes(SLstm::new(4).heads(2).into()), of(&s_lstm));
    // Keras's initial values are for matrices: each head has one.
    let keras = SLstm::new(4).heads(2).init(Init::Keras).build(&Device::cpu(), 3, 0).unwrap();
    let bias = &keras.parameters().unwrap()["bias_ih_l0"];
    assert_eq!(bias.as_slice().unwrap(), [[0.0; 4], [1.0; 4], [0.0; 4], [0.0; 4]].as_flattened());
}

#[test]
fn states_have_the_shapes_of_the_cells() {
    let shapes = |layer: Lstm| {
        let state = LstmState::zeros(&layer, 5).unwrap();
        (state.h.dim(), state.c.dim())
    };
    assert_eq!(shapes(Rnn::new(4).layers(2).into()), ((2, 5, 4), (2, 5, 0)));
    assert_eq!(shapes(MinLstm::new(4).into()), ((1, 5, 4), (1, 5, 0)));
    assert_eq!(shapes(SLstm::new(4).layers(2).bidirectional(true).into()), ((4, 5, 4), (12, 5, 4)));
}

#[test]
fn options_that_a_cell_does_not_take_are_refused() {
    let refused = |layer: Lstm| match Sequential::new(3).add(layer).add(Dense::new(1)).build(&Device::cpu(), 0) {
        Ok(_) => panic!("no error"),
        Err(Error::Config(text)) => text,
        Err(other) => panic!("{other}"),
    };
    let rnn = || Lstm::from(Rnn::new(4));
    for layer in [rnn().peepholes(true), rnn().projection(2), rnn().zoneout(0.1, 0.0), rnn().cell_clip(1.0)] {
        assert!(refused(layer).contains("rnn: the rnn cell has no peepholes"));
    }
    let min = || Lstm::from(MinLstm::new(4));
    for layer in [min().heads(2), min().recurrent_dropout(0.1), min().weight_dropout(0.1), min().clip(1.0)] {
        assert!(refused(layer).contains("the min_lstm cell has no"));
    }
    assert!(refused(min().bias(Bias::Double)).contains("no second bias"));
    let s_lstm = || Lstm::from(SLstm::new(4));
    for layer in [s_lstm().zoneout(0.1, 0.1), s_lstm().layer_norm(true), s_lstm().activation(Activation::Relu)] {
        assert!(refused(layer).contains("s_lstm: the s_lstm cell has no"));
    }
    for heads in [0, 3, 8] {
        assert!(
            refused(Lstm::new(4).heads(heads)).contains(&format!("4 hidden units cannot be split into {heads} heads"))
        );
    }
    assert!(refused(Lstm::new(4).heads(2).projection(2)).contains("heads exclude"));
    assert!(refused(Lstm::new(4).heads(2).layer_norm(true)).contains("heads exclude"));
    assert!(refused(Lstm::new(4).cell(Cell::GruResetBefore).heads(2)).contains("the gru_reset_before cell has no"));
}
