//! Several inputs side by side.

use super::operator::{Inputs, Operator, Output, Site, Trace, Upstream};
use super::several::{check_steps, check_widths};
use crate::error::Result;
use crate::plan::Role;
use crate::schedule::{Builder, Sequence, size};
use serde::{Deserialize, Serialize};

/// Several inputs side by side, along the features: [B, T, F₁], [B, T, F₂], ... to [B, T, F₁ + F₂ + ...], or vectors [B, F₁], [B, F₂], ...
/// As [Keras's Concatenate](https://keras.io/api/layers/merging_layers/concatenate/) and
/// [`torch.cat`](https://docs.pytorch.org/docs/stable/generated/torch.cat.html) along the last axis. A layer of networks that branch.
///
/// ```
/// use wgpu_lstm::Concat;
/// assert_eq!(Concat::new(2).inputs(), 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concat {
    pub(crate) inputs: usize,
}

impl Concat {
    /// `inputs` tensors side by side, at least 1. Their widths may differ.
    pub fn new(inputs: usize) -> Concat {
        Concat { inputs }
    }

    /// Tensors that it takes.
    pub fn inputs(&self) -> usize {
        self.inputs
    }
}

impl Operator for Concat {
    fn kind(&self) -> &'static str {
        "concat"
    }

    fn describe(&self) -> String {
        format!("Concat({})", self.inputs)
    }

    fn validate(&self, name: &str, inputs: &[usize]) -> Result<()> {
        check_widths(name, "concatenates", inputs)?;
        size("the number of concatenated features", inputs.iter().sum()).map(drop)
    }

    fn output(&self, inputs: &[usize]) -> usize {
        inputs.iter().sum()
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>> {
        Ok(vec![site.step(self.output(&site.inputs))])
    }

    fn forward(&self, plan: &mut Builder, site: &Site, Inputs { x, .. }: Inputs) -> Result<Output> {
        check_steps(site, "concatenates", x)?;
        plan.section(format!("{} forward", site.name));
        let features = self.output(&site.inputs) as u32;
        let y = plan.sequence(&format!("{}.y", site.name), [x[0].steps, site.batch, features], 0, Role::Scratch)?;
        for (x, own) in x.iter().zip(columns(&y, &site.inputs)) {
            plan.copy_sequence(x, &own, site.batch, false);
        }
        Ok(Output::new(y, Parts))
    }
}

/// The columns of each input in a sequence.
fn columns(all: &Sequence, widths: &[usize]) -> Vec<Sequence> {
    let mut first = 0;
    let mut next = |width: usize| {
        let own = Sequence { lead: all.lead + first, features: width as u32, ..all.clone() };
        first += width as u32;
        own
    };
    widths.iter().map(|&width| next(width)).collect()
}

struct Parts;

impl Trace for Parts {
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
        for (k, own) in columns(dy, &site.inputs).into_iter().enumerate() {
            let name = format!("{}.dx{k}", site.name);
            let dx = plan.sequence(&name, [dy.steps, site.batch, own.features], 0, Role::Scratch)?;
            plan.copy_sequence(&own, &dx, site.batch, false);
            all.push(dx);
        }
        Ok(all)
    }
}
