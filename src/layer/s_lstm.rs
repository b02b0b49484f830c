//! The sLSTM layer's configuration.

use super::newtype::{recurrent_dropout, recurrent_layer};
use super::{Bias, Lstm};
use crate::cell::Cell;

/// sLSTM of xLSTM (Beck et al. 2024, [arXiv:2405.04517](https://arxiv.org/abs/2405.04517)): exponential input gates, states c, n and m
/// beside h, and heads of recurrent weights; see [`Cell::SLstm`]. It is the recurrence alone, without xLSTM's block around it. Rows of
/// the weights are i, f, z, o.
///
/// ```
/// use ndarray::Array3;
/// use wgpu_lstm::{Device, SLstm};
/// let layer = SLstm::new(16).heads(4).build(&Device::cpu(), 4, 42)?; // I = 4, seed 42
/// let out = layer.forward(Array3::zeros((2, 10, 4)).view(), None)?;
/// assert_eq!(out.output.dim(), (2, 10, 16)); // [B, T, D·H]
/// assert_eq!(out.state.c.dim(), (3, 2, 16)); // c, n and m: [L·3·D, B, H]
/// assert_eq!(layer.parameters()?["weight_hh_l0"].shape(), [4, 16, 4]); // [heads, 4H/heads, H/heads]
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SLstm(Lstm);

impl SLstm {
    /// `hidden` units in one head, one layer, one direction, one bias, PyTorch's initial weights.
    pub fn new(hidden: usize) -> SLstm {
        SLstm(Lstm::new(hidden).cell(Cell::SLstm).bias(Bias::Single))
    }

    /// Heads of the recurrent weights; see [`Lstm::heads`].
    pub fn heads(self, heads: usize) -> SLstm {
        SLstm(self.0.heads(heads))
    }

    /// Biases of the gates.
    pub fn bias(self, bias: Bias) -> SLstm {
        SLstm(self.0.bias(bias))
    }
}

recurrent_layer!(SLstm);
recurrent_dropout!(SLstm);
