//! From this crate's layers to Keras's.

use super::Result;
use super::weights::{Form, Source, snake};
use crate::activation::Activation;
use crate::cell::Cell;
use crate::layer::{Dropout, Embedding, Layer, Lstm, Masking, Merge, Options, Pool};
use crate::network::Node;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// A Keras layer.
#[derive(Debug)]
pub(super) struct KerasLayer {
    pub class: &'static str,
    /// Its name and options; or why Keras has no such layer, though its weights may fit.
    pub options: Result<Map<String, Value>>,
    pub sources: Vec<Source>,
    /// True if its input is sequences.
    pub whole: bool,
}

/// Keras's layers for a model's, from the bottom up.
pub(super) fn outline(plans: &[Node]) -> Vec<KerasLayer> {
    let mut keras_layers: Vec<KerasLayer> = Vec::new();
    let mut whole = true;
    let masked = match plans.first().map(|plan| &plan.layer) {
        Some(Layer::Masking(_)) => true,
        Some(Layer::Embedding(embedding)) => embedding.mask_zero,
        _ => false,
    };
    for (at, Node { name, layer, .. }) in plans.iter().enumerate() {
        let mut add = |class: &'static str, options: Result<Value>, sources: Vec<Source>| {
            let options = options.map(|options| match options {
                Value::Object(options) => options,
                _ => Map::new(),
            });
            keras_layers.push(KerasLayer {
                class,
                options: options.map_err(|why| format!("{name} {why}")),
                sources,
                whole,
            });
        };
        let alone = |form| vec![Source::new(at, 0, "", "", form)];
        match layer {
            Layer::Lstm(lstm) => recurrent(at, lstm, plans.get(at + 1), masked && whole, &mut add),
            Layer::Dense(dense) => {
                let options = keras_name(dense.activation)
                    .map(|activation| json!({"units": dense.units, "activation": activation, "use_bias": dense.bias}));
                add("Dense", options, alone(Form::Dense));
            }
            Layer::Dropout(Dropout { probability }) => add("Dropout", Ok(json!({"rate": probability})), vec![]),
            Layer::Activation(activation) => {
                add("Activation", keras_name(*activation).map(|name| json!({"activation": name})), vec![]);
            }
            Layer::LayerNorm(norm) => {
                let options = json!({"axis": -1, "epsilon": f64::from(norm.epsilon), "center": true, "scale": true});
                add("LayerNormalization", Ok(options), alone(Form::Norm { scale: true, center: true }));
            }
            Layer::Embedding(Embedding { entries, features, mask_zero, init: _ }) => {
                let options = json!({"input_dim": entries, "output_dim": features, "mask_zero": mask_zero});
                add("Embedding", Ok(options), alone(Form::Embedding));
            }
            Layer::Add(_)
            | Layer::Average(_)
            | Layer::Multiply(_)
            | Layer::Maximum(_)
            | Layer::Concat(_)
            | Layer::Attention(_) => {
                add("Add", Err("takes several inputs, which a Sequential of Keras cannot give".into()), vec![])
            }
            Layer::Repeat(_) => {
                add("RepeatVector", Err("repeats a vector over time, which is not written to Keras".into()), vec![]);
            }
            Layer::AttentionPool(_) => {
                add("Lambda", Err("pools by attention, for which Keras has no layer".into()), vec![]);
            }
            Layer::Conv1d(_) => {
                add("Conv1D", Err("is a convolution, which is not written to Keras's files".into()), vec![])
            }
            Layer::WindowPool(_) => {
                add("MaxPooling1D", Err("pools windows of time, which is not written to Keras's files".into()), vec![]);
            }
            Layer::ZeroPad(_) => {
                add("ZeroPadding1D", Err("adds steps of zeros, which is not written to Keras's files".into()), vec![]);
            }
            Layer::BatchNorm(_) => {
                let why = "normalises batches, which is not written to Keras's files";
                add("BatchNormalization", Err(why.into()), vec![]);
            }
            Layer::Pool(Pool::Mean) => add("GlobalAveragePooling1D", Ok(json!({})), vec![]),
            Layer::Masking(Masking { value }) => add("Masking", Ok(json!({"mask_value": value})), vec![]),
            Layer::Pool(Pool::Max) if masked => {
                add(
                    "GlobalMaxPooling1D",
                    Err("sees no masked step, which Keras's GlobalMaxPooling1D does; that is Pool::MaxWithPadding"
                        .into()),
                    vec![],
                );
            }
            Layer::Pool(Pool::Max | Pool::MaxWithPadding) => add("GlobalMaxPooling1D", Ok(json!({})), vec![]),
            Layer::Pool(Pool::Sum) => {
                add("Lambda", Err("sums over time, for which Keras has no layer".into()), vec![]);
            }
            // The layer below returns its last step alone.
            Layer::Pool(Pool::Last) if at > 0 && gives_last(&plans[at - 1].layer) => {}
            Layer::Pool(Pool::Last) => {
                let why = "takes the last step, which Keras has as an option of an LSTM, GRU or SimpleRNN that runs forward right \
                           below it";
                add("Lambda", Err(why.into()), vec![]);
            }
        }
        whole &= !layer.operator().ends_sequence();
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for keras_layer in &mut keras_layers {
        let count = counts.entry(keras_layer.class).or_default();
        let name = numbered(keras_layer.class, *count);
        *count += 1;
        if let Ok(options) = &mut keras_layer.options {
            options.insert("name".into(), name.into());
        }
    }
    keras_layers
}

/// The k-th layer of a class, as Keras names groups.
pub(super) fn numbered(class: &str, k: usize) -> String {
    if k == 0 { snake(class) } else { format!("{}_{k}", snake(class)) }
}

/// True if the last step of a layer's output is the step that it computes last.
fn gives_last(layer: &Layer) -> bool {
    matches!(layer, Layer::Lstm(lstm) if !lstm.bidirectional && !lstm.options.reverse)
}

fn recurrent(
    at: usize,
    lstm: &Lstm,
    above: Option<&Node>,
    masked: bool,
    add: &mut impl FnMut(&'static str, Result<Value>, Vec<Source>),
) {
    let (class, form) = match lstm.cell {
        Cell::Gru => ("GRU", Form::Gru),
        Cell::GruResetBefore => ("GRU", Form::GruResetBefore),
        Cell::Rnn => ("SimpleRNN", Form::Rnn),
        // Those that Keras does not have are refused with their options.
        _ => ("LSTM", Form::Lstm),
    };
    let last =
        matches!(above, Some(Node { layer: Layer::Pool(Pool::Last), .. })) && gives_last(&Layer::Lstm(lstm.clone()));
    for level in 0..lstm.layers {
        let top = level + 1 == lstm.layers;
        let whole = !top || lstm.return_sequences && !last;
        let backwards = lstm.options.reverse || lstm.options.go_backwards;
        let options = options(lstm).and_then(|mut options| {
            if masked && backwards && (whole || level > 0) {
                return Err("goes backwards through masked sequences, whose mask Keras does not reverse".into());
            }
            // Without a mask it means nothing; the last step alone would be 0 where it is masked.
            options["zero_output_for_mask"] = (masked && whole && !lstm.options.repeat_output).into();
            if masked && whole && top && lstm.bidirectional && lstm.options.repeat_output {
                return Err("repeats the outputs of two directions in padded steps, where Keras gives 0".into());
            }
            // Who sees time backwards gives it backwards, so that those above need not turn it round.
            options["go_backwards"] = (backwards && level == 0).into();
            options["return_sequences"] = whole.into();
            Ok(options)
        });
        if lstm.bidirectional {
            let merge = match lstm.options.merge {
                Merge::Sum if top => "sum",
                Merge::Mul if top => "mul",
                Merge::Ave if top => "ave",
                _ => "concat",
            };
            let options = options.map(|mut options| {
                options["name"] = snake(class).into();
                json!({"merge_mode": merge, "layer": serialized(class, options)})
            });
            let source = |direction, path: &str| Source::new(at, level, direction, path, form);
            let sources = vec![source("", "forward_layer/cell"), source("_reverse", "backward_layer/cell")];
            add("Bidirectional", options, sources);
        } else {
            add(class, options, vec![Source::new(at, level, "", "cell", form)]);
        }
        if !top && lstm.options.dropout > 0.0 {
            add("Dropout", Ok(json!({"rate": lstm.options.dropout})), vec![]);
        }
    }
}

/// The options that all levels of a recurrent layer share.
fn options(lstm: &Lstm) -> Result<Value> {
    let no = |what: &str| Err(format!("has {what}, which Keras does not have"));
    let Options {
        heads,
        projection,
        layer_norm,
        peepholes,
        coupled,
        clip,
        cell_clip,
        gate_activation,
        activation,
        output_activation,
        forget_bias,
        repeat_output: _,
        merge: _,
        reverse,
        go_backwards: _,
        dropout: _,
        input_dropout,
        recurrent_dropout,
        weight_dropout,
        zoneout_h,
        zoneout_c,
    } = &lstm.options;
    match lstm {
        _ if lstm.cell == Cell::Article => no("the article's cell"),
        _ if !matches!(lstm.cell, Cell::Standard | Cell::Rnn) && !lstm.is_gru() => {
            no("another cell than an LSTM's, a GRU's or a SimpleRNN's")
        }
        _ if *heads > 1 => no("heads of recurrent weights"),
        _ if projection.is_some() => no("a projection"),
        _ if *layer_norm => no("layer normalisation inside"),
        _ if *peepholes => no("peepholes"),
        _ if *coupled => no("coupled gates"),
        _ if clip.is_some() => no("a clip of its gates"),
        _ if cell_clip.is_some() => no("a clip of its cell state"),
        _ if lstm.cell == Cell::Standard && activation != output_activation => {
            no("two activations, of the candidate and of the cell state")
        }
        _ if *weight_dropout > 0.0 => no("dropout of recurrent weights"),
        _ if *zoneout_h > 0.0 || *zoneout_c > 0.0 => no("zoneout"),
        _ if *reverse && lstm.return_sequences => no("reverse with outputs in the order of time"),
        _ => {
            let mut options = json!({
                "units": lstm.hidden,
                "activation": keras_name(*activation)?,
                "use_bias": lstm.bias.count() > 0,
                "dropout": input_dropout,
                "recurrent_dropout": recurrent_dropout,
            });
            if lstm.cell != Cell::Rnn {
                options["recurrent_activation"] = keras_name(*gate_activation)?.into();
            }
            if lstm.is_gru() {
                options["reset_after"] = (lstm.cell == Cell::Gru).into();
            } else if lstm.cell == Cell::Standard {
                options["unit_forget_bias"] = (*forget_bias).into();
            }
            Ok(options)
        }
    }
}

/// A layer as Keras 3 writes it.
pub(super) fn serialized(class: &str, options: Value) -> Value {
    json!({"module": "keras.layers", "class_name": class, "config": options, "registered_name": null})
}

/// Keras 3's name of an activation.
fn keras_name(activation: Activation) -> Result<&'static str> {
    Ok(match activation {
        Activation::Linear => "linear",
        Activation::Relu => "relu",
        Activation::Sigmoid => "sigmoid",
        Activation::Tanh => "tanh",
        Activation::KERAS_HARD_SIGMOID => "hard_sigmoid",
        Activation::Softsign => "softsign",
        Activation::Softplus => "softplus",
        Activation::Softmax => "softmax",
        Activation::LogSoftmax => "log_softmax",
        Activation::Elu { alpha: 1.0 } => "elu",
        Activation::LeakyRelu { alpha: 0.2 } => "leaky_relu",
        other => return Err(format!("has the activation {other}, for which Keras 3 has no name")),
    })
}
