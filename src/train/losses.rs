//! Losses of the outputs of a network.

use super::Loss;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The loss of each output of a network and its weight in their sum, which training minimises, as
/// [Keras's `loss` and `loss_weights`](https://keras.io/api/models/model_training_apis/#compile-method). A [`Loss`] alone is that of
/// the only output.
///
/// ```
/// use wgpu_lstm::{Loss, Losses};
/// let both = Losses::new().output("price", Loss::Huber { delta: 1.0 }).weighted("direction", Loss::BinaryCrossEntropy, 0.2);
/// assert_eq!(both.names(), ["price", "direction"]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Losses {
    /// That of the only output.
    #[doc(hidden)]
    Only(Loss),
    /// Those of several outputs; an output without one is not trained.
    #[doc(hidden)]
    Outputs {
        /// The losses.
        outputs: Vec<NamedLoss>,
    },
}

/// The loss of an output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[doc(hidden)]
pub struct NamedLoss {
    name: String,
    loss: Loss,
    weight: f32,
}

impl From<Loss> for Losses {
    fn from(loss: Loss) -> Losses {
        Losses::Only(loss)
    }
}

impl Default for Losses {
    fn default() -> Losses {
        Losses::new()
    }
}

impl Losses {
    /// No output has a loss yet. A model that is compiled so is trained by losses of one's own
    /// ([`Model::fit_with`](crate::Model::fit_with), [`Model::step_with`](crate::Model::step_with)).
    pub fn new() -> Losses {
        Losses::Outputs { outputs: Vec::new() }
    }

    /// Adds the loss of an output, of weight 1.
    pub fn output(self, name: impl Into<String>, loss: Loss) -> Losses {
        self.weighted(name, loss, 1.0)
    }

    /// Adds the loss of an output with its weight in the sum, which is finite and at least 0.
    pub fn weighted(self, name: impl Into<String>, loss: Loss, weight: f32) -> Losses {
        let mut outputs = match self {
            Losses::Only(only) => vec![NamedLoss { name: String::new(), loss: only, weight: 1.0 }],
            Losses::Outputs { outputs } => outputs,
        };
        outputs.push(NamedLoss { name: name.into(), loss, weight });
        Losses::Outputs { outputs }
    }

    /// Names of the outputs that have a loss; none for that of the only output.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Losses::Only(_) => Vec::new(),
            Losses::Outputs { outputs } => outputs.iter().map(|output| output.name.as_str()).collect(),
        }
    }

    /// True if no output has a loss.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Losses::Outputs { outputs } if outputs.is_empty())
    }

    /// Loss and weight of each of the outputs of these names; `None` for an output without.
    ///
    /// # Errors
    /// A loss for no output, several for one, none at all; a single loss for several outputs.
    pub(crate) fn by_output(&self, names: &[&str]) -> Result<Vec<Option<(&Loss, f32)>>> {
        let outputs = match self {
            Losses::Only(loss) if names.len() == 1 => return Ok(vec![Some((loss, 1.0))]),
            Losses::Only(_) => {
                return Err(Error::Config(format!(
                    "one loss was given for a network of {} outputs ({}); name the output of each, by Losses::output",
                    names.len(),
                    names.join(", ")
                )));
            }
            Losses::Outputs { outputs } => outputs,
        };
        if outputs.is_empty() {
            return Err(Error::Config(format!("no output has a loss; the outputs are {}", names.join(", "))));
        }
        let mut all = vec![None; names.len()];
        for NamedLoss { name, loss, weight } in outputs {
            let place = names.iter().position(|known| known == name).map(|at| &mut all[at]).ok_or_else(|| {
                Error::Config(format!("a loss was given for output \"{name}\"; the outputs are {}", names.join(", ")))
            })?;
            if place.replace((loss, *weight)).is_some() {
                return Err(Error::Config(format!("two losses were given for output \"{name}\"; give one")));
            }
            if !(*weight >= 0.0 && weight.is_finite()) {
                return Err(Error::Config(format!(
                    "the weight of the loss of output \"{name}\" is {weight}; it must be finite and at least 0"
                )));
            }
        }
        Ok(all)
    }
}
