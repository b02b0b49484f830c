//! Layers: their configuration, their parameters and how these are initialised.

mod dense;
mod dropout;
mod embedding;
mod gru;
mod init;
mod lstm;
mod masking;
mod norm;
mod parameters;
mod pool;
mod weights;

pub use dense::Dense;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use gru::Gru;
pub use init::Init;
#[cfg(any(feature = "keras", feature = "onnx", feature = "pytorch"))]
pub(crate) use lstm::Options;
pub use lstm::{Bias, Lstm, Merge};
pub use masking::Masking;
pub use norm::LayerNorm;
pub(crate) use parameters::{Parameters, SharedParameters, Version, read_parts, tensor_shapes};
pub use pool::Pool;
pub(crate) use weights::HostTensor;

use crate::activation::Activation;
use serde::{Deserialize, Serialize};

/// A layer of a [`Sequential`](crate::Sequential) model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "layer", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Layer {
    /// A stack of LSTM layers.
    Lstm(Lstm),
    /// A fully connected layer.
    Dense(Dense),
    /// Dropout.
    Dropout(Dropout),
    /// One vector of a sequence.
    Pool(Pool),
    /// Layer normalisation.
    LayerNorm(LayerNorm),
    /// Vectors by index.
    Embedding(Embedding),
    /// Padding by value.
    Masking(Masking),
    /// An activation of each element or row, such as `nn.ReLU` or `nn.Softmax(dim=-1)`. Right after a dense layer,
    /// [`Dense::activation`] saves a pass over memory.
    Activation(Activation),
}

impl Layer {
    /// The kind, as automatic names have it.
    pub fn kind(&self) -> &'static str {
        match self {
            Layer::Lstm(lstm) if lstm.is_gru() => "gru",
            Layer::Lstm(_) => "lstm",
            Layer::Dense(_) => "dense",
            Layer::Dropout(_) => "dropout",
            Layer::Pool(_) => "pool",
            Layer::LayerNorm(_) => "layer_norm",
            Layer::Embedding(_) => "embedding",
            Layer::Masking(_) => "masking",
            Layer::Activation(_) => "activation",
        }
    }

    /// Features of its output, from `input` features.
    pub fn output(&self, input: usize) -> usize {
        match self {
            Layer::Lstm(lstm) => lstm.output(),
            Layer::Dense(dense) => dense.units,
            Layer::Dropout(_) | Layer::Pool(_) | Layer::LayerNorm(_) | Layer::Masking(_) | Layer::Activation(_) => {
                input
            }
            Layer::Embedding(embedding) => embedding.features,
        }
    }

    /// Whether it makes one vector of a sequence.
    pub(crate) fn ends_sequence(&self) -> bool {
        match self {
            Layer::Lstm(lstm) => !lstm.return_sequences,
            Layer::Pool(_) => true,
            Layer::Dense(_)
            | Layer::Dropout(_)
            | Layer::LayerNorm(_)
            | Layer::Embedding(_)
            | Layer::Masking(_)
            | Layer::Activation(_) => false,
        }
    }

    /// Whether it needs a sequence.
    pub(crate) fn takes_sequence(&self) -> bool {
        matches!(self, Layer::Lstm(_) | Layer::Pool(_))
    }
}

impl From<Dropout> for Layer {
    fn from(dropout: Dropout) -> Layer {
        Layer::Dropout(dropout)
    }
}

impl From<LayerNorm> for Layer {
    fn from(norm: LayerNorm) -> Layer {
        Layer::LayerNorm(norm)
    }
}

impl From<Embedding> for Layer {
    fn from(embedding: Embedding) -> Layer {
        Layer::Embedding(embedding)
    }
}

impl From<Masking> for Layer {
    fn from(masking: Masking) -> Layer {
        Layer::Masking(masking)
    }
}

/// As a layer of its own:
///
/// ```
/// use wgpu_lstm::{Activation, Dense, Lstm, Sequential};
/// let model = Sequential::new(3).add(Lstm::new(16)).add(Activation::Relu).add(Dense::new(2));
/// ```
impl From<Activation> for Layer {
    fn from(activation: Activation) -> Layer {
        Layer::Activation(activation)
    }
}

impl From<Pool> for Layer {
    fn from(pool: Pool) -> Layer {
        Layer::Pool(pool)
    }
}

impl From<Lstm> for Layer {
    fn from(lstm: Lstm) -> Layer {
        Layer::Lstm(lstm)
    }
}

impl From<Dense> for Layer {
    fn from(dense: Dense) -> Layer {
        Layer::Dense(dense)
    }
}
