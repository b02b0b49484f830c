//! Recurrent layers by the names and shapes of their tensors.

use crate::activation::Activation;
use crate::cell::Cell;
#[cfg(not(target_arch = "wasm32"))]
use crate::layer::HostTensor;
#[cfg(not(target_arch = "wasm32"))]
use crate::layer::Options;
use crate::layer::{Bias, Lstm};
use crate::network::Node;
use std::collections::{BTreeMap, HashSet};

/// A recurrent layer that was found by the names and shapes of its tensors: an
/// [`nn.LSTM`](https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html), an
/// [`nn.GRU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html), an
/// [`nn.RNN`](https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html), or one of their cells. Its `Display` says what it is.
///
/// Dropout between layers is no part of a state dict; here it is 0, which is what inference has. Nor is the `nonlinearity` of an
/// nn.RNN: it is tanh, unless the file is a module saved whole, which says it, or the caller does ([`Weights::recurrent`]).
///
/// [`Weights::recurrent`]: super::Weights::recurrent
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrent {
    pub(super) prefix: String,
    pub(super) config: Lstm,
    pub(super) input: usize,
    /// True for a single cell, whose names have no `_l{k}`.
    pub(super) cell: bool,
}

impl Recurrent {
    /// The prefix of its tensors' names, without the last dot; "" if they have none.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Sizes, layers, directions, projection and biases; of [`Cell::Gru`] for a GRU, of [`Cell::Rnn`] for an RNN.
    pub fn config(&self) -> &Lstm {
        &self.config
    }

    /// Features of a step, I.
    pub fn input(&self) -> usize {
        self.input
    }

    /// Its tensors: their names in a layer called "lstm" here, their names in the file after the prefix, their shapes.
    pub(super) fn tensors(&self) -> Vec<(String, String, Vec<usize>)> {
        let layer = Node::new("lstm", self.input, self.config.clone());
        let named = |(name, shape): (String, Vec<usize>)| {
            let kind = name.strip_prefix("lstm.").unwrap_or(&name);
            let kind = if self.cell { kind.trim_end_matches("_l0") } else { kind }.to_string();
            (name, kind, shape)
        };
        layer.shapes().into_iter().map(named).collect()
    }
}

impl std::fmt::Display for Recurrent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Lstm { cell, hidden, layers, bias, options, .. } = &self.config;
        f.write_str(class(*cell))?;
        f.write_str(if self.cell { "Cell" } else { "" })?;
        if *cell == Cell::Rnn {
            f.write_str(if options.activation == Activation::Relu { " (ReLU)" } else { " (tanh)" })?;
        }
        write!(f, ", I = {}, H = {hidden}, L = {layers}, D = {}", self.input, self.config.directions())?;
        if let Some(projection) = options.projection {
            write!(f, ", P = {projection}")?;
        }
        f.write_str(if *bias == Bias::None { ", no bias" } else { "" })
    }
}

/// PyTorch's class of a cell, without its module.
pub(super) fn class(cell: Cell) -> &'static str {
    match cell {
        Cell::Gru => "GRU",
        Cell::Rnn => "RNN",
        _ => "LSTM",
    }
}

/// A name under a prefix, which may be empty.
pub(super) fn under(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.into() } else { format!("{prefix}.{name}") }
}

/// Prefix and last part of a name.
pub(super) fn parted(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

/// True if the last part of a name is that of a recurrent layer's tensor.
pub(super) fn is_recurrent(kind: &str) -> bool {
    ["weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh"].iter().any(|own| {
        kind.strip_prefix(own).is_some_and(|rest| {
            let layer = rest.strip_suffix("_reverse").unwrap_or(rest).strip_prefix("_l");
            rest.is_empty() || layer.is_some_and(|k| !k.is_empty() && k.bytes().all(|digit| digit.is_ascii_digit()))
        })
    })
}

/// Shapes by the last parts of names.
pub(super) type Shapes<'a> = BTreeMap<&'a str, &'a [usize]>;

/// Recurrent layers' tensors, by what their names begin with.
pub(super) fn groups<'a>(tensors: impl Iterator<Item = (&'a str, &'a [usize])>) -> BTreeMap<&'a str, Shapes<'a>> {
    let mut groups: BTreeMap<&str, Shapes> = BTreeMap::new();
    for (name, shape) in tensors {
        let (prefix, kind) = parted(name);
        if is_recurrent(kind) {
            groups.entry(prefix).or_default().insert(kind, shape);
        }
    }
    groups
}

/// The recurrent layer that a group of tensors is.
///
/// # Errors
/// The tensor that does not fit, and what was expected.
pub(super) fn find(prefix: &str, own: &Shapes) -> Result<Recurrent, String> {
    let cell = own.contains_key("weight_hh") || own.contains_key("weight_ih");
    let kind = |kind: &str| if cell { kind.to_string() } else { format!("{kind}_l0") };
    let matrix = |name: &str| -> Result<(usize, usize), String> {
        let name = kind(name);
        match own.get(name.as_str()) {
            Some(&&[rows, columns]) if rows > 0 && columns > 0 => Ok((rows, columns)),
            Some(shape) => {
                Err(format!("has tensor {} of shape {shape:?}; a matrix was expected", under(prefix, &name)))
            }
            None => Err(format!("lacks tensor {}", under(prefix, &name))),
        }
    };
    let (_, input) = matrix("weight_ih")?;
    let (rows, width) = matrix("weight_hh")?;
    let projected = own.contains_key(kind("weight_hr").as_str());
    let (config, hidden) = if projected {
        let (projection, hidden) = matrix("weight_hr")?;
        (Lstm::new(hidden).projection(projection), hidden)
    } else {
        let cell = match (rows / width, rows % width) {
            (1, 0) => Cell::Rnn,
            (3, 0) => Cell::Gru,
            _ => Cell::Standard,
        };
        (Lstm::new(width).cell(cell), width)
    };
    if hidden.checked_mul(config.cell.spec().recurrent_gates.len()) != Some(rows) {
        let name = under(prefix, &kind("weight_hh"));
        return Err(format!(
            "has tensor {name} of shape {:?}; 4H rows of an LSTM, 3H of a GRU or H of an RNN were expected, H = {hidden}",
            [rows, width]
        ));
    }
    let layers = (0..own.len()).take_while(|k| cell || own.contains_key(format!("weight_hh_l{k}").as_str())).count();
    let config = config
        .layers(if cell { 1 } else { layers })
        .bidirectional(own.keys().any(|name| name.ends_with("_reverse")))
        .bias(if own.keys().any(|name| name.starts_with("bias")) { Bias::Double } else { Bias::None });
    let found = Recurrent { prefix: prefix.into(), config, input, cell };
    // What was found must be all there is, in the shapes that follow from it.
    let expected = found.tensors();
    for (_, kind, shape) in &expected {
        let name = under(prefix, kind);
        match own.get(kind.as_str()) {
            Some(own) if own == shape => {}
            Some(own) => {
                return Err(format!("has tensor {name} of shape {own:?}, {shape:?} was expected of this {found}"));
            }
            None => return Err(format!("lacks tensor {name} of shape {shape:?} of this {found}")),
        }
    }
    let kinds: HashSet<&str> = expected.iter().map(|(_, kind, _)| kind.as_str()).collect();
    match own.keys().find(|&kind| !kinds.contains(kind)) {
        Some(extra) => Err(format!("has tensor {}, which does not belong to this {found}", under(prefix, extra))),
        None => {
            let refused = |error: crate::Error| format!("has a layer that is not possible: {error}");
            found.config.validate_options(&format!("\"{prefix}\"")).map_err(refused)?;
            Ok(found)
        }
    }
}

/// Options of a layer that PyTorch's `nn.LSTM`, `nn.GRU` and `nn.RNN` do not have, in words.
#[cfg(not(target_arch = "wasm32"))]
fn lacking(lstm: &Lstm) -> Vec<&'static str> {
    let plain = Options::default();
    let rnn = lstm.cell == Cell::Rnn;
    // Fields are all named, so that none is forgotten that comes later. What acts in training alone, and where weights start, is no
    // matter here.
    let Options {
        heads,
        projection: _,
        layer_norm,
        peepholes,
        coupled,
        clip,
        cell_clip,
        gate_activation,
        activation,
        output_activation,
        forget_bias: _,
        merge,
        reverse,
        go_backwards,
        dropout: _,
        input_dropout: _,
        recurrent_dropout: _,
        weight_dropout: _,
        zoneout_h,
        zoneout_c,
        repeat_output: _, // padding is no part of the weights
    } = &lstm.options;
    [
        (lstm.cell == Cell::Article, "the article's cell"),
        (
            !matches!(lstm.cell, Cell::Standard | Cell::Article | Cell::Rnn) && !lstm.is_gru(),
            "another cell than an LSTM's, a GRU's or an RNN's",
        ),
        (*heads > 1, "heads of recurrent weights"),
        (lstm.cell == Cell::GruResetBefore, "a reset gate before the product"),
        (*layer_norm, "layer normalisation inside"),
        (*peepholes, "peepholes"),
        (*coupled, "coupled gates"),
        (clip.is_some(), "a clip of its gates"),
        (cell_clip.is_some(), "a clip of its cell state"),
        (*gate_activation != plain.gate_activation, "another gate activation than sigmoid"),
        (*activation != plain.activation && !rnn, "another activation than tanh"),
        (rnn && !matches!(activation, Activation::Tanh | Activation::Relu), "another activation than tanh or ReLU"),
        (*output_activation != plain.output_activation, "another output activation than tanh"),
        (*merge != plain.merge, "directions that are merged otherwise than side by side"),
        (*reverse, "reverse"),
        (*go_backwards, "go_backwards"),
        (*zoneout_h > 0.0 || *zoneout_c > 0.0, "zoneout"),
    ]
    .into_iter()
    .filter_map(|(has, what)| has.then_some(what))
    .collect()
}

/// A layer's tensors as `nn.LSTM`, `nn.GRU` or `nn.RNN` take them, from those of the crate.
///
/// # Errors
/// An option that PyTorch's layers do not have.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn for_pytorch(lstm: &Lstm, tensors: Vec<HostTensor>) -> Result<Vec<HostTensor>, String> {
    let lacking = lacking(lstm);
    if !lacking.is_empty() {
        return Err(format!(
            "has {}, which PyTorch's layers lack; nn.LSTM, nn.GRU and nn.RNN have layers, directions, biases and, of an LSTM, a \
             projection",
            lacking.join(", ")
        ));
    }
    if lstm.bias != Bias::Single {
        return Ok(tensors);
    }
    // PyTorch has two biases or none; the second adds nothing.
    let mut all = Vec::new();
    for tensor in tensors {
        if let Some((before, after)) = tensor.name.split_once("bias_ih_l") {
            let zeros = HostTensor {
                name: format!("{before}bias_hh_l{after}"),
                shape: tensor.shape.clone(),
                values: vec![0.0; tensor.values.len()],
            };
            all.extend([tensor, zeros]);
        } else {
            all.push(tensor);
        }
    }
    Ok(all)
}
