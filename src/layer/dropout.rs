//! The dropout layer: in training, elements set to 0 at random.

use super::operator::{Inputs, Operator, Output, Site, Trace, Upstream};
use crate::activation::Activation;
use crate::error::{Error, Result};
use crate::schedule::{Builder, DropoutMask, Sequence};
use serde::{Deserialize, Serialize};

/// In training, sets elements to 0 with a probability and scales the others so that the expected value stays; in inference it is
/// the identity. As [`torch.nn.Dropout`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout.html) and
/// [Keras's Dropout](https://keras.io/api/layers/regularization_layers/dropout/).
///
/// ```
/// use wgpu_lstm::{Dense, Dropout, Lstm, Sequential};
/// let model = Sequential::new(3).add(Lstm::new(16)).add(Dropout::new(0.3)).add(Dense::new(2));
/// assert_eq!(Dropout::new(0.3).probability(), 0.3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dropout {
    pub(crate) probability: f64,
}

impl Dropout {
    /// Drops with this probability, from 0 to below 1.
    pub fn new(probability: f64) -> Dropout {
        Dropout { probability }
    }

    /// The probability.
    pub fn probability(&self) -> f64 {
        self.probability
    }
}

impl Operator for Dropout {
    fn kind(&self) -> &'static str {
        "dropout"
    }

    fn describe(&self) -> String {
        format!("Dropout({})", self.probability)
    }

    fn validate(&self, name: &str, _: &[usize]) -> Result<()> {
        let probability = self.probability;
        match (0.0..1.0).contains(&probability) {
            true => Ok(()),
            false => Err(Error::Config(format!(
                "{name}: the probability is {probability}; it must be at least 0 and below 1"
            ))),
        }
    }

    fn output_activation(&self) -> Option<Activation> {
        None
    }

    fn step_tensors(&self, _: &Site) -> Result<Vec<(String, u64)>> {
        Ok(Vec::new())
    }

    fn forward(&self, plan: &mut Builder, site: &Site, Inputs { x, .. }: Inputs) -> Result<Output> {
        let (mut y, probability) = (x[0].clone(), self.probability);
        let drops = site.train && probability > 0.0;
        let drop = drops.then(|| DropoutMask { probability, rng_stream: plan.rng_stream(), shared: false });
        if let Some(drop) = drop {
            plan.section(format!("{} forward", site.name));
            y = plan.dropout(&format!("{}.y", site.name), &y, site.batch, drop)?;
        }
        Ok(Output::new(y, Dropped(drop)))
    }
}

/// The mask; `None` in inference and for a probability of 0.
struct Dropped(Option<DropoutMask>);

impl Trace for Dropped {
    fn backward(&self, plan: &mut Builder, site: &Site, upstream: Upstream) -> Result<Vec<Sequence>> {
        let Upstream { dy, wants_dx, .. } = upstream;
        let Some(drop) = self.0.filter(|_| wants_dx) else { return Ok(vec![dy.clone()]) };
        plan.section(format!("{} backward", site.name));
        Ok(vec![plan.dropout(&format!("{}.dx", site.name), dy, site.batch, drop)?])
    }
}
