//! Layers. The file of a layer has all of it: configuration, shapes, parameters, states, forward, backward, summary
//! ([`operator::Operator`]).

mod activation;
mod add;
mod attention;
mod attention_pool;
mod average;
mod batch_norm;
mod concat;
mod conv;
mod dense;
mod dropout;
mod embedding;
mod gru;
mod ind_rnn;
mod init;
mod lstm;
mod masking;
mod maximum;
mod merge;
mod min_lstm;
mod multiply;
mod newtype;
mod norm;
mod operator;
mod padding;
mod pool;
mod recurrent;
mod repeat;
mod rnn;
mod s_lstm;
mod several;
mod shift;
mod taps;
mod tensor;
mod window_pool;
mod zero_pad;

pub use add::Add;
pub use attention::{Attention, AttentionScore};
pub use attention_pool::AttentionPool;
pub use average::Average;
pub use batch_norm::BatchNorm;
pub use concat::Concat;
pub use conv::Conv1d;
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
pub use maximum::Maximum;
pub use min_lstm::MinLstm;
pub use multiply::Multiply;
pub use norm::LayerNorm;
pub(crate) use operator::{Inputs, Operator, Output, Place, Site, StateGradients, StateSlot, Time, Trace, Upstream};
pub use padding::Padding;
pub use pool::Pool;
pub use repeat::Repeat;
pub use rnn::Rnn;
pub use s_lstm::SLstm;
pub(crate) use tensor::{DeviceTensor, HostTensor, Initial, Parameter, Vectors};
pub use window_pool::WindowPool;
pub use zero_pad::ZeroPad;

use crate::activation::Activation;
use serde::{Deserialize, Serialize};

/// Declares [`Layer`]: an enumeration of the layers, each of which is an [`Operator`] in a file of its own.
macro_rules! layers {
    ($(#[$doc:meta])* enum { $($(#[$variant_doc:meta])* $name:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "layer", rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Layer {
            $($(#[$variant_doc])* $name($name),)*
        }

        impl Layer {
            /// The layer as an operator of a network.
            pub(crate) fn operator(&self) -> &dyn Operator {
                match self {
                    $(Layer::$name(layer) => layer,)*
                }
            }
        }

        $(impl From<$name> for Layer {
            fn from(layer: $name) -> Layer {
                Layer::$name(layer)
            }
        })*
    };
}

layers! {
    /// A layer of a [`Sequential`](crate::Sequential) model.
    ///
    /// ```
    /// use wgpu_lstm::{Activation, Dense, Layer, Lstm, Sequential};
    /// let model = Sequential::new(3).add(Lstm::new(16)).add(Activation::Relu).add(Dense::new(2));
    /// assert!(matches!(model.layers()[1], Layer::Activation(Activation::Relu)));
    /// ```
    enum {
        /// A stack of recurrent layers.
        Lstm,
        /// A fully connected layer.
        Dense,
        /// Dropout.
        Dropout,
        /// One vector of a sequence.
        Pool,
        /// Layer normalisation.
        LayerNorm,
        /// Vectors by index.
        Embedding,
        /// Padding by value.
        Masking,
        /// An activation of each element or row, such as `nn.ReLU` or `nn.Softmax(dim=-1)`. Right after a dense layer,
        /// [`Dense::activation`] saves a pass over memory.
        Activation,
        /// The sum of several inputs.
        Add,
        /// The mean of several inputs.
        Average,
        /// The product of several inputs.
        Multiply,
        /// The maximum of several inputs.
        Maximum,
        /// Several inputs side by side.
        Concat,
        /// A vector, repeated over time.
        Repeat,
        /// Attention of queries to values.
        Attention,
        /// One vector of a sequence, by learnt weights of its steps.
        AttentionPool,
        /// A convolution along time.
        Conv1d,
        /// Pooling of windows of time.
        WindowPool,
        /// Zeros before and after a sequence.
        ZeroPad,
        /// Batch normalisation.
        BatchNorm,
    }
}

impl Layer {
    /// The kind, as automatic names have it.
    pub fn kind(&self) -> &'static str {
        self.operator().kind()
    }

    /// Output features for `input` features.
    pub fn output(&self, input: usize) -> usize {
        self.operator().output(&[input])
    }
}
