//! Cells as pure functions, and the list of all of them.
//!
//! A cell is a file here, a file of the same name in `shaders/cells/` and a line in [`CELLS`]. The step kernels do not depend on
//! a cell's equations: on the GPU its source is put in front of theirs, on the CPU they call it through the pointers of its
//! [`CellSpec`].
//!
//! ```
//! use wgpu_lstm::{Cell, cell::More};
//! let standard = Cell::Standard.spec();
//! // One unit: W·x, R·h' and b for the gates i, f, g, o, and c'
//! let out = (standard.forward.1)([0.0; 4], [0.0; 4], [0.0; 4], &[1.0, 0.0, 0.0], &More::default());
//! assert_eq!(out.states[0], 0.5); // f = σ(0) keeps half, g = tanh(0) adds nothing
//! ```

mod article;
mod general;
mod gru;
mod gru_reset_before;
mod lanes;
mod min_lstm;
mod options;
mod rnn;
mod row;
mod s_lstm;
mod settings;
mod standard;

pub use crate::activation::Shape;
pub use options::CellOption;
pub use row::{BackwardRow, ForwardRow};
pub use settings::Settings;

use crate::real::Number;
use serde::{Deserialize, Serialize};

/// Gates of a unit, in the order i, f, g, o everywhere inside the crate.
pub const GATES: usize = 4;

/// Largest number of values that a cell saves for its backward pass.
pub const MAX_SAVED: usize = 8;

/// Largest number of states that a cell has beside h.
pub const MAX_STATES: usize = 3;

/// Cells: the equations of a recurrent layer.
///
/// ```
/// use wgpu_lstm::{Cell, Lstm};
/// let lstm = Lstm::new(10).cell(Cell::Article);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
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
    /// A gated cell from an introductory article:
    ///
    /// ```text
    /// f = σ(W_f·[h', x] + b_f)    C̃ = tanh((W_c·[h', x]) ⊙ f + b_c)
    /// i = σ(W_i·[h', x] + b_i)    C = C' ⊙ (1 − i) + C̃ ⊙ i
    /// o = σ(W_o·[h', x] + b_o)    h = tanh(C) ⊙ o
    /// ```
    ///
    /// It differs from [`Cell::Standard`] in two places: the forget gate acts on the candidate's product (before the
    /// bias is added) instead of on the old cell state, and the cell state is an average of old and new weighted by
    /// the input gate alone. Weights trained for one cell are of no use in the other.
    Article,
    /// The GRU of [PyTorch](https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html) and of
    /// [Keras](https://keras.io/api/layers/recurrent_layers/gru/) with `reset_after=True` (its default):
    ///
    /// ```text
    /// r = σ(W_r·x + R_r·h' + b_r)    n = tanh(W_n·x + b_n + r ⊙ (R_n·h' + b'_n))
    /// z = σ(W_z·x + R_z·h' + b_z)    h = (1 − z) ⊙ n + z ⊙ h'
    /// ```
    ///
    /// [`Gru`](crate::Gru) makes a layer of it.
    Gru,
    /// The GRU as first published (Cho et al. 2014), of the
    /// [ONNX operator](https://onnx.ai/onnx/operators/onnx__GRU.html) with `linear_before_reset` 0 (its default) and of Keras
    /// with `reset_after=False`:
    ///
    /// ```text
    /// r = σ(W_r·x + R_r·h' + b_r)    n = tanh(W_n·x + R_n·(r ⊙ h') + b_n)
    /// z = σ(W_z·x + R_z·h' + b_z)    h = (1 − z) ⊙ n + z ⊙ h'
    /// ```
    ///
    /// [`Gru::reset_after`](crate::Gru::reset_after) selects it. A step has two products, one after the other.
    GruResetBefore,
    /// The recurrent cell of [PyTorch](https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html), of
    /// [Keras's SimpleRNN](https://keras.io/api/layers/recurrent_layers/simple_rnn/) and of the
    /// [ONNX operator](https://onnx.ai/onnx/operators/onnx__RNN.html):
    ///
    /// ```text
    /// h = tanh(W·x + b + R·h' + b')
    /// ```
    ///
    /// [`Rnn`](crate::Rnn) makes a layer of it, and [`IndRnn`](crate::IndRnn) one with as many heads as units.
    Rnn,
    /// minLSTM (Feng et al. 2024, [arXiv:2410.01201](https://arxiv.org/abs/2410.01201)), whose gates do not depend on h':
    ///
    /// ```text
    /// i = σ(W_i·x + b_i)    f = σ(W_f·x + b_f)    h = f/(f + i) ⊙ h' + i/(f + i) ⊙ (W_g·x + b_g)
    /// ```
    ///
    /// [`MinLstm`](crate::MinLstm) makes a layer of it.
    MinLstm,
    /// sLSTM of xLSTM (Beck et al. 2024, [arXiv:2405.04517](https://arxiv.org/abs/2405.04517)), with ã = W·x + R·h' + b:
    ///
    /// ```text
    /// m = max(ln σ(ã_f) + m', ã_i)    i = exp(ã_i − m)    f = exp(ln σ(ã_f) + m' − m)
    /// c = f ⊙ c' + i ⊙ tanh(ã_z)      n = f ⊙ n' + i      h = σ(ã_o) ⊙ c / n
    /// ```
    ///
    /// At the first step, where n' is 0, m is ã_i. [`SLstm`](crate::SLstm) makes a layer of it.
    SLstm,
}

impl Cell {
    /// The cell's row in [`CELLS`].
    pub fn spec(self) -> &'static CellSpec {
        &CELLS[self as usize]
    }
}

/// All cells: those of [`Cell`]'s variants in their order, then the LSTM with all options of ONNX and cuDNN, for layers that use
/// one of them.
pub static CELLS: &[CellSpec] = &[
    CellSpec::of::<standard::Standard>(),
    CellSpec::of::<article::Article>(),
    CellSpec::of::<gru::Gru>(),
    CellSpec::of::<gru_reset_before::GruResetBefore>(),
    CellSpec::of::<rnn::Rnn>(),
    CellSpec::of::<min_lstm::MinLstm>(),
    CellSpec::of::<s_lstm::SLstm>(),
    CellSpec::of::<general::General<false, false>>(),
    CellSpec::of::<general::General<true, false>>(),
    CellSpec::of::<general::General<false, true>>(),
    CellSpec::of::<general::General<true, true>>(),
];

/// The LSTM with any activations, clips and coupled gates, with or without peepholes and a normalised cell state.
pub(crate) fn general(peepholes: bool, normed: bool) -> &'static CellSpec {
    &CELLS[CELLS.len() - 4 + peepholes as usize + 2 * normed as usize]
}

/// Result of one unit's forward step.
#[derive(Clone, Copy, Debug)]
pub struct Forward<F> {
    /// New hidden state.
    pub h: F,
    /// New states, in the order of [`CellMath::STATES`]; the rest is not stored.
    pub states: [F; MAX_STATES],
    /// Values for the backward step; those past [`CellMath::SAVED`] are not stored.
    pub saved: [F; MAX_SAVED],
}

/// A unit's W·x, R·h' and bias, per gate, as they are at hand.
pub trait Terms<N>: Copy {
    /// Each of the three.
    fn apart(self) -> [[N; GATES]; 3];
    /// (W·x + R·h') + bias.
    fn sum(self) -> [N; GATES];
}

impl<N: Number> Terms<N> for [[N; GATES]; 3] {
    #[inline(always)]
    fn apart(self) -> [[N; GATES]; 3] {
        self
    }

    #[inline(always)]
    fn sum(self) -> [N; GATES] {
        let [wx, rh, b] = self;
        std::array::from_fn(|k| wx[k] + rh[k] + b[k])
    }
}

/// Result of the first part of one unit's forward step.
#[derive(Clone, Copy, Debug)]
pub struct Update<F> {
    /// The output gate, of which and of the states h is made; or h itself.
    pub output: F,
    /// New states, in the order of [`CellMath::STATES`]; the rest is not stored.
    pub states: [F; MAX_STATES],
    /// Values for the backward step; those past [`CellMath::SAVED`] are not stored.
    pub saved: [F; MAX_SAVED],
}

/// Result of one unit's backward step.
#[derive(Clone, Copy, Debug)]
pub struct Backward<F> {
    /// Gradient of the products W·x and R·h', per gate.
    pub gates: [F; GATES],
    /// Gradient of the bias, per gate; differs from `gates` if a gate multiplies the product before the bias is added.
    pub bias: [F; GATES],
    /// Gradient of the unit's further parameters.
    pub extra: [F; GATES],
    /// Gradients of the previous states, in the order of [`CellMath::STATES`].
    pub states: [F; MAX_STATES],
}

/// The states of a cell with a single one.
#[inline(always)]
fn single<N: Number>(c: N) -> [N; MAX_STATES] {
    [c, c.nothing(), c.nothing()]
}

/// Inputs of a unit beside its sums and states.
#[derive(Clone, Copy, Debug, Default)]
pub struct More<F> {
    /// Four further parameters of the unit, if the cell has them ([`CellSpec::extra`]).
    pub extra: [F; GATES],
    /// Activations and clips, for cells with settings.
    pub settings: Settings,
}

/// The equations of a cell for one hidden unit; the WGSL file of the same name has the same.
pub trait CellMath {
    /// Name in files and messages; also the shader's file name.
    const NAME: &'static str;
    /// WGSL with `cell_forward` and `cell_backward`.
    const SHADER: &'static str;
    /// States of a unit beside h, at most [`MAX_STATES`]. Each has a plane [D, B, H] in a slot of the history.
    const STATES: &'static [&'static str] = &["c"];
    /// Number of values that a unit saves for backward in each step.
    const SAVED: usize;
    /// True if a unit has four further parameters.
    const EXTRA: bool = false;
    /// Columns in use of W and of the first bias; the others are 0.
    const INPUT_GATES: &'static [usize] = &[0, 1, 2, 3];
    /// Columns in use of R and of the second bias; the others are 0.
    const RECURRENT_GATES: &'static [usize] = &[0, 1, 2, 3];
    /// True if the cell state is the hidden state.
    const STATE_IS_HIDDEN: bool = false;
    /// Kind of layer, as in automatic names.
    const KIND: &'static str = "lstm";
    /// Gate whose bias is initialised to 1 by [`Init::Keras`](crate::Init::Keras), as an index among the gates of W.
    const FORGET_GATE: Option<usize> = Some(1);
    /// Options of layers of the cell, among those that only some cells have.
    const OPTIONS: &'static [CellOption] = CellOption::ALL;

    /// The first part of one unit's step: its new states. A step has two parts because a processor looks ahead some tens of
    /// operations, and only as many units at once are on their way as that has room for: with all of a step in one chain it waits a
    /// third of the time.
    fn update<N: Number>(terms: impl Terms<N>, old: &[N; MAX_STATES], more: &More<N>) -> Update<N>;

    /// The second part: h, from [`Update::output`] and the new states.
    #[inline(always)]
    fn hidden<N: Number>(output: N, _states: &[N; MAX_STATES], _more: &More<N>) -> N {
        output
    }

    /// One step of one unit: `wx` = W·x, `rh` = R·h', `b` = bias, each per gate.
    #[inline(always)]
    fn forward<N: Number>(
        wx: [N; GATES],
        rh: [N; GATES],
        b: [N; GATES],
        old: &[N; MAX_STATES],
        more: &More<N>,
    ) -> Forward<N> {
        let Update { output, states, saved } = Self::update([wx, rh, b], old, more);
        Forward { h: Self::hidden(output, &states, more), states, saved }
    }

    /// The same step backward, from the states before and after it; `dh` and `d_new` are the gradients of h and of the new states.
    fn backward<N: Number>(
        saved: &[N; MAX_SAVED],
        old: &[N; MAX_STATES],
        new: &[N; MAX_STATES],
        dh: N,
        d_new: &[N; MAX_STATES],
        more: &More<N>,
    ) -> Backward<N>;
}

/// One unit's forward step as a plain function.
pub type ForwardUnit<F> = fn([F; GATES], [F; GATES], [F; GATES], &[F; MAX_STATES], &More<F>) -> Forward<F>;
/// One unit's backward step as a plain function.
pub type BackwardUnit<F> =
    fn(&[F; MAX_SAVED], &[F; MAX_STATES], &[F; MAX_STATES], F, &[F; MAX_STATES], &More<F>) -> Backward<F>;

/// A row of units, one step forward.
pub type ForwardRowFn<F> = fn(ForwardRow<F>);
/// A row of units, one step backward.
pub type BackwardRowFn<F> = fn(BackwardRow<F>);

/// A cell as data, for the scheduler, the composition of shaders and the CPU twins. No other crate can make one, since its source
/// becomes part of kernels that run without checks of indices.
///
/// ```compile_fail
/// use wgpu_lstm::cell::{CELLS, CellSpec};
/// let foreign = CellSpec { name: "foreign", shader: "", ..CELLS[0] };
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct CellSpec {
    /// Name in files and messages.
    pub name: &'static str,
    /// WGSL source that is put in front of the step kernels.
    pub shader: &'static str,
    /// Names of a unit's states beside h.
    pub states: &'static [&'static str],
    /// Number of values that a unit saves for backward in each step.
    pub saved: usize,
    /// True if a unit has four further parameters beside its biases.
    pub extra: bool,
    /// Columns in use of W and of the first bias; the others are 0.
    pub input_gates: &'static [usize],
    /// Columns in use of R and of the second bias; the others are 0.
    pub recurrent_gates: &'static [usize],
    /// True if the cell state is the hidden state.
    pub state_is_hidden: bool,
    /// Kind of layer, as in automatic names.
    pub kind: &'static str,
    /// Gate whose bias is initialised to 1 by [`Init::Keras`](crate::Init::Keras), as an index among the gates of W.
    pub forget_gate: Option<usize>,
    /// Options of layers of the cell, among those that only some cells have.
    pub options: &'static [CellOption],
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
    /// WGSL of the cell, after the declarations that it uses.
    pub(crate) fn source(&self) -> String {
        let states = match self.states.len() {
            1 => include_str!("../../shaders/common/states_1.wgsl"),
            _ => include_str!("../../shaders/common/states_3.wgsl"),
        };
        [states, include_str!("../../shaders/common/cell.wgsl"), self.shader].join("\n")
    }

    const fn of<C: CellMath + 'static>() -> CellSpec {
        CellSpec {
            name: C::NAME,
            shader: C::SHADER,
            states: C::STATES,
            saved: C::SAVED,
            extra: C::EXTRA,
            input_gates: C::INPUT_GATES,
            recurrent_gates: C::RECURRENT_GATES,
            state_is_hidden: C::STATE_IS_HIDDEN,
            kind: C::KIND,
            forget_gate: C::FORGET_GATE,
            options: C::OPTIONS,
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

    use crate::activation::Activation;

    #[test]
    fn the_list_follows_the_enum() {
        use Cell::*;
        for cell in [Standard, Article, Gru, GruResetBefore, Rnn, MinLstm, SLstm] {
            let json = serde_json::to_value(cell).unwrap();
            assert_eq!(json.as_str().unwrap(), cell.spec().name);
        }
        let names = [(false, false), (true, false), (false, true), (true, true)].map(|(p, n)| general(p, n).name);
        assert_eq!(names, ["general", "peephole", "normed", "normed_peephole"]);
    }

    /// Settings that use every option of a cell.
    fn all_settings() -> Vec<Settings> {
        let plain = Settings::default();
        vec![
            plain,
            Settings { coupled: true, ..plain },
            Settings { clip: 1.5, cell_clip: 0.8, ..plain },
            Settings {
                gate: Activation::KERAS_HARD_SIGMOID.shape(),
                candidate: Activation::Softsign.shape(),
                output: Activation::ScaledTanh { alpha: 1.2, beta: 0.7 }.shape(),
                ..plain
            },
            Settings {
                gate: Activation::Sigmoid.shape(),
                candidate: Activation::Affine { alpha: -0.7, beta: 0.1 }.shape(),
                output: Activation::Elu { alpha: 0.5 }.shape(),
                clip: 1.0,
                coupled: true,
                ..plain
            },
        ]
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
            for settings in all_settings().into_iter().flat_map(|settings| [settings; 100]) {
                // 0..4 W·x, 4..8 R·h', 8..12 b, 12..16 further parameters, 16..19 old states
                let mut inputs: [f64; 16 + MAX_STATES] = std::array::from_fn(|_| draw());
                if let Some(n) = spec.states.iter().position(|&state| state == "n") {
                    inputs[16 + n] = 0.1 + inputs[16 + n].abs(); // a sum of weights
                }
                let (dh, d_new): (f64, [f64; MAX_STATES]) = (draw(), std::array::from_fn(|_| draw()));
                let gate = |v: &[f64], k: usize| std::array::from_fn(|g| v[k + g]);
                let old = |v: &[f64]| std::array::from_fn(|s| v[16 + s]);
                let more = |v: &[f64]| More { extra: gate(v, 12), settings };
                let run = |v: &[f64]| (spec.forward.1)(gate(v, 0), gate(v, 4), gate(v, 8), &old(v), &more(v));
                let out = run(&inputs);
                let back = (spec.backward.1)(&out.saved, &old(&inputs), &out.states, dh, &d_new, &more(&inputs));
                for k in 0..16 + spec.states.len() {
                    let step = 1e-6;
                    let (mut up, mut down) = (inputs, inputs);
                    up[k] += step;
                    down[k] -= step;
                    let loss = |v: &[f64]| {
                        let out: Forward<f64> = run(v);
                        let states = out.states.iter().zip(&d_new).take(spec.states.len());
                        out.h * dh + states.map(|(state, d)| state * d).sum::<f64>()
                    };
                    let numeric = (loss(&up) - loss(&down)) / (2.0 * step);
                    let exact = match k {
                        // its gradient comes from outside the cell
                        0 | 4 | 8 if spec.name == "gru_reset_before" => continue,
                        0..4 if spec.input_gates.contains(&k) => back.gates[k],
                        4..8 if spec.recurrent_gates.contains(&(k - 4)) => back.gates[k - 4],
                        0..8 => continue, // a column that is always 0
                        8..12 => back.bias[k - 8],
                        12..16 => back.extra[k - 12],
                        _ => back.states[k - 16],
                    };
                    // 1e-9 absolute: the rounding of the difference itself (1e-16 / 2e-6, with a margin)
                    assert!(
                        (numeric - exact).abs() <= 1e-9 + 1e-6 * exact.abs(),
                        "{} input {k}: {numeric} {exact}, {settings:?}",
                        spec.name
                    );
                }
            }
        }
    }
}
