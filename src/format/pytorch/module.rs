//! Names of modules with what they are.

use crate::activation::Activation;
use crate::layer::{LayerNorm, Pool};

/// A module of a PyTorch model, or a function between modules: what [`Weights::model`](super::Weights::model) is told, since a file
/// of weights has no architecture.
///
/// Strings are modules, too: a prefix, or a prefix and what lies there, or a function.
///
/// | text | value | in PyTorch |
/// |---|---|---|
/// | `rnn` | [`Module::Named`] | what lies under `rnn.`, where names and shapes allow one reading only |
/// | `emb:embedding` | [`Module::Embedding`] | `nn.Embedding` |
/// | `rnn:lstm`, `rnn:gru` | [`Module::Lstm`], [`Module::Gru`] | `nn.LSTM`, `nn.GRU`, `nn.LSTMCell`, `nn.GRUCell` |
/// | `rnn:rnn`, `rnn:rnn(relu)` | [`Module::Rnn`] | `nn.RNN`, `nn.RNNCell`, with `nonlinearity="relu"` |
/// | `fc:linear` | [`Module::Linear`] | `nn.Linear` |
/// | `norm:layernorm`, `norm:layernorm(1e-6)` | [`Module::LayerNorm`] | `nn.LayerNorm(F)`, with `eps=1e-6` |
/// | `last` | [`Pool::Last`] | `y[:, -1]` of an output `y` [B, T, F] |
/// | `mean`, `max`, `sum` | [`Pool`] | `y.mean(1)`, `y.amax(1)`, `y.sum(1)` |
/// | `final` | [`Module::Final`] | `h_n` of the top layer, both directions side by side |
/// | `relu`, `sigmoid`, `tanh`, `hardsigmoid`, `softsign`, `softplus` | [`Activation`] | `nn.ReLU()`, ... |
/// | `elu`, `elu(0.5)`, `leakyrelu`, `leakyrelu(0.2)`, `threshold(0.1)` | [`Activation`] | `nn.ELU(alpha)`, `nn.LeakyReLU(negative_slope)`, `nn.Threshold(threshold, 0)` |
/// | `softmax`, `logsoftmax` | [`Activation`] | `nn.Softmax(dim=-1)`, `nn.LogSoftmax(dim=-1)` |
/// | `dropout`, `identity` | [`Module::Dropout`] | the identity, in inference |
///
/// Words may be written as PyTorch's classes (`LeakyReLU`). Where a file has tensors under a prefix that is also a function's word, such
/// as `last.weight`, `last:linear` is the one and `:last` the other.
///
/// ```
/// use wgpu_lstm::format::pytorch::{Module, Weights};
/// use wgpu_lstm::{Activation, Device, Pool};
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/file_pytorch_classifier.pt");
/// let weights = Weights::open(path)?;
/// // The square weight of nn.Embedding(6, 6) could be that of nn.Linear(6, 6, bias=False).
/// assert!(weights.sequential(&["emb", "rnn", "last", "fc"]).is_err());
/// let words = weights.sequential(&["emb:embedding", "rnn", "last", "relu", "fc", "softmax"])?;
/// let values = weights.sequential(&[
///     Module::Embedding("emb".into()),
///     Module::Named("rnn".into()),
///     Pool::Last.into(),
///     Activation::Relu.into(),
///     Module::Linear("fc".into()),
///     Activation::Softmax.into(),
/// ])?;
/// assert_eq!(words, values);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Module {
    /// By its text; see the table.
    Named(String),
    /// The `nn.Embedding` of this prefix, as the first module; the model then takes indices.
    Embedding(String),
    /// The `nn.LSTM` or `nn.LSTMCell` of this prefix; it gives its output sequence.
    Lstm(String),
    /// The `nn.GRU` or `nn.GRUCell` of this prefix; it gives its output sequence.
    Gru(String),
    /// The `nn.RNN` or `nn.RNNCell` of this prefix; it gives its output sequence.
    Rnn {
        /// Prefix of its tensors' names.
        prefix: String,
        /// PyTorch's `nonlinearity`, [`Activation::Tanh`] or [`Activation::Relu`]; `None` for what the file says, or tanh: only a
        /// module saved whole says it.
        nonlinearity: Option<Activation>,
    },
    /// The `nn.Linear` of this prefix, with or without a bias; also an embedding's weight that a decoder shares.
    Linear(String),
    /// The `nn.LayerNorm` over the last axis of this prefix, with or without a bias.
    LayerNorm {
        /// Prefix of its tensors' names.
        prefix: String,
        /// PyTorch's `eps`, which is 1e-5 unless it was given.
        epsilon: f32,
    },
    /// One vector of a sequence.
    Pool(Pool),
    /// The final hidden state of the recurrent module right before: `h_n[-1]`, of two directions
    /// `torch.cat((h_n[-2], h_n[-1]), -1)`. Of one direction it is the last step; of two it is not, because the reverse direction ends
    /// at the first step.
    Final,
    /// An activation of each element or row.
    Activation(Activation),
    /// `nn.Dropout`, `nn.Identity`: the identity, in inference.
    Dropout,
}

impl From<&str> for Module {
    fn from(text: &str) -> Module {
        Module::Named(text.into())
    }
}

impl From<String> for Module {
    fn from(text: String) -> Module {
        Module::Named(text)
    }
}

impl From<Pool> for Module {
    fn from(pool: Pool) -> Module {
        Module::Pool(pool)
    }
}

impl From<Activation> for Module {
    fn from(activation: Activation) -> Module {
        Module::Activation(activation)
    }
}

/// Words of modules that have weights, for messages.
const OF_WEIGHTS: &str = "embedding, lstm, gru, rnn, linear and layernorm";
/// Words of functions, for messages.
pub(super) const FUNCTIONS: &str = "last, mean, max, sum, final, relu, sigmoid, tanh, hardsigmoid, softsign, softplus, elu, leakyrelu, \
                                    threshold, softmax, logsoftmax and dropout";

impl Module {
    /// The module that a text names, of a file where `holds` tells whether it has tensors under a prefix; [`Module::Named`] where it is a prefix
    /// alone.
    ///
    /// # Errors
    /// Two readings, or none.
    pub(super) fn parse(text: &str, holds: impl Fn(&str) -> bool) -> Result<Module, String> {
        let prefix = text.strip_suffix('.').unwrap_or(text);
        let (before, word) = match text.rsplit_once(':') {
            Some((before, word)) => (Some(before.strip_suffix('.').unwrap_or(before)), word),
            None => (None, text),
        };
        let function = function(word);
        match (before, function) {
            // A name with a colon in it
            (Some(_), _) if holds(prefix) => Ok(Module::Named(prefix.into())),
            (Some(""), Some(function)) => function,
            (Some(before), Some(_)) => {
                Err(format!("cannot be read by \"{text}\": {word} is a function and has no weights under \"{before}\""))
            }
            (Some(before), None) => of_weights(before, word).unwrap_or_else(|| {
                Err(format!(
                    "cannot be read by \"{text}\": \"{word}\" is not one of the words after a prefix: {OF_WEIGHTS}"
                ))
            }),
            (None, Some(_)) if holds(prefix) => Err(format!(
                "has tensors under \"{prefix}\", which is also the word of a function; say \"{prefix}:linear\" (or what it is) for the \
                 module, \":{prefix}\" for the function"
            )),
            (None, Some(function)) => function,
            (None, None) => Ok(Module::Named(prefix.into())),
        }
    }
}

/// A word without case and underscores, and the number in parentheses after it.
fn word_and_number(text: &str) -> (String, Option<Result<f32, String>>) {
    let (word, number) = match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        Some((word, number)) => (word, Some(number)),
        None => (text, None),
    };
    let number = number.map(|number| {
        let parsed = number.trim().parse::<f32>().ok().filter(|number| number.is_finite());
        parsed.ok_or_else(|| format!("cannot be read by \"{text}\": \"{number}\" is no number"))
    });
    (word.trim().replace('_', "").to_ascii_lowercase(), number)
}

/// An nn.RNN's nonlinearity by PyTorch's word for it.
pub(super) fn nonlinearity(word: &str) -> Option<Activation> {
    match word {
        "tanh" => Some(Activation::Tanh),
        "relu" => Some(Activation::Relu),
        _ => None,
    }
}

/// The function of a word; None where it is no function's.
fn function(text: &str) -> Option<Result<Module, String>> {
    let (word, number) = word_and_number(text);
    let plain = |module: Module| match &number {
        None => Ok(module),
        Some(_) => Err(format!("cannot be read by \"{text}\": {word} takes no number")),
    };
    let with = |usual: Option<f32>, activation: &dyn Fn(f32) -> Activation| match (number.clone(), usual) {
        (Some(number), _) => number.map(|number| Module::Activation(activation(number))),
        (None, Some(usual)) => Ok(Module::Activation(activation(usual))),
        (None, None) => Err(format!("cannot be read by \"{text}\": {word} takes a number, as in {word}(0.1)")),
    };
    Some(match word.as_str() {
        "last" => plain(Pool::Last.into()),
        "mean" => plain(Pool::Mean.into()),
        "max" => plain(Pool::Max.into()),
        "sum" => plain(Pool::Sum.into()),
        "final" => plain(Module::Final),
        "dropout" if number.is_some() => Ok(Module::Dropout),
        "dropout" | "identity" => plain(Module::Dropout),
        "relu" => plain(Activation::Relu.into()),
        "sigmoid" => plain(Activation::Sigmoid.into()),
        "tanh" => plain(Activation::Tanh.into()),
        // PyTorch's is relu6(x + 3) / 6, as Keras 3's.
        "hardsigmoid" => plain(Activation::KERAS_HARD_SIGMOID.into()),
        "softsign" => plain(Activation::Softsign.into()),
        "softplus" => plain(Activation::Softplus.into()),
        "softmax" => plain(Activation::Softmax.into()),
        "logsoftmax" => plain(Activation::LogSoftmax.into()),
        "elu" => with(Some(1.0), &|alpha| Activation::Elu { alpha }),
        "leakyrelu" => with(Some(0.01), &|alpha| Activation::LeakyRelu { alpha }),
        "threshold" => with(None, &|alpha| Activation::ThresholdedRelu { alpha }),
        _ => return None,
    })
}

/// The module of a prefix and a word; None where the word says none.
fn of_weights(prefix: &str, text: &str) -> Option<Result<Module, String>> {
    let lower = text.to_ascii_lowercase();
    if let Some(word) = lower.strip_prefix("rnn(").and_then(|rest| rest.strip_suffix(')')) {
        let nonlinearity = nonlinearity(word.trim());
        return Some(match nonlinearity {
            Some(_) => Ok(Module::Rnn { prefix: prefix.into(), nonlinearity }),
            None => Err(format!("cannot be read by \"{prefix}:{text}\": an nn.RNN has the nonlinearity tanh or relu")),
        });
    }
    let (word, number) = word_and_number(text);
    let module = match word.as_str() {
        "layernorm" => {
            let epsilon = number.unwrap_or(Ok(LayerNorm::new().epsilon));
            return Some(epsilon.map(|epsilon| Module::LayerNorm { prefix: prefix.into(), epsilon }));
        }
        "embedding" => Module::Embedding(prefix.into()),
        "lstm" => Module::Lstm(prefix.into()),
        "gru" => Module::Gru(prefix.into()),
        "rnn" => Module::Rnn { prefix: prefix.into(), nonlinearity: None },
        "linear" => Module::Linear(prefix.into()),
        _ => return None,
    };
    Some(match number {
        None => Ok(module),
        Some(_) => Err(format!("cannot be read by \"{prefix}:{text}\": {word} takes no number")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        let parse = |text: &str| Module::parse(text, |prefix| ["max", "a:sum", "fc"].contains(&prefix));
        for (text, module) in [
            ("fc", Module::Named("fc".into())),
            ("fc.", Module::Named("fc".into())),
            ("fc.:linear", Module::Linear("fc".into())),
            (":linear", Module::Linear(String::new())),
            ("a.b:LSTM", Module::Lstm("a.b".into())),
            ("a:sum", Module::Named("a:sum".into())),
            ("max:embedding", Module::Embedding("max".into())),
            (":max", Pool::Max.into()),
            ("last", Pool::Last.into()),
            ("Log_Softmax", Activation::LogSoftmax.into()),
            ("LeakyReLU", Activation::LeakyRelu { alpha: 0.01 }.into()),
            ("leaky_relu(0.2)", Activation::LeakyRelu { alpha: 0.2 }.into()),
            ("threshold(0.5)", Activation::ThresholdedRelu { alpha: 0.5 }.into()),
            ("n:layernorm(1e-6)", Module::LayerNorm { prefix: "n".into(), epsilon: 1e-6 }),
            ("r:rnn", Module::Rnn { prefix: "r".into(), nonlinearity: None }),
            ("r:RNN(ReLU)", Module::Rnn { prefix: "r".into(), nonlinearity: Some(Activation::Relu) }),
            ("n:LayerNorm", Module::LayerNorm { prefix: "n".into(), epsilon: 1e-5 }),
            ("dropout", Module::Dropout),
            ("dropout(0.5)", Module::Dropout),
            ("lstm", Module::Named("lstm".into())),
        ] {
            assert_eq!(parse(text), Ok(module), "{text}");
        }
        for (text, part) in [
            ("max", "\":max\" for the function"),
            ("fc:convolution", "\"convolution\" is not one of the words"),
            ("fc:relu", "no weights under \"fc\""),
            ("relu(1)", "takes no number"),
            ("elu(x)", "\"x\" is no number"),
            ("threshold", "takes a number"),
            ("e:embedding(3)", "takes no number"),
            ("r:rnn(elu)", "tanh or relu"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
