//! Checks of layers that take several tensors of one shape.

use super::operator::Site;
use crate::error::{Error, Result};
use crate::schedule::{Sequence, size};

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
