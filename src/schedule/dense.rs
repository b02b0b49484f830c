//! A dense layer, forward and backward, on every step of a sequence.

use super::activation::{apply, apply_backward};
use super::builder::Builder;
use super::sequence::Sequence;
use crate::activation::Activation;
use crate::error::Result;
use crate::kernel::{self, NoConstants, params};
use crate::plan::{BufferId, Role};

/// Sizes of a dense layer.
#[derive(Clone, Debug)]
pub struct DenseSizes {
    /// Prefix of the names of its buffers.
    pub name: String,
    /// Input features.
    pub input: u32,
    /// Output features.
    pub output: u32,
    /// Whether a bias is added.
    pub bias: bool,
    /// What follows.
    pub activation: Activation,
}

/// Device tensors of a dense layer's weights.
#[derive(Clone, Copy, Debug)]
pub struct DenseWeights {
    /// [output, input], as PyTorch has it.
    pub weight: BufferId,
    /// [output]; one unused element where there is no bias.
    pub bias: BufferId,
}

/// Declares the weights of a dense layer, or their gradients.
pub fn declare_weights(builder: &mut Builder, sizes: &DenseSizes, prefix: &str, role: Role) -> Result<DenseWeights> {
    let name = format!("{prefix}{}", sizes.name);
    let (input, output) = (sizes.input as u64, sizes.output as u64);
    Ok(DenseWeights {
        weight: builder.buffer(format!("{name}.weight"), output * input, role)?,
        bias: builder.buffer(format!("{name}.bias"), if sizes.bias { output } else { 0 }, role)?,
    })
}

/// y = activation(x·Wᵀ + b).
pub fn forward(
    builder: &mut Builder,
    sizes: &DenseSizes,
    weights: DenseWeights,
    x: &Sequence,
    batch: u32,
) -> Result<Sequence> {
    builder.section(format!("{} forward", sizes.name));
    let y = builder.sequence(&format!("{}.y", sizes.name), [x.steps, batch, sizes.output], 0, Role::Scratch)?;
    for part in x.parts(&y) {
        let ((from, a_offset), (to, c_offset)) = (x.at(part.start), y.at(part.start));
        let rows = part.len() as u32 * batch;
        let product = params::Matmul {
            m: rows,
            n: sizes.output,
            k: sizes.input,
            accumulate: 0,
            m_split: batch,
            k_split: sizes.input,
            a_offset,
            a_m_hi: x.step as i32,
            a_m_lo: x.row as i32,
            a_k_hi: 0,
            a_k_lo: 1,
            b_offset: 0,
            b_k_hi: 0,
            b_k_lo: 1,
            b_n: sizes.input as i32,
            c_offset,
            c_m_hi: y.step as i32,
            c_m_lo: y.row as i32,
            part: 0,
            c_part: 0,
        };
        builder.matmul(product, from, weights.weight, to);
        let bias = sizes.bias.then_some(weights.bias);
        apply(builder, sizes.activation, bias, [rows, sizes.output], (to, c_offset));
    }
    Ok(y)
}

/// dW, db and, where wanted, dx. `dy` is overwritten with the gradient before the activation.
#[allow(clippy::too_many_arguments)] // what backward through a layer takes
pub fn backward(
    builder: &mut Builder,
    sizes: &DenseSizes,
    weights: DenseWeights,
    gradients: DenseWeights,
    x: &Sequence,
    y: &Sequence,
    dy: &Sequence,
    batch: u32,
    wants_dx: bool,
) -> Result<Option<Sequence>> {
    builder.section(format!("{} backward", sizes.name));
    let dx = match wants_dx {
        true => {
            Some(builder.sequence(&format!("{}.dx", sizes.name), [x.steps, batch, sizes.input], 0, Role::Scratch)?)
        }
        false => None,
    };
    for (index, part) in x.parts(y).into_iter().enumerate() {
        let ((from, x_at), (output, y_at), (to, dy_at)) = (x.at(part.start), y.at(part.start), dy.at(part.start));
        let rows = part.len() as u32 * batch;
        apply_backward(builder, sizes.activation, [rows, sizes.output], (output, y_at), (to, dy_at));
        let accumulate = (index > 0 || builder.adds()) as u32;
        let dw = params::Matmul {
            m: sizes.output,
            n: sizes.input,
            k: rows,
            accumulate,
            m_split: sizes.output,
            k_split: batch,
            a_offset: dy_at,
            a_m_hi: 0,
            a_m_lo: 1,
            a_k_hi: dy.step as i32,
            a_k_lo: dy.row as i32,
            b_offset: x_at,
            b_k_hi: x.step as i32,
            b_k_lo: x.row as i32,
            b_n: 1,
            c_offset: 0,
            c_m_hi: 0,
            c_m_lo: sizes.input as i32,
            part: 0,
            c_part: 0,
        };
        builder.matmul(dw, to, from, gradients.weight);
        if sizes.bias {
            let params = params::ColumnSum {
                rows,
                columns: sizes.output,
                a_offset: dy_at,
                out_offset: 0,
                copies: 1,
                accumulate,
            };
            builder.push(&kernel::COLUMN_SUM, None, &NoConstants, &params, &[to, gradients.bias]);
        }
        if let Some(dx) = &dx {
            let (target, c_offset) = dx.at(part.start);
            let product = params::Matmul {
                m: rows,
                n: sizes.input,
                k: sizes.output,
                accumulate: 0,
                m_split: batch,
                k_split: sizes.output,
                a_offset: dy_at,
                a_m_hi: dy.step as i32,
                a_m_lo: dy.row as i32,
                a_k_hi: 0,
                a_k_lo: 1,
                b_offset: 0,
                b_k_hi: 0,
                b_k_lo: sizes.input as i32,
                b_n: 1,
                c_offset,
                c_m_hi: dx.step as i32,
                c_m_lo: dx.row as i32,
                part: 0,
                c_part: 0,
            };
            builder.matmul(product, to, weights.weight, target);
        }
    }
    Ok(dx)
}
