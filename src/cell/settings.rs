//! What a cell's equations leave open.

use crate::activation::{Activation, Shape};

/// Activations and limits of a cell; [`Settings::default`] are those of the plain LSTM.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Of the gates i, f, o.
    pub gate: Shape,
    /// Of the candidate g.
    pub candidate: Shape,
    /// Of the cell state on its way to h.
    pub output: Shape,
    /// Bounds what goes into the activations of gates and candidate.
    pub clip: f32,
    /// Bounds the cell state.
    pub cell_clip: f32,
    /// Whether f = 1 − i.
    pub coupled: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            gate: Activation::Sigmoid.shape(),
            candidate: Activation::Tanh.shape(),
            output: Activation::Tanh.shape(),
            clip: f32::MAX,
            cell_clip: f32::MAX,
            coupled: false,
        }
    }
}

impl Settings {
    /// The kinds of the three activations, a byte each, then whether gates are coupled and whether there is a clip, a bit each.
    pub fn kinds(&self) -> u32 {
        let flags = self.coupled as u32 | ((self.clip < f32::MAX) as u32) << 1;
        self.gate.kind | self.candidate.kind << 8 | self.output.kind << 16 | flags << 24
    }

    /// From [`Settings::kinds`] and the numbers in the order of the parameter blocks.
    pub(crate) fn of(kinds: u32, numbers: [f32; 8]) -> Settings {
        let [gate_alpha, gate_beta, candidate_alpha, candidate_beta, output_alpha, output_beta, clip, cell_clip] =
            numbers;
        let shape = |shift: u32, alpha, beta| Shape { kind: kinds >> shift & 0xff, alpha, beta };
        Settings {
            gate: shape(0, gate_alpha, gate_beta),
            candidate: shape(8, candidate_alpha, candidate_beta),
            output: shape(16, output_alpha, output_beta),
            clip,
            cell_clip,
            coupled: kinds >> 24 & 1 == 1,
        }
    }
}
