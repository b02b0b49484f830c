//! Layers. The file of a layer has all of it: configuration, shapes, parameters, states, forward, backward, summary
//! ([`operator::Operator`]).

mod activation;
mod dense;
mod dropout;
mod embedding;
mod gru;
mod ind_rnn;
mod init;
mod lstm;
mod masking;
mod merge;
mod min_lstm;
mod newtype;
mod norm;
mod operator;
mod pool;
mod recurrent;
mod rnn;
mod s_lstm;
mod tensor;

pub use dense::Dense;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use gru::Gru;
pub use ind_rnn::IndRnn;
pub use init::Init;
#[cfg(any(feature = "keras", feature = "onnx", feature = "pytorch"))]
pub(crate) use lstm::Options;
pub use lstm::{Bias, Lstm, Merge};
pub use masking::Masking;
pub use min_lstm::MinLstm;
pub use norm::LayerNorm;
pub(crate) use operator::{Inputs, Operator, Output, Place, Site, StateGradients, StateSlot, Trace, Upstream};
pub use pool::Pool;
pub use rnn::Rnn;
pub use s_lstm::SLstm;
pub(crate) use tensor::{DeviceTensor, HostTensor, Parameter, Vectors};

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
    /// Pooling of a sequence to one vector.
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
    /// The layer as an operator of a network: the only match over all layers.
    pub(crate) fn operator(&self) -> &dyn Operator {
        match self {
            Layer::Lstm(lstm) => lstm,
            Layer::Dense(dense) => dense,
            Layer::Dropout(dropout) => dropout,
            Layer::Pool(pool) => pool,
            Layer::LayerNorm(norm) => norm,
            Layer::Embedding(embedding) => embedding,
            Layer::Masking(masking) => masking,
            Layer::Activation(activation) => activation,
        }
    }

    /// The kind, as in automatic names.
    pub fn kind(&self) -> &'static str {
        self.operator().kind()
    }

    /// Output features for `input` features.
    pub fn output(&self, input: usize) -> usize {
        self.operator().output(input)
    }
}

macro_rules! layers {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $($(#[$doc])*
        impl From<$name> for Layer {
            fn from(layer: $name) -> Layer {
                Layer::$name(layer)
            }
        })*
    };
}

layers! {
    Lstm,
    Dense,
    Dropout,
    Pool,
    LayerNorm,
    Embedding,
    Masking,
    /// An activation layer:
    ///
    /// ```
    /// use wgpu_lstm::{Activation, Dense, Lstm, Sequential};
    /// let model = Sequential::new(3).add(Lstm::new(16)).add(Activation::Relu).add(Dense::new(2));
    /// ```
    Activation,
}
