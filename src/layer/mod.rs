//! Layers: their configuration, their parameters and how these are initialised.

mod dense;
mod gru;
mod init;
mod lstm;
mod parameters;
mod run;
mod weights;

pub use dense::Dense;
pub use gru::Gru;
pub use init::Init;
pub use lstm::{Bias, Lstm};
pub(crate) use parameters::{Parameters, tensor_shapes};
pub use run::{LstmGradients, LstmLayer, LstmOutput, LstmState};
pub(crate) use weights::HostTensor;

use crate::cell::Cell;
use serde::{Deserialize, Serialize};

/// A layer of a [`Sequential`](crate::Sequential) model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "layer", rename_all = "snake_case")]
pub enum Layer {
    /// A stack of LSTM layers.
    Lstm(Lstm),
    /// A fully connected layer.
    Dense(Dense),
}

impl Layer {
    /// The kind, as automatic names have it.
    pub fn kind(&self) -> &'static str {
        match self {
            Layer::Lstm(lstm) if lstm.cell == Cell::Gru => "gru",
            Layer::Lstm(_) => "lstm",
            Layer::Dense(_) => "dense",
        }
    }

    /// Features of its output.
    pub fn output(&self) -> usize {
        match self {
            Layer::Lstm(lstm) => lstm.output(),
            Layer::Dense(dense) => dense.units,
        }
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
