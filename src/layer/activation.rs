//! The activation layer, and activations inside other layers.

use super::operator::{Inputs, Operator, Output, Site, Trace, Upstream};
use crate::activation::{Activation, Shape};
use crate::error::Result;
use crate::kernel::{self, DenseConstants, SoftmaxConstants};
use crate::plan::{BufferId, Role};
use crate::schedule::{Builder, Sequence, size};

impl Operator for Activation {
    fn kind(&self) -> &'static str {
        "activation"
    }

    fn describe(&self) -> String {
        format!("Activation({})", format!("{self:?}").to_lowercase())
    }

    fn validate(&self, name: &str, _: &[usize]) -> Result<()> {
        Activation::validate(*self, &format!("{name}: the activation"))
    }

    fn output_activation(&self) -> Option<Activation> {
        Some(*self)
    }

    fn step_tensors(&self, site: &Site) -> Result<Vec<(String, u64)>> {
        size("the number of input features", site.input())?;
        Ok(vec![site.step(site.input())])
    }

    /// Computes y = activation(x) in a copy, since x can be a state history that its recurrent layer reads again.
    fn forward(&self, plan: &mut Builder, site: &Site, Inputs { x, .. }: Inputs) -> Result<Output> {
        let x = &x[0];
        plan.section(format!("{} forward", site.name));
        let y = plan.sequence(&format!("{}.y", site.name), [x.steps, site.batch, x.features], 0, Role::Scratch)?;
        plan.copy_sequence(x, &y, site.batch, false);
        for part in x.parts(&y) {
            let (to, y_offset) = y.at(part.start);
            apply(plan, *self, None, [part.len() as u32 * site.batch, x.features], (to, y_offset));
        }
        Ok(Output::new(y.clone(), Activated { activation: *self, y }))
    }
}

struct Activated {
    activation: Activation,
    y: Sequence,
}

impl Trace for Activated {
    /// Overwrites `dy` with the gradient before the activation.
    fn backward(&self, plan: &mut Builder, site: &Site, Upstream { dy, .. }: Upstream) -> Result<Vec<Sequence>> {
        plan.section(format!("{} backward", site.name));
        for part in self.y.parts(dy) {
            let shape = [part.len() as u32 * site.batch, dy.features];
            apply_backward(plan, self.activation, shape, self.y.at(part.start), dy.at(part.start));
        }
        Ok(vec![dy.clone()])
    }
}

/// Overwrites y, [rows, features] from an offset, with activation(y + bias), or with activation(y) without a bias.
pub(crate) fn apply(
    builder: &mut Builder,
    activation: Activation,
    bias: Option<BufferId>,
    [rows, features]: [u32; 2],
    (y, y_offset): (BufferId, u32),
) {
    let shape = activation.shape();
    if bias.is_some() || shape != Activation::Linear.shape() {
        let Shape { kind, alpha, beta } = shape;
        let has_bias = bias.is_some() as u32;
        let params = kernel::DenseForward { rows, features, has_bias, y_offset, alpha, beta };
        let bias = bias.unwrap_or_else(|| builder.unused());
        builder.push(&kernel::DENSE_FORWARD, None, &DenseConstants { activation: kind }, &params, &[bias, y]);
    }
    apply_to_rows(builder, activation, [rows, features], (y, y_offset));
}

/// The part of [`apply`] that takes whole rows.
pub(super) fn apply_to_rows(
    builder: &mut Builder,
    activation: Activation,
    [rows, features]: [u32; 2],
    (y, y_offset): (BufferId, u32),
) {
    if activation.is_of_rows() {
        let params = kernel::SoftmaxForward { rows, features, y_offset };
        builder.push(
            &kernel::SOFTMAX_FORWARD,
            None,
            &SoftmaxConstants { log: activation == Activation::LogSoftmax },
            &params,
            &[y],
        );
    }
}

/// Overwrites dy with the gradient before the activation, from its output y; both are [rows, features] from an offset.
pub(crate) fn apply_backward(
    builder: &mut Builder,
    activation: Activation,
    [rows, features]: [u32; 2],
    (y, y_offset): (BufferId, u32),
    (dy, dy_offset): (BufferId, u32),
) {
    if activation.is_of_rows() {
        let params = kernel::SoftmaxBackward { rows, features, y_offset, dy_offset };
        builder.push(
            &kernel::SOFTMAX_BACKWARD,
            None,
            &SoftmaxConstants { log: activation == Activation::LogSoftmax },
            &params,
            &[y, dy],
        );
    } else if activation != Activation::Linear {
        let Shape { kind, alpha, beta } = activation.shape();
        let params = kernel::DenseBackward { n: rows * features, y_offset, dy_offset, alpha, beta };
        builder.push(&kernel::DENSE_BACKWARD, None, &DenseConstants { activation: kind }, &params, &[y, dy]);
    }
}
