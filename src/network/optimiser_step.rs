//! An optimiser's step alone, on parameters and gradients that the host gives.

use super::pass::Trained;
use super::update::{Hyper, update};
use crate::error::Result;
use crate::layer::DeviceTensor;
use crate::plan::{Capabilities, Plan, Role};
use crate::schedule::Builder;
use crate::train::Update;

/// Plan of an optimiser's step.
#[derive(Debug)]
pub(crate) struct StepPlan {
    /// The plan.
    pub plan: Plan,
    /// The parameters that are trained, written by the host before a run and read after it, each with its gradient.
    pub trained: Vec<Trained>,
    /// Numbers that the host gives the optimiser at each step.
    pub hyper: Vec<Hyper>,
}

/// Plans a step on tensors; those that are frozen or empty are left out.
pub(crate) fn optimiser_step(
    tensors: Vec<DeviceTensor>,
    settings: &Update,
    capabilities: &Capabilities,
) -> Result<StepPlan> {
    let mut builder = Builder::trusted("optimiser step", capabilities.clone());
    let mut trained = Vec::new();
    for tensor in tensors.into_iter().filter(|tensor| tensor.len > 0 && settings.group(tensor).is_some()) {
        trained.push(Trained {
            weight: builder.buffer(format!("parameter {}", tensor.name), tensor.len, Role::Weight)?,
            gradient: builder.buffer(format!("grad {}", tensor.name), tensor.len, Role::Input)?,
            tensor,
        });
    }
    let hyper = update(&mut builder, settings, &trained)?;
    Ok(StepPlan { plan: builder.finish()?, trained, hyper })
}
