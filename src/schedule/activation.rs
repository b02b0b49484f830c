//! Activations of dense layers, and as layers of their own, forward and backward.

use super::builder::Builder;
use super::sequence::Sequence;
use crate::activation::{Activation, Shape};
use crate::error::Result;
use crate::kernel::{self, DenseConstants, SoftmaxConstants, params};
use crate::plan::{BufferId, Role};

/// Sizes of an activation layer.
#[derive(Clone, Debug)]
pub struct ActivationSizes {
    /// Prefix of the names of its buffers.
    pub name: String,
    /// Features of its input and output.
    pub features: u32,
    /// The function.
    pub activation: Activation,
}

/// The constant of the softmax kernels.
fn logarithm(activation: Activation) -> bool {
    activation == Activation::LogSoftmax
}

/// activation(y + bias) in the place of y: [rows, features] from an offset; without a bias, y alone.
pub(super) fn apply(
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
        let params = params::DenseForward { rows, features, has_bias, y_offset, alpha, beta };
        let bias = bias.unwrap_or_else(|| builder.unused());
        builder.push(&kernel::DENSE_FORWARD, None, &DenseConstants { activation: kind }, &params, &[bias, y]);
    }
    if activation.is_of_rows() {
        let params = params::SoftmaxForward { rows, features, y_offset };
        builder.push(&kernel::SOFTMAX_FORWARD, None, &SoftmaxConstants { log: logarithm(activation) }, &params, &[y]);
    }
}

/// The gradient before an activation in the place of dy, from its output y, both [rows, features] from an offset.
pub(super) fn apply_backward(
    builder: &mut Builder,
    activation: Activation,
    [rows, features]: [u32; 2],
    (y, y_offset): (BufferId, u32),
    (dy, dy_offset): (BufferId, u32),
) {
    if activation.is_of_rows() {
        let params = params::SoftmaxBackward { rows, features, y_offset, dy_offset };
        builder.push(
            &kernel::SOFTMAX_BACKWARD,
            None,
            &SoftmaxConstants { log: logarithm(activation) },
            &params,
            &[y, dy],
        );
    } else if activation != Activation::Linear {
        let Shape { kind, alpha, beta } = activation.shape();
        let params = params::DenseBackward { n: rows * features, y_offset, dy_offset, alpha, beta };
        builder.push(&kernel::DENSE_BACKWARD, None, &DenseConstants { activation: kind }, &params, &[y, dy]);
    }
}

/// y = activation(x), in a copy: x can be a history that the recurrent layer reads again.
pub fn forward(builder: &mut Builder, sizes: &ActivationSizes, x: &Sequence, batch: u32) -> Result<Sequence> {
    builder.section(format!("{} forward", sizes.name));
    let ActivationSizes { features, activation, .. } = *sizes;
    let y = builder.sequence(&format!("{}.y", sizes.name), [x.steps, batch, features], 0, Role::Scratch)?;
    for part in x.parts(&y) {
        let (to, y_offset) = y.at(part.start);
        builder.copy(
            [1, part.len() as u32, batch, features],
            x.at(part.start),
            [0, x.step as i32, x.row as i32, 1],
            (to, y_offset),
            [0, y.step as i32, y.row as i32, 1],
            false,
        );
        apply(builder, activation, None, [part.len() as u32 * batch, features], (to, y_offset));
    }
    Ok(y)
}

/// Overwrites `dy` with the gradient before the activation.
pub fn backward(builder: &mut Builder, sizes: &ActivationSizes, y: &Sequence, dy: &Sequence, batch: u32) {
    builder.section(format!("{} backward", sizes.name));
    let ActivationSizes { features, activation, .. } = *sizes;
    for part in y.parts(dy) {
        let shape = [part.len() as u32 * batch, features];
        apply_backward(builder, activation, shape, y.at(part.start), dy.at(part.start));
    }
}
