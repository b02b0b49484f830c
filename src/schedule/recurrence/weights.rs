//! Device tensors of a recurrent layer's weights.

use crate::plan::BufferId;

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
