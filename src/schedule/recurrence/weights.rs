//! Device tensors of a recurrent layer's weights.

use crate::plan::BufferId;

/// Device tensors of one layer's weights.
#[derive(Clone, Copy, Debug)]
pub struct LayerWeights {
    /// [D, I, 4H]: columns hold the four gates of a unit side by side.
    pub w: BufferId,
    /// [D, K / heads, 4H]; one unused element if the cell has no recurrent product.
    pub r: BufferId,
    /// [D, biases + further parameters, 4H]; one unused element if there are none.
    pub bias: BufferId,
    /// [D, P, H], if the hidden state is projected.
    pub projection: Option<BufferId>,
    /// Weights of the normalisations of products and cell state.
    pub norm: Option<Norms>,
}

/// Device tensors of a layer's normalisations.
#[derive(Clone, Copy, Debug)]
pub struct Norms {
    /// Factors of W·x, [D, 4H].
    pub x: BufferId,
    /// Factors of R·h', [D, 4H].
    pub h: BufferId,
    /// Scale and bias of the cell state, [D, 2, H].
    pub c: BufferId,
}
