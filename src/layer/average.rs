//! The mean of several inputs.

use super::operator::{Inputs, Operator, Output, Site, Trace, Upstream};
use super::several::{check_same_width, check_steps, shared_gradients, sum};
use crate::error::Result;
use crate::plan::BufferId;
use crate::schedule::{Builder, Sequence};
use serde::{Deserialize, Serialize};

/// The elementwise mean of several inputs of the same shape, as
/// [Keras's Average](https://keras.io/api/layers/merging_layers/average/). A layer of networks that branch.
///
/// ```
/// use wgpu_lstm::Average;
/// assert_eq!(Average::new(2).inputs(), 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Average {
    pub(crate) inputs: usize,
}

impl Average {
    /// The mean of `inputs` tensors, at least 1.
    pub fn new(inputs: usize) -> Average {
        Average { inputs }
    }

    /// Tensors that it averages.
    pub fn inputs(&self) -> usize {
        self.inputs
    }
}

impl Operator for Average {
    fn kind(&self) -> &'static str {
        "average"
    }

    fn describe(&self) -> String {
        format!("Average({})", self.inputs)
    }

    fn validate(&self, name: &str, inputs: &[usize]) -> Result<()> {
        check_same_width(name, "averages", inputs)
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>> {
        Ok(vec![site.step(site.input())])
    }

    fn forward(&self, plan: &mut Builder, site: &Site, Inputs { x, .. }: Inputs) -> Result<Output> {
        check_steps(site, "averages", x)?;
        plan.section(format!("{} forward", site.name));
        let y = sum(plan, site, x)?;
        let share = plan.constant(&format!("{}.share", site.name), 1, 1.0 / x.len() as f32)?;
        plan.multiply_by((share, 0), &y, site.batch);
        Ok(Output::new(y, Mean { inputs: x.len(), share }))
    }
}

struct Mean {
    inputs: usize,
    /// 1 / inputs, \[1\].
    share: BufferId,
}

impl Trace for Mean {
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
        plan.multiply_by((self.share, 0), dy, site.batch);
        shared_gradients(plan, site, dy, self.inputs)
    }
}
