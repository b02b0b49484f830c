//! The sum of several inputs.

use super::operator::{Inputs, Operator, Output, Site, Trace, Upstream};
use super::several::{check_same_width, check_steps, shared_gradients, sum};
use crate::error::Result;
use crate::schedule::{Builder, Sequence};
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
        check_same_width(name, "adds", inputs)
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>> {
        Ok(vec![site.step(site.input())])
    }

    fn forward(&self, plan: &mut Builder, site: &Site, Inputs { x, .. }: Inputs) -> Result<Output> {
        check_steps(site, "adds", x)?;
        plan.section(format!("{} forward", site.name));
        let y = sum(plan, site, x)?;
        Ok(Output::new(y, Sum { inputs: self.inputs }))
    }
}

struct Sum {
    inputs: usize,
}

impl Trace for Sum {
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
        shared_gradients(plan, site, dy, self.inputs)
    }
}
