//! The sum of several inputs.

use super::operator::{Inputs, Operator, Output, Site, Trace, Upstream};
use crate::activation::Activation;
use crate::error::{Error, Result};
use crate::plan::Role;
use crate::schedule::{Builder, Sequence, size};
use serde::{Deserialize, Serialize};

/// The sum of several inputs of the same shape, as around a residual block (He et al. 2015) and in
/// [Keras's Add](https://keras.io/api/layers/merging_layers/add/). A layer of networks that branch; a
/// [`Sequential`](crate::Sequential) model has none and refuses it.
///
/// ```
/// use wgpu_lstm::{Add, Device, Lstm, Sequential};
/// assert_eq!(Add::new(2).inputs(), 2);
/// assert!(Sequential::new(3).add(Lstm::new(8)).add(Add::new(2)).build(&Device::cpu(), 0).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Add {
    pub(crate) inputs: usize,
}

impl Add {
    /// The sum of `inputs` tensors, at least 1.
    pub fn new(inputs: usize) -> Add {
        Add { inputs }
    }

    /// Tensors that it adds up.
    pub fn inputs(&self) -> usize {
        self.inputs
    }
}

impl Operator for Add {
    fn kind(&self) -> &'static str {
        "add"
    }

    fn describe(&self) -> String {
        format!("Add({})", self.inputs)
    }

    fn validate(&self, name: &str, inputs: &[usize]) -> Result<()> {
        if self.inputs == 0 {
            return Err(Error::Config(format!("{name}: it adds up 0 tensors; it must have at least 1")));
        }
        size("the number of input features", inputs[0])?;
        match inputs.iter().find(|&&other| other != inputs[0]) {
            Some(other) => Err(Error::Config(format!(
                "{name} adds tensors of {} and {other} features; all of them must have the same",
                inputs[0]
            ))),
            None => Ok(()),
        }
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn output_activation(&self) -> Option<Activation> {
        Some(Activation::Linear)
    }

    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>> {
        Ok(vec![site.step(site.input())])
    }

    fn forward(&self, plan: &mut Builder, site: &Site, Inputs { x, .. }: Inputs) -> Result<Output> {
        let first = &x[0];
        if let Some(other) = x.iter().find(|other| (other.steps, other.features) != (first.steps, first.features)) {
            return Err(Error::Config(format!(
                "{} adds [T, B, F] = [{}, {}, {}] to [{}, {}, {}]; all of them must have the same shape",
                site.name, other.steps, site.batch, other.features, first.steps, site.batch, first.features
            )));
        }
        plan.section(format!("{} forward", site.name));
        let y =
            plan.sequence(&format!("{}.y", site.name), [first.steps, site.batch, first.features], 0, Role::Scratch)?;
        for (k, x) in x.iter().enumerate() {
            plan.copy_sequence(x, &y, site.batch, k > 0);
        }
        Ok(Output::new(y, Sum { inputs: self.inputs }))
    }
}

struct Sum {
    inputs: usize,
}

impl Trace for Sum {
    /// Each input has a gradient of its own, since layers below overwrite theirs.
    fn backward(
        &self,
        plan: &mut Builder,
        site: &Site,
        Upstream { dy, wants_dx, .. }: Upstream,
    ) -> Result<Vec<Sequence>> {
        if !wants_dx {
            return Ok(Vec::new());
        }
        plan.section(format!("{} backward", site.name));
        let mut all = vec![dy.clone()];
        for k in 1..self.inputs {
            let name = format!("{}.dx{k}", site.name);
            let dx = plan.sequence(&name, [dy.steps, site.batch, dy.features], 0, Role::Scratch)?;
            plan.copy_sequence(dy, &dx, site.batch, false);
            all.push(dx);
        }
        Ok(all)
    }
}
