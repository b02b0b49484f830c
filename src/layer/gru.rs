//! The GRU layer's configuration.

use super::newtype::{recurrent_dropout, recurrent_layer};
use super::{Bias, Init, Lstm};
use crate::activation::Activation;
use crate::cell::Cell;

/// A GRU: H hidden units, L layers, one or two directions; with the defaults it is
/// [`torch.nn.GRU`](https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html) (Cho et al. 2014, with the reset gate after
/// the recurrent product). It is an [`Lstm`] of [`Cell::Gru`] with the options that a GRU has; gates are in PyTorch's order
/// r, z, n.
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

    /// Applies the reset gate after the recurrent product (true, the default: [`Cell::Gru`]) or before it
    /// (false, [`Cell::GruResetBefore`]: Keras's `reset_after=False`, ONNX's `linear_before_reset` 0).
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

    /// Heads of the recurrent weights; see [`Lstm::heads`]. They need the reset gate after the product.
    pub fn heads(self, heads: usize) -> Gru {
        Gru(self.0.heads(heads))
    }

    /// Activation of the gates r and z: ONNX's f, Keras's `recurrent_activation`. Sigmoid by default.
    pub fn gate_activation(self, activation: Activation) -> Gru {
        Gru(self.0.gate_activation(activation))
    }

    /// Activation of n: ONNX's g, Keras's `activation`. Tanh by default.
    pub fn activation(self, activation: Activation) -> Gru {
        Gru(self.0.candidate_activation(activation))
    }

    /// Bounds the arguments of the activations to ±clip; see [`Lstm::clip`].
    pub fn clip(self, clip: f32) -> Gru {
        Gru(self.0.clip(clip))
    }

    /// Biases of the gates.
    pub fn bias(self, bias: Bias) -> Gru {
        Gru(self.0.bias(bias))
    }
}

recurrent_layer!(Gru);
recurrent_dropout!(Gru);
