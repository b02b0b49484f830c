//! The GRU layer's configuration.

use super::{Bias, Init, Layer, Lstm, Merge};
use crate::activation::Activation;
use crate::cell::Cell;

/// A GRU: H hidden units, L layers, one or two directions; with the defaults it is
/// [`torch.nn.GRU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html) (Cho et al. 2014, with the reset gate after
/// the recurrent product). It is an [`Lstm`] of [`Cell::Gru`], without the options that a GRU does not have; gates are in
/// PyTorch's order r, z, n.
///
/// ```
/// use ndarray::Array3;
/// use wgpu_lstm::{Dense, Device, Gru, Sequential};
/// let gru = Gru::new(16).layers(2).bidirectional(true).build(&Device::cpu(), 4, 42)?; // I = 4, seed 42
/// let out = gru.forward(Array3::zeros((2, 10, 4)).view(), None)?;
/// assert_eq!(out.output.dim(), (2, 10, 32)); // [B, T, D·H]
/// assert_eq!(gru.parameters()?["weight_ih_l0"].shape(), [48, 4]); // [3H, I]
/// let model = Sequential::new(4).add(Gru::keras(16)).add(Dense::new(1));
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Gru(Lstm);

impl Gru {
    /// `hidden` units, one layer, one direction, PyTorch's two biases and initial weights.
    pub fn new(hidden: usize) -> Gru {
        Gru(Lstm::new(hidden).cell(Cell::Gru))
    }

    /// `hidden` units with Keras's initial weights (Glorot, orthogonal, biases 0) and its two biases.
    pub fn keras(hidden: usize) -> Gru {
        Gru(Lstm::new(hidden).cell(Cell::Gru).init(Init::Keras))
    }

    /// Whether the reset gate acts after the recurrent product (the default: [`Cell::Gru`]) or before it
    /// ([`Cell::GruResetBefore`]: Keras's `reset_after=False`, ONNX's `linear_before_reset` 0).
    ///
    /// ```
    /// use wgpu_lstm::{Device, Gru};
    /// let gru = Gru::new(4).reset_after(false).build(&Device::cpu(), 3, 0)?;
    /// assert_eq!(gru.forward(ndarray::Array3::zeros((2, 7, 3)).view(), None)?.output.dim(), (2, 7, 4));
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn reset_after(self, reset_after: bool) -> Gru {
        Gru(self.0.cell(if reset_after { Cell::Gru } else { Cell::GruResetBefore }))
    }

    /// Activation of the gates r and z: ONNX's f, Keras's `recurrent_activation`. Sigmoid by default.
    pub fn gate_activation(self, activation: Activation) -> Gru {
        Gru(self.0.gate_activation(activation))
    }

    /// Activation of n: ONNX's g, Keras's `activation`. Tanh by default.
    pub fn activation(self, activation: Activation) -> Gru {
        Gru(self.0.candidate_activation(activation))
    }

    /// Bounds what goes into the activations to ±clip; see [`Lstm::clip`].
    pub fn clip(self, clip: f32) -> Gru {
        Gru(self.0.clip(clip))
    }

    /// What becomes of the outputs of two directions; see [`Lstm::merge`].
    pub fn merge(self, merge: Merge) -> Gru {
        Gru(self.0.merge(merge))
    }

    /// L layers on top of each other.
    pub fn layers(self, layers: usize) -> Gru {
        Gru(self.0.layers(layers))
    }

    /// Two directions; see [`Lstm::bidirectional`].
    pub fn bidirectional(self, bidirectional: bool) -> Gru {
        Gru(self.0.bidirectional(bidirectional))
    }

    /// Biases of the gates.
    pub fn bias(self, bias: Bias) -> Gru {
        Gru(self.0.bias(bias))
    }

    /// In a model: pass on the output of every step; see [`Lstm::return_sequences`].
    pub fn return_sequences(self, return_sequences: bool) -> Gru {
        Gru(self.0.return_sequences(return_sequences))
    }

    /// How the weights start.
    pub fn init(self, init: Init) -> Gru {
        Gru(self.0.init(init))
    }

    /// Runs from the end of time to its start; see [`Lstm::reverse`].
    pub fn reverse(self, reverse: bool) -> Gru {
        Gru(self.0.reverse(reverse))
    }

    /// The same, with outputs in that order; see [`Lstm::go_backwards`].
    pub fn go_backwards(self, go_backwards: bool) -> Gru {
        Gru(self.0.go_backwards(go_backwards))
    }

    /// Repeats the last output past the end of a sequence; see [`Lstm::repeat_output`].
    pub fn repeat_output(self, repeat: bool) -> Gru {
        Gru(self.0.repeat_output(repeat))
    }

    /// Drops outputs between layers; see [`Lstm::dropout`].
    pub fn dropout(self, probability: f64) -> Gru {
        Gru(self.0.dropout(probability))
    }

    /// Drops inputs; see [`Lstm::input_dropout`].
    pub fn input_dropout(self, probability: f64) -> Gru {
        Gru(self.0.input_dropout(probability))
    }

    /// Drops the hidden state on its way into the products; see [`Lstm::recurrent_dropout`].
    pub fn recurrent_dropout(self, probability: f64) -> Gru {
        Gru(self.0.recurrent_dropout(probability))
    }

    /// Drops recurrent weights; see [`Lstm::weight_dropout`].
    pub fn weight_dropout(self, probability: f64) -> Gru {
        Gru(self.0.weight_dropout(probability))
    }
}

impl From<Gru> for Lstm {
    fn from(gru: Gru) -> Lstm {
        gru.0
    }
}

impl From<Gru> for Layer {
    fn from(gru: Gru) -> Layer {
        Layer::Lstm(gru.0)
    }
}
