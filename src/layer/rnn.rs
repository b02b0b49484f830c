//! The plain recurrent layer's configuration.

use super::newtype::{recurrent_dropout, recurrent_layer};
use super::{Bias, Init, Lstm};
use crate::activation::Activation;
use crate::cell::Cell;

/// A plain recurrent layer: H hidden units, L layers, one or two directions; with the defaults it is
/// [`torch.nn.RNN`](https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html) (Elman 1990), h = tanh(W·x + b + R·h' + b'), and
/// [`Rnn::keras`] is [Keras's SimpleRNN](https://keras.io/api/layers/recurrent_layers/simple_rnn/). It is an [`Lstm`] of
/// [`Cell::Rnn`] with the options that an RNN has.
///
/// ```
/// use ndarray::Array3;
/// use wgpu_lstm::{Activation, Device, Rnn};
/// let rnn = Rnn::new(16).activation(Activation::Relu).layers(2).build(&Device::cpu(), 4, 42)?; // I = 4, seed 42
/// let out = rnn.forward(Array3::zeros((2, 10, 4)).view(), None)?;
/// assert_eq!(out.output.dim(), (2, 10, 16)); // [B, T, D·H]
/// assert_eq!(rnn.parameters()?["weight_hh_l0"].shape(), [16, 16]); // [H, H]
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rnn(Lstm);

impl Rnn {
    /// `hidden` units with tanh, one layer, one direction, PyTorch's two biases and initial weights.
    pub fn new(hidden: usize) -> Rnn {
        Rnn(Lstm::new(hidden).cell(Cell::Rnn))
    }

    /// `hidden` units with Keras's single bias and initial weights (Glorot, orthogonal, biases 0).
    pub fn keras(hidden: usize) -> Rnn {
        Rnn(Lstm::new(hidden).cell(Cell::Rnn).bias(Bias::Single).init(Init::Keras))
    }

    /// Activation of the sum: PyTorch's `nonlinearity`, Keras's `activation`. Tanh by default.
    pub fn activation(self, activation: Activation) -> Rnn {
        Rnn(self.0.candidate_activation(activation))
    }

    /// Bounds the argument of the activation to ±clip; see [`Lstm::clip`].
    pub fn clip(self, clip: f32) -> Rnn {
        Rnn(self.0.clip(clip))
    }

    /// Biases of the sum.
    pub fn bias(self, bias: Bias) -> Rnn {
        Rnn(self.0.bias(bias))
    }

    /// Heads of the recurrent weights; see [`Lstm::heads`].
    pub fn heads(self, heads: usize) -> Rnn {
        Rnn(self.0.heads(heads))
    }
}

recurrent_layer!(Rnn);
recurrent_dropout!(Rnn);
