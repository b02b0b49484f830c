//! The product of several inputs.

use super::operator::{Inputs, Operator, Output, Site, Trace, Upstream};
use super::several::{check_same_width, check_steps, combination, shared_gradients};
use crate::error::Result;
use crate::kernel::ElementwiseKind;
use crate::schedule::{Builder, Sequence};
use serde::{Deserialize, Serialize};

/// The elementwise product of several inputs of the same shape, as
/// [Keras's Multiply](https://keras.io/api/layers/merging_layers/multiply/). A layer of networks that branch.
///
/// ```
/// use wgpu_lstm::Multiply;
/// assert_eq!(Multiply::new(2).inputs(), 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Multiply {
    pub(crate) inputs: usize,
}

impl Multiply {
    /// The product of `inputs` tensors, at least 1.
    pub fn new(inputs: usize) -> Multiply {
        Multiply { inputs }
    }

    /// Tensors that it multiplies.
    pub fn inputs(&self) -> usize {
        self.inputs
    }
}

impl Operator for Multiply {
    fn kind(&self) -> &'static str {
        "multiply"
    }

    fn describe(&self) -> String {
        format!("Multiply({})", self.inputs)
    }

    fn validate(&self, name: &str, inputs: &[usize]) -> Result<()> {
        check_same_width(name, "multiplies", inputs)
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>> {
        Ok(vec![site.step(site.input())])
    }

    fn forward(&self, plan: &mut Builder, site: &Site, Inputs { x, .. }: Inputs) -> Result<Output> {
        check_steps(site, "multiplies", x)?;
        plan.section(format!("{} forward", site.name));
        let y = combination(plan, site, ElementwiseKind::Product, x)?;
        Ok(Output::new(y, Factors { x: x.to_vec() }))
    }
}

struct Factors {
    x: Vec<Sequence>,
}

impl Trace for Factors {
    /// The gradient of an input is that of the output times all other inputs. That of the first is made in place of `dy`.
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
        let all = shared_gradients(plan, site, dy, self.x.len())?;
        for (k, dx) in all.iter().enumerate() {
            for (_, x) in self.x.iter().enumerate().filter(|&(other, _)| other != k) {
                plan.combine(ElementwiseKind::Product, x, dx, site.batch);
            }
        }
        Ok(all)
    }
}
