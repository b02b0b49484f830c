//! LSTM cells as pure functions, and the one list of them.
//!
//! A cell is a file here, a file of the same name in `shaders/cells/` and a line in [`CELLS`]. The step kernels know
//! nothing of a cell's equations: on the GPU its source stands in front of theirs, on the CPU they call it through the
//! pointers of its [`CellSpec`].
//!
//! ```
//! use wgpu_lstm::{Cell, cell::CELLS};
//! let standard = Cell::Standard.spec();
//! // One unit: W·x, R·h' and b for the gates i, f, g, o, and c'
//! let out = (standard.forward.1)([0.0; 4], [0.0; 4], [0.0; 4], 1.0);
//! assert_eq!(out.c, 0.5); // f = σ(0) keeps half, g = tanh(0) adds nothing
//! assert_eq!(CELLS.len(), 2);
//! ```

mod article;
mod lanes;
mod row;
mod standard;

pub use row::{BackwardRow, ForwardRow};

use crate::real::Number;
use serde::{Deserialize, Serialize};

/// Gates of a cell, in the order i, f, g, o everywhere inside the crate.
pub const GATES: usize = 4;

/// Room for the values that a cell may keep for its backward pass.
pub const MAX_SAVED: usize = 8;

/// Which equations a layer runs.
///
/// ```
/// use wgpu_lstm::{Cell, Lstm};
/// let lstm = Lstm::new(10).cell(Cell::Article);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// The LSTM of [PyTorch](https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html) and
    /// [Keras](https://keras.io/api/layers/recurrent_layers/lstm/):
    ///
    /// ```text
    /// i = σ(W_i·x + R_i·h' + b_i)    g = tanh(W_g·x + R_g·h' + b_g)    c = f ⊙ c' + i ⊙ g
    /// f = σ(W_f·x + R_f·h' + b_f)    o = σ(W_o·x + R_o·h' + b_o)       h = o ⊙ tanh(c)
    /// ```
    #[default]
    Standard,
    /// A gated cell found in an introductory article:
    ///
    /// ```text
    /// f = σ(W_f·[h', x] + b_f)    C̃ = tanh((W_c·[h', x]) ⊙ f + b_c)
    /// i = σ(W_i·[h', x] + b_i)    C = C' ⊙ (1 − i) + C̃ ⊙ i
    /// o = σ(W_o·[h', x] + b_o)    h = tanh(C) ⊙ o
    /// ```
    ///
    /// It differs from [`Cell::Standard`] in two places: the forget gate acts on the candidate's product (before the
    /// bias is added) instead of on the old cell state, and the cell state is an average of old and new weighted by
    /// the input gate alone. Weights made for one cell mean nothing to the other.
    Article,
}

impl Cell {
    /// The cell's row in [`CELLS`].
    pub fn spec(self) -> &'static CellSpec {
        &CELLS[self as usize]
    }
}

/// All cells, in the order of [`Cell`]'s variants.
pub static CELLS: &[CellSpec] = &[CellSpec::of::<standard::Standard>(), CellSpec::of::<article::Article>()];

/// What one unit's step returns. `saved` holds [`CellMath::SAVED`] values for the backward step.
#[derive(Clone, Copy, Debug)]
pub struct Forward<F> {
    /// New hidden state.
    pub h: F,
    /// New cell state.
    pub c: F,
    /// What the backward step needs; entries past [`CellMath::SAVED`] are not stored.
    pub saved: [F; MAX_SAVED],
}

/// What one unit's backward step returns.
#[derive(Clone, Copy, Debug)]
pub struct Backward<F> {
    /// Gradient of the products W·x and R·h', per gate.
    pub gates: [F; GATES],
    /// Gradient of the bias, per gate; differs from `gates` where a gate multiplies the product before the bias.
    pub bias: [F; GATES],
    /// Gradient of the previous cell state.
    pub c_prev: F,
}

/// The mathematics of a cell for one hidden unit; the WGSL file of the same name says the same.
pub trait CellMath {
    /// Name in files and messages; also the shader's file name.
    const NAME: &'static str;
    /// WGSL with `cell_forward` and `cell_backward`.
    const SHADER: &'static str;
    /// How many values per unit and step the backward pass needs.
    const SAVED: usize;

    /// One step of one unit: `wx` = W·x, `rh` = R·h', `b` = bias, each per gate.
    fn forward<N: Number>(wx: [N; GATES], rh: [N; GATES], b: [N; GATES], c_prev: N) -> Forward<N>;

    /// The same step backward: `dh` and `dc` are the gradients of the new states.
    fn backward<N: Number>(saved: &[N; MAX_SAVED], c_prev: N, c: N, dh: N, dc: N) -> Backward<N>;
}

/// One unit's forward step as a plain function.
pub type ForwardUnit<F> = fn([F; GATES], [F; GATES], [F; GATES], F) -> Forward<F>;
/// One unit's backward step as a plain function.
pub type BackwardUnit<F> = fn(&[F; MAX_SAVED], F, F, F, F) -> Backward<F>;

/// A row of units, one step forward.
pub type ForwardRowFn<F> = fn(ForwardRow<F>);
/// A row of units, one step backward.
pub type BackwardRowFn<F> = fn(BackwardRow<F>);

/// A cell as data: what the scheduler, the shader composition and the CPU twins need to know of it.
#[derive(Debug)]
pub struct CellSpec {
    /// Name in files and messages.
    pub name: &'static str,
    /// WGSL source that stands in front of the step kernels.
    pub shader: &'static str,
    /// Values per unit and step kept for the backward pass.
    pub saved: usize,
    /// Forward step in f32 and f64.
    pub forward: (ForwardUnit<f32>, ForwardUnit<f64>),
    /// Backward step in f32 and f64.
    pub backward: (BackwardUnit<f32>, BackwardUnit<f64>),
    /// Forward step of a row of units, vectorised.
    pub forward_row: (ForwardRowFn<f32>, ForwardRowFn<f64>),
    /// Backward step of a row of units, vectorised.
    pub backward_row: (BackwardRowFn<f32>, BackwardRowFn<f64>),
}

impl CellSpec {
    const fn of<C: CellMath + 'static>() -> CellSpec {
        CellSpec {
            name: C::NAME,
            shader: C::SHADER,
            saved: C::SAVED,
            forward: (C::forward::<f32>, C::forward::<f64>),
            backward: (C::backward::<f32>, C::backward::<f64>),
            forward_row: (row::forward_f32::<C>, row::forward_f64::<C>),
            backward_row: (row::backward_f32::<C>, row::backward_f64::<C>),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_follows_the_enum() {
        for cell in [Cell::Standard, Cell::Article] {
            let json = serde_json::to_value(cell).unwrap();
            assert_eq!(json.as_str().unwrap(), cell.spec().name);
        }
        assert_eq!(CELLS.len(), 2);
    }

    /// A unit's gradients against central differences, in f64.
    #[test]
    fn backward_is_the_derivative_of_forward() {
        let mut state = 1u64;
        let mut draw = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 11) as f64 / (1u64 << 53) as f64 * 4.0 - 2.0
        };
        for spec in CELLS {
            for _ in 0..200 {
                // 0..4 W·x (the gradient of R·h' is the same by symmetry, checked below), 4..8 R·h', 8..12 b, 12 c'
                let inputs: [f64; 13] = std::array::from_fn(|_| draw());
                let (dh, dc) = (draw(), draw());
                let run = |v: &[f64; 13]| {
                    let gate = |k: usize| std::array::from_fn(|g| v[k + g]);
                    (spec.forward.1)(gate(0), gate(4), gate(8), v[12])
                };
                let out = run(&inputs);
                let back = (spec.backward.1)(&out.saved, inputs[12], out.c, dh, dc);
                for k in 0..13 {
                    let step = 1e-6;
                    let (mut up, mut down) = (inputs, inputs);
                    up[k] += step;
                    down[k] -= step;
                    let loss = |v| {
                        let out: Forward<f64> = run(v);
                        out.h * dh + out.c * dc
                    };
                    let numeric = (loss(&up) - loss(&down)) / (2.0 * step);
                    let exact = match k {
                        0..8 => back.gates[k % 4],
                        8..12 => back.bias[k - 8],
                        _ => back.c_prev,
                    };
                    // 1e-9 absolute: the rounding of the difference itself (1e-16 / 2e-6, with a margin)
                    assert!(
                        (numeric - exact).abs() <= 1e-9 + 1e-6 * exact.abs(),
                        "{} input {k}: {numeric} {exact}",
                        spec.name
                    );
                }
            }
        }
    }
}
