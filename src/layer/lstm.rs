//! The LSTM layer's configuration.

use super::{Init, LstmLayer};
use crate::cell::Cell;
use crate::device::Device;
use crate::error::Result;
use crate::plan::{Capabilities, Plan};
use crate::schedule::{LayerPlan, Purpose, network};
use serde::{Deserialize, Serialize};

/// Biases of a layer's gates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bias {
    /// None.
    None,
    /// One per gate, as Keras has it.
    Single,
    /// Two per gate that are added, as PyTorch has it. Trained with Adam, the sum moves twice as fast as a single one.
    #[default]
    Double,
}

impl Bias {
    pub(crate) fn count(self) -> usize {
        match self {
            Bias::None => 0,
            Bias::Single => 1,
            Bias::Double => 2,
        }
    }
}

/// An LSTM: H hidden units, L layers, one or two directions. With the defaults it is
/// [`torch.nn.LSTM`](https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html); [`Lstm::keras`] is
/// [Keras's LSTM](https://keras.io/api/layers/recurrent_layers/lstm/).
///
/// Inside a [`Sequential`](crate::Sequential) model it returns the last step, unless
/// [`return_sequences`](Lstm::return_sequences) is set. By itself ([`Lstm::build`]) it returns everything.
///
/// ```
/// use ndarray::Array3;
/// use wgpu_lstm::{Device, Lstm};
///
/// let lstm = Lstm::new(16).layers(2).bidirectional(true).build(&Device::cpu(), 4, 42)?; // I = 4, seed 42
/// let x = Array3::<f32>::zeros((2, 10, 4)); // [B, T, I]
/// let out = lstm.forward(x.view(), None)?;
/// assert_eq!(out.output.dim(), (2, 10, 32)); // [B, T, D·H]
/// assert_eq!(out.state.h.dim(), (4, 2, 16)); // [L·D, B, H]
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lstm {
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) bidirectional: bool,
    pub(crate) bias: Bias,
    pub(crate) cell: Cell,
    pub(crate) return_sequences: bool,
    pub(crate) init: Init,
}

impl Lstm {
    /// `hidden` units, one layer, one direction, PyTorch's two biases and initial weights.
    pub fn new(hidden: usize) -> Lstm {
        Lstm {
            hidden,
            layers: 1,
            bidirectional: false,
            bias: Bias::Double,
            cell: Cell::Standard,
            return_sequences: false,
            init: Init::PyTorch,
        }
    }

    /// `hidden` units with Keras's single bias and initial weights (Glorot, orthogonal, forget bias 1).
    pub fn keras(hidden: usize) -> Lstm {
        Lstm { bias: Bias::Single, init: Init::Keras, ..Lstm::new(hidden) }
    }

    /// L layers on top of each other.
    pub fn layers(self, layers: usize) -> Lstm {
        Lstm { layers, ..self }
    }

    /// Two directions: the second runs from the end of time to its start; outputs are side by side.
    pub fn bidirectional(self, bidirectional: bool) -> Lstm {
        Lstm { bidirectional, ..self }
    }

    /// Biases of the gates.
    pub fn bias(self, bias: Bias) -> Lstm {
        Lstm { bias, ..self }
    }

    /// The cell's equations.
    pub fn cell(self, cell: Cell) -> Lstm {
        Lstm { cell, ..self }
    }

    /// In a model: pass on the output of every step, [B, T, D·H], instead of the last one, [B, D·H]. The last step of
    /// the reverse direction is the one it computes last, at time 0, as in Keras.
    pub fn return_sequences(self, return_sequences: bool) -> Lstm {
        Lstm { return_sequences, ..self }
    }

    /// How the weights start.
    pub fn init(self, init: Init) -> Lstm {
        Lstm { init, ..self }
    }

    /// Puts an LSTM for `input` features on a device, its weights drawn by `seed`.
    ///
    /// # Errors
    /// A size that is 0, or weights that the device cannot bind.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn build(self, device: &Device, input: usize, seed: u64) -> Result<LstmLayer> {
        pollster::block_on(LstmLayer::new(self, device, input, seed))
    }

    /// The plan of a forward pass over B sequences of T steps, for looking at.
    ///
    /// # Errors
    /// A size that is 0, or sizes that do not fit the capabilities.
    pub fn plan(&self, input: usize, batch: usize, steps: usize, capabilities: &Capabilities) -> Result<Plan> {
        let layer = Lstm { return_sequences: true, ..self.clone() };
        let layers = [LayerPlan { name: "lstm".into(), input, layer: layer.into() }];
        Ok(network(&layers, batch, steps, Purpose::Predict, capabilities)?.plan)
    }

    /// Hidden units H.
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// Directions D.
    pub fn directions(&self) -> usize {
        1 + self.bidirectional as usize
    }

    /// Output features D·H.
    pub fn output(&self) -> usize {
        self.directions() * self.hidden
    }
}
