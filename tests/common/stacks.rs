//! Stacks of layers whose gradients `tests/layers.rs` holds against central differences.
#![allow(dead_code)]

use wgpu_lstm::{
    Activation, AttentionPool, Cell, Dense, Dropout, Embedding, Gru, IndRnn, Layer, LayerNorm, Lstm, Merge, MinLstm,
    Pool, Repeat, Rnn, SLstm,
};

/// Features of their input, but for an embedding's.
pub const INPUT: usize = 3;

pub fn stacks() -> Vec<Vec<Layer>> {
    let lstm = || Lstm::new(4).return_sequences(true);
    vec![
        vec![lstm().into(), Pool::Mean.into(), Dense::new(2).activation(Activation::Softplus).into()],
        vec![lstm().bidirectional(true).merge(Merge::Mul).into(), Pool::Max.into(), Dense::new(2).into()],
        vec![lstm().bidirectional(true).merge(Merge::Ave).into(), Pool::Last.into(), Dense::new(2).into()],
        vec![Dense::new(5).activation(Activation::Elu { alpha: 0.8 }).into(), lstm().into(), Dense::new(2).into()],
        vec![lstm().into(), Dense::new(3).activation(Activation::Softmax).into(), Dense::new(2).into()],
        vec![Lstm::new(4).into(), Dense::new(3).bias(false).activation(Activation::LogSoftmax).into()],
        vec![lstm().into(), Dropout::new(0.4).into(), Gru::new(3).bidirectional(true).into(), Dense::new(2).into()],
        vec![Lstm::new(4).bidirectional(true).merge(Merge::Sum).into(), Dropout::new(0.5).into(), Dense::new(2).into()],
        vec![lstm().layers(2).dropout(0.3).input_dropout(0.2).recurrent_dropout(0.4).into(), Dense::new(2).into()],
        vec![lstm().weight_dropout(0.4).zoneout(0.3, 0.2).into(), Dense::new(2).into()],
        vec![Lstm::new(6).projection(3).layers(2).return_sequences(true).into(), Dense::new(2).into()],
        vec![lstm().into(), LayerNorm::new().epsilon(1e-2).into(), Lstm::new(3).into(), LayerNorm::new().into()],
        vec![Embedding::new(4, 3).into(), lstm().into(), Pool::Mean.into(), Dense::new(2).into()],
        vec![lstm().repeat_output(true).into(), Pool::MaxWithPadding.into(), Dense::new(2).into()],
        vec![
            lstm().into(),
            Activation::Tanh.into(),
            Pool::Sum.into(),
            Activation::Sigmoid.into(),
            Dense::new(2).into(),
        ],
        vec![lstm().bidirectional(true).into(), Activation::Softmax.into(), Dense::new(2).into()],
        vec![Lstm::new(4).into(), Activation::LogSoftmax.into()],
        vec![Lstm::new(5).peepholes(true).zoneout(0.2, 0.2).into(), Dense::new(2).into()],
        vec![Rnn::new(4).layers(2).bidirectional(true).recurrent_dropout(0.3).into(), Dense::new(2).into()],
        vec![IndRnn::new(4).layers(2).weight_dropout(0.2).return_sequences(true).into(), Dense::new(2).into()],
        vec![MinLstm::new(4).layers(2).dropout(0.3).return_sequences(true).into(), Dense::new(2).into()],
        vec![SLstm::new(4).heads(2).layers(2).bidirectional(true).return_sequences(true).into(), Dense::new(2).into()],
        vec![SLstm::new(4).recurrent_dropout(0.3).into(), Dense::new(2).into()],
        vec![Lstm::new(4).heads(2).zoneout(0.2, 0.1).recurrent_dropout(0.3).return_sequences(true).into()],
        vec![Gru::new(4).heads(2).bidirectional(true).weight_dropout(0.2).into(), Dense::new(2).into()],
        vec![lstm().into(), AttentionPool::new().into(), Dense::new(2).into()],
        vec![lstm().into(), AttentionPool::new().tanh(true).into(), Repeat::new(3).into(), lstm().into()],
    ]
}

/// True for a column of gates that the layer's cell does not have, in one of its tensors: it is 0 and has no gradient.
pub fn unused(layer: &Layer, tensor: &str, at: usize) -> bool {
    let Layer::Lstm(lstm) = layer else { return false };
    let cell = match layer.kind() {
        "gru" => Cell::Gru,
        "rnn" => Cell::Rnn,
        "min_lstm" => Cell::MinLstm,
        _ => return false,
    };
    let second_bias = tensor.ends_with(".bias") && !(at / (4 * lstm.hidden())).is_multiple_of(2);
    let spec = cell.spec();
    let columns = if tensor.ends_with(".r") || second_bias { spec.recurrent_gates } else { spec.input_gates };
    !columns.contains(&(at % 4))
}
