//! All that happens between a gradient and a weight.

use super::{Optimiser, Regulariser};
use crate::error::{Error, Result};
use crate::layer::DeviceTensor;
use serde::{Deserialize, Serialize};

/// Gradient clipping.
///
/// ```
/// use wgpu_lstm::{Clip, Optimiser, Update};
/// let update = Update::new(Optimiser::sgd(0.1, 0.9)).clip(Clip::Value(0.5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Clip {
    /// The gradients of all layers together are scaled down to at most this norm, as
    /// [`torch.nn.utils.clip_grad_norm_`](https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html)
    /// and Keras's `global_clipnorm` do.
    Norm(f32),
    /// Each element of each gradient is cut off at ± this, as
    /// [`torch.nn.utils.clip_grad_value_`](https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_value_.html)
    /// and Keras's `clipvalue` do.
    Value(f32),
}

/// All that happens between a gradient and a weight, in this order: penalties are added, the gradient is clipped, the
/// optimiser takes its step with its weight decay, norms are bounded.
///
/// An [`Optimiser`] alone is an update without the rest, so [`Model::compile`](crate::Model::compile) takes either.
///
/// ```
/// use wgpu_lstm::{Clip, Dense, Device, Loss, Lstm, Optimiser, Regulariser, Sequential, Update};
/// let mut model = Sequential::new(3).add(Lstm::new(8)).add(Dense::new(1)).build(&Device::cpu(), 0)?;
/// let update = Update::new(Optimiser::adamw(1e-3, 0.01))
///     .clip(Clip::Norm(1.0))
///     .regularise(Regulariser::l2(1e-4).on("weight_hh"));
/// model.compile(Loss::Huber { delta: 1.0 }, update)?;
/// # Ok::<(), wgpu_lstm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// The optimiser.
    pub optimiser: Optimiser,
    /// Gradient clipping, if any.
    pub clip: Option<Clip>,
    /// Penalties and bounds, each on the parameters that it names.
    pub regularisers: Vec<Regulariser>,
}

impl From<Optimiser> for Update {
    fn from(optimiser: Optimiser) -> Update {
        Update::new(optimiser)
    }
}

impl Update {
    /// An optimiser's steps as they are.
    pub fn new(optimiser: Optimiser) -> Update {
        Update { optimiser, clip: None, regularisers: Vec::new() }
    }

    /// Clips gradients.
    pub fn clip(self, clip: Clip) -> Update {
        Update { clip: Some(clip), ..self }
    }

    /// Adds a penalty or a bound; several may name the same parameter, and then all act, in their order.
    pub fn regularise(mut self, regulariser: Regulariser) -> Update {
        self.regularisers.push(regulariser);
        self
    }

    /// Refuses settings out of range, and regularisers that name no parameter of these tensors or only a part of what the
    /// device keeps together.
    pub(crate) fn validate(&self, tensors: &[DeviceTensor]) -> Result<()> {
        self.optimiser.validate()?;
        if let Some(clip) = self.clip {
            let (what, limit) = match clip {
                Clip::Norm(limit) => ("clip_norm", limit),
                Clip::Value(limit) => ("the value that gradients are clipped to", limit),
            };
            if !(limit > 0.0 && limit.is_finite()) {
                return Err(Error::Config(format!("{what} is {limit}; it must be finite and above 0")));
            }
        }
        self.regularisers.iter().try_for_each(|regulariser| regulariser.validate(tensors))
    }
}
