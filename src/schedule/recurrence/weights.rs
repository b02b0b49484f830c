//! Device tensors of a recurrent layer's weights.

use super::sizes::LstmSizes;
use crate::error::Result;
use crate::plan::{BufferId, Role};
use crate::schedule::builder::Builder;

/// Device tensors of one layer's weights.
#[derive(Clone, Copy, Debug)]
pub struct LayerWeights {
    /// [D, I, 4H]: columns hold the four gates of a unit side by side.
    pub w: BufferId,
    /// [D, K / heads, 4H]; one unused element where nothing sees the hidden state.
    pub r: BufferId,
    /// [D, biases + further parameters, 4H]; one unused element where there are none.
    pub bias: BufferId,
    /// [D, P, H], where the hidden state is projected.
    pub projection: Option<BufferId>,
    /// Of the normalisations of products and cell state.
    pub norm: Option<Norms>,
}

/// Device tensors of a layer's normalisations.
#[derive(Clone, Copy, Debug)]
pub struct Norms {
    /// Factors of W·x, [D, 4H].
    pub x: BufferId,
    /// Factors of R·h', [D, 4H].
    pub h: BufferId,
    /// Factors of the cell state and what is added to it, [D, 2, H].
    pub c: BufferId,
}

/// Declares a tensor of a direction's elements, for all directions.
pub(super) type DeclareTensor<'a> = dyn FnMut(&str, u64) -> Result<BufferId> + 'a;

/// Declares the weights of a stack, or their gradients (`prefix` "grad ", [`Role::Gradient`]).
pub fn declare_weights(
    builder: &mut Builder,
    sizes: &LstmSizes,
    prefix: &str,
    role: Role,
) -> Result<Vec<LayerWeights>> {
    let (columns, directions) = (sizes.columns() as u64, sizes.directions as u64);
    (0..sizes.layers)
        .map(|layer| {
            let name = format!("{prefix}{}.l{layer}", sizes.name);
            let mut tensor = |kind: &str, len: u64| builder.buffer(format!("{name}.{kind}"), directions * len, role);
            let mut weights = LayerWeights {
                w: tensor("w", sizes.layer_input(layer) as u64 * columns)?,
                r: tensor("r", sizes.r_len() / directions)?,
                bias: tensor("bias", sizes.parameters() as u64 * columns)?,
                projection: None,
                norm: None,
            };
            for declare in sizes.stages.iter().filter_map(|stage| stage.declare) {
                declare(sizes, &mut tensor, &mut weights)?;
            }
            Ok(weights)
        })
        .collect()
}
