//! The independently recurrent layer's configuration.

use super::newtype::{recurrent_dropout, recurrent_layer};
use super::{Bias, Lstm};
use crate::activation::Activation;
use crate::cell::Cell;

/// IndRNN (Li et al. 2018, [arXiv:1803.04831](https://arxiv.org/abs/1803.04831)): each unit has a recurrent weight from itself alone,
/// h = ReLU(W·x + u ⊙ h' + b). It is an [`Rnn`](crate::Rnn) with as many heads as units, so the recurrent weights u, `weight_hh`, are
/// `[H]`.
///
/// The weights are initialised as PyTorch's. The paper draws u up to 2^(1/T) for layers that should remember T steps; set such
/// weights with [`LstmLayer::set_parameters`](crate::LstmLayer::set_parameters).
///
/// ```
/// use ndarray::Array3;
/// use wgpu_lstm::{Device, IndRnn};
/// let rnn = IndRnn::new(16).layers(3).build(&Device::cpu(), 4, 42)?; // I = 4, seed 42
/// let out = rnn.forward(Array3::zeros((2, 10, 4)).view(), None)?;
/// assert_eq!(out.output.dim(), (2, 10, 16)); // [B, T, D·H]
/// assert_eq!(rnn.parameters()?["weight_hh_l0"].shape(), [16]);
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct IndRnn(Lstm);

impl IndRnn {
    /// `hidden` units with ReLU, one layer, one direction, one bias, PyTorch's initial weights.
    pub fn new(hidden: usize) -> IndRnn {
        let rnn = Lstm::new(hidden).cell(Cell::Rnn).heads(hidden).bias(Bias::Single);
        IndRnn(rnn.candidate_activation(Activation::Relu))
    }

    /// Activation of the sum. ReLU by default.
    pub fn activation(self, activation: Activation) -> IndRnn {
        IndRnn(self.0.candidate_activation(activation))
    }

    /// Bias of the sum.
    pub fn bias(self, bias: Bias) -> IndRnn {
        IndRnn(self.0.bias(bias))
    }
}

recurrent_layer!(IndRnn);
recurrent_dropout!(IndRnn);
