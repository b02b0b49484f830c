//! Shared by layers that take several tensors of one shape: checks, the sum, and a gradient for each input.

use super::operator::Site;
use crate::error::{Error, Result};
use crate::kernel::ElementwiseKind;
use crate::plan::Role;
use crate::schedule::{Builder, Sequence, size};

/// Refuses no inputs, and widths out of range; `does` is the layer's verb ("adds").
pub(super) fn check_widths(name: &str, does: &str, inputs: &[usize]) -> Result<()> {
    if inputs.is_empty() {
        return Err(Error::Config(format!("{name} {does} 0 tensors; it must have at least 1")));
    }
    inputs.iter().try_for_each(|&input| size("the number of input features", input).map(drop))
}

/// Refuses inputs that differ in width, too.
pub(super) fn check_same_width(name: &str, does: &str, inputs: &[usize]) -> Result<()> {
    check_widths(name, does, inputs)?;
    match inputs.iter().find(|&&other| other != inputs[0]) {
        Some(other) => Err(Error::Config(format!(
            "{name} {does} tensors of {} and {other} features; all of them must have the same",
            inputs[0]
        ))),
        None => Ok(()),
    }
}

/// Refuses inputs that differ in their number of steps.
pub(super) fn check_steps(site: &Site, does: &str, x: &[Sequence]) -> Result<()> {
    match x.iter().find(|other| other.steps != x[0].steps) {
        Some(other) => Err(Error::Config(format!(
            "{} {does} [T, B, F] = [{}, {}, {}] and [{}, {}, {}]; all of them must have the same number of steps",
            site.name, x[0].steps, site.batch, x[0].features, other.steps, site.batch, other.features
        ))),
        None => Ok(()),
    }
}

/// Plans the sum of the inputs, [T, B, F].
pub(super) fn sum(plan: &mut Builder, site: &Site, x: &[Sequence]) -> Result<Sequence> {
    let size = [x[0].steps, site.batch, x[0].features];
    let y = plan.sequence(&format!("{}.y", site.name), size, 0, Role::Scratch)?;
    for (k, x) in x.iter().enumerate() {
        plan.copy_sequence(x, &y, site.batch, k > 0);
    }
    Ok(y)
}

/// Plans the inputs combined by elementwise arithmetic, [T, B, F].
pub(super) fn combination(plan: &mut Builder, site: &Site, kind: ElementwiseKind, x: &[Sequence]) -> Result<Sequence> {
    let y = sum(plan, site, &x[..1])?;
    for x in &x[1..] {
        plan.combine(kind, x, &y, site.batch);
    }
    Ok(y)
}

/// A copy of `dy` for each of `count` inputs, the first in its place: layers below overwrite theirs.
pub(super) fn shared_gradients(plan: &mut Builder, site: &Site, dy: &Sequence, count: usize) -> Result<Vec<Sequence>> {
    let mut all = vec![dy.clone()];
    for k in 1..count {
        let name = format!("{}.dx{k}", site.name);
        let dx = plan.sequence(&name, [dy.steps, site.batch, dy.features], 0, Role::Scratch)?;
        plan.copy_sequence(dy, &dx, site.batch, false);
        all.push(dx);
    }
    Ok(all)
}
