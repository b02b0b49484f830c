//! Layers of the crate for the files `recurrent_*`.
#![allow(dead_code)]

use super::Fixture;
use wgpu_lstm::{Activation, Bias, Cell, Lstm, Merge};

fn activation(text: &str) -> Activation {
    let parts: Vec<&str> = text.split(',').collect();
    let [alpha, beta] = [1, 2].map(|k| parts[k].parse::<f32>().unwrap());
    match parts[0] {
        "Sigmoid" => Activation::Sigmoid,
        "Tanh" => Activation::Tanh,
        "Relu" => Activation::Relu,
        "HardSigmoid" => Activation::HardSigmoid { alpha, beta },
        "Softsign" => Activation::Softsign,
        "Softplus" => Activation::Softplus,
        "Elu" => Activation::Elu { alpha },
        "LeakyRelu" => Activation::LeakyRelu { alpha },
        "ThresholdedRelu" => Activation::ThresholdedRelu { alpha },
        "Affine" => Activation::Affine { alpha, beta },
        "ScaledTanh" => Activation::ScaledTanh { alpha, beta },
        other => panic!("no activation is called {other}"),
    }
}

/// The layer that a file describes.
pub fn layer(file: &Fixture) -> Lstm {
    let word = |key: &str| &file.metadata[key][..];
    let set = |key: &str| word(key) == "1";
    let cell = match word("cell") {
        "lstm" | "layer_norm_lstm" => Cell::Standard,
        "gru" => Cell::Gru,
        "gru_reset_before" => Cell::GruResetBefore,
        "rnn" => Cell::Rnn,
        other => panic!("no cell is called {other}"),
    };
    let merge = match word("merge") {
        "sum" => Merge::Sum,
        "mul" => Merge::Mul,
        "ave" => Merge::Ave,
        _ => Merge::Concat,
    };
    let bias = match word("bias") {
        "none" => Bias::None,
        "single" => Bias::Single,
        _ => Bias::Double,
    };
    let mut lstm = Lstm::new(file.size("hidden")).layers(file.size("layers")).cell(cell).bias(bias);
    lstm =
        lstm.bidirectional(word("directions") == "2").merge(merge).peepholes(set("peepholes")).coupled(set("coupled"));
    lstm = lstm.gate_activation(activation(word("gate"))).candidate_activation(activation(word("candidate")));
    if cell == Cell::Standard {
        lstm = lstm.output_activation(activation(word("output_activation")));
        lstm = lstm.layer_norm(word("cell") == "layer_norm_lstm");
    }
    for (key, option) in [("clip", Lstm::clip as fn(Lstm, f32) -> Lstm), ("cell_clip", Lstm::cell_clip)] {
        if file.number(key) > 0.0 {
            lstm = option(lstm, file.number(key) as f32);
        }
    }
    if file.size("projection") > 0 {
        lstm = lstm.projection(file.size("projection"));
    }
    if set("go_backwards") {
        lstm = if word("output_order") == "visiting" { lstm.go_backwards(true) } else { lstm.reverse(true) };
    }
    let share = |key: &str| file.metadata.get(key).map_or(0.0, |value| value.parse().unwrap());
    lstm.zoneout(share("zoneout_h"), share("zoneout_c"))
}
