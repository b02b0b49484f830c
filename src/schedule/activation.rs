//! An activation as a layer of its own, forward and backward, by the kernels of dense layers.

use super::builder::Builder;
use super::sequence::Sequence;
use crate::activation::{Activation, Shape};
use crate::error::Result;
use crate::kernel::{self, params};
use crate::plan::Role;

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

impl ActivationSizes {
    /// The constant of the softmax kernels.
    fn logarithm(&self) -> u32 {
        (self.activation == Activation::LogSoftmax) as u32
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
        let rows = part.len() as u32 * batch;
        if activation.is_of_rows() {
            let params = params::SoftmaxForward { rows, features, y_offset };
            builder.push(&kernel::SOFTMAX_FORWARD, None, &[sizes.logarithm()], &params, &[to]);
        } else if activation != Activation::Linear {
            let Shape { kind, alpha, beta } = activation.shape();
            let params = params::DenseForward { rows, features, has_bias: 0, y_offset, alpha, beta };
            let bias = builder.unused();
            builder.push(&kernel::DENSE_FORWARD, None, &[kind], &params, &[bias, to]);
        }
    }
    Ok(y)
}

/// Overwrites `dy` with the gradient before the activation.
pub fn backward(builder: &mut Builder, sizes: &ActivationSizes, y: &Sequence, dy: &Sequence, batch: u32) {
    builder.section(format!("{} backward", sizes.name));
    let ActivationSizes { features, activation, .. } = *sizes;
    for part in y.parts(dy) {
        let ((output, y_offset), (to, dy_offset)) = (y.at(part.start), dy.at(part.start));
        let rows = part.len() as u32 * batch;
        if activation.is_of_rows() {
            let params = params::SoftmaxBackward { rows, features, y_offset, dy_offset };
            builder.push(&kernel::SOFTMAX_BACKWARD, None, &[sizes.logarithm()], &params, &[output, to]);
        } else if activation != Activation::Linear {
            let Shape { kind, alpha, beta } = activation.shape();
            let params = params::DenseBackward { n: rows * features, y_offset, dy_offset, alpha, beta };
            builder.push(&kernel::DENSE_BACKWARD, None, &[kind], &params, &[output, to]);
        }
    }
}
