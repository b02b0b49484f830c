//! The minLSTM layer's configuration.

use super::newtype::recurrent_layer;
use super::{Bias, Lstm};
use crate::cell::Cell;

/// minLSTM (Feng et al. 2024, [arXiv:2410.01201](https://arxiv.org/abs/2410.01201)): gates and candidate depend on the input alone, so
/// there are no recurrent weights; see [`Cell::MinLstm`]. The gates are normalised to f / (f + i) and i / (f + i), and the candidate is
/// linear. Rows of the weights are i, f, candidate.
///
/// ```
/// use ndarray::Array3;
/// use wgpu_lstm::{Device, MinLstm};
/// let layer = MinLstm::new(16).layers(2).build(&Device::cpu(), 4, 42)?; // I = 4, seed 42
/// let out = layer.forward(Array3::zeros((2, 10, 4)).view(), None)?;
/// assert_eq!(out.output.dim(), (2, 10, 16)); // [B, T, D·H]
/// assert_eq!(layer.parameters()?["weight_ih_l0"].shape(), [48, 4]); // [3H, I]
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct MinLstm(Lstm);

impl MinLstm {
    /// `hidden` units, one layer, one direction, one bias, PyTorch's initial weights.
    pub fn new(hidden: usize) -> MinLstm {
        MinLstm(Lstm::new(hidden).cell(Cell::MinLstm).bias(Bias::Single))
    }

    /// Adds a bias (the default), or none.
    pub fn bias(self, bias: bool) -> MinLstm {
        MinLstm(self.0.bias(if bias { Bias::Single } else { Bias::None }))
    }
}

recurrent_layer!(MinLstm);
