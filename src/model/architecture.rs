//! The layers that a model is built from: a chain or a network that branches.

use super::{Network, Sequential};
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::network::{AsGraph, Graph};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Architecture {
    Chain(Sequential),
    Network(Network),
}

impl Architecture {
    /// The nodes in order, checked.
    pub fn graph(&self) -> Result<Graph> {
        match self {
            Architecture::Chain(chain) => chain.nodes()?.graph(),
            Architecture::Network(network) => network.graph(),
        }
    }

    /// Lower bound of the number of parameters.
    pub fn depth(&self) -> usize {
        let layers: Vec<&Layer> = match self {
            Architecture::Chain(chain) => chain.layers.iter().collect(),
            Architecture::Network(network) => network.own_layers().collect(),
        };
        layers.into_iter().map(|layer| layer.operator().depth()).fold(0, usize::saturating_add)
    }

    /// The chain.
    ///
    /// # Errors
    /// A network that branches.
    pub fn chain(&self) -> Result<&Sequential> {
        match self {
            Architecture::Chain(chain) => Ok(chain),
            Architecture::Network(_) => Err(Error::Config(
                "the model is a network with branches; this needs a chain of layers (Sequential)".into(),
            )),
        }
    }
}
