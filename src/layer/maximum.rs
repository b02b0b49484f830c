//! The maximum of several inputs.

use super::operator::{Inputs, Operator, Output, Site, Trace, Upstream};
use super::several::{check_same_width, check_steps, combination};
use crate::error::Result;
use crate::kernel::{self, ElementwiseKind, NoConstants};
use crate::plan::Role;
use crate::schedule::{Builder, Sequence};
use serde::{Deserialize, Serialize};

/// The elementwise maximum of several inputs of the same shape, as
/// [Keras's Maximum](https://keras.io/api/layers/merging_layers/maximum/). Where inputs are equal, the gradient goes to the first of
/// them. A layer of networks that branch.
///
/// ```
/// use wgpu_lstm::Maximum;
/// assert_eq!(Maximum::new(2).inputs(), 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maximum {
    pub(crate) inputs: usize,
}

impl Maximum {
    /// The maximum of `inputs` tensors, at least 1.
    pub fn new(inputs: usize) -> Maximum {
        Maximum { inputs }
    }

    /// Tensors that it compares.
    pub fn inputs(&self) -> usize {
        self.inputs
    }
}

impl Operator for Maximum {
    fn kind(&self) -> &'static str {
        "maximum"
    }

    fn describe(&self) -> String {
        format!("Maximum({})", self.inputs)
    }

    fn validate(&self, name: &str, inputs: &[usize]) -> Result<()> {
        check_same_width(name, "compares", inputs)
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>> {
        Ok(vec![site.step(site.input())])
    }

    fn forward(&self, plan: &mut Builder, site: &Site, Inputs { x, .. }: Inputs) -> Result<Output> {
        check_steps(site, "compares", x)?;
        plan.section(format!("{} forward", site.name));
        let y = combination(plan, site, ElementwiseKind::Maximum, x)?;
        Ok(Output::new(y.clone(), Compared { x: x.to_vec(), y }))
    }
}

struct Compared {
    x: Vec<Sequence>,
    y: Sequence,
}

impl Trace for Compared {
    /// Each input but the last takes the gradient where it is the maximum, and leaves the rest in `dy`, which is then that of the last.
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
        let mut all = Vec::new();
        for (k, x) in self.x[..self.x.len() - 1].iter().enumerate() {
            let name = format!("{}.dx{k}", site.name);
            let dx = plan.sequence(&name, [dy.steps, site.batch, dy.features], 0, Role::Scratch)?;
            for part in x.parts(dy) {
                let [from, made, rest, to] = [x, &self.y, dy, &dx].map(|tensor| tensor.at(part.start));
                let params = kernel::MaximumBackward {
                    steps: part.len() as u32,
                    batch: site.batch,
                    features: dy.features,
                    x_offset: from.1,
                    x_step: x.step,
                    x_row: x.row,
                    y_offset: made.1,
                    rest_offset: rest.1,
                    dx_offset: to.1,
                };
                plan.push(&kernel::MAXIMUM_BACKWARD, None, &NoConstants, &params, &[from.0, made.0, rest.0, to.0]);
            }
            all.push(dx);
        }
        all.push(dy.clone());
        Ok(all)
    }
}
