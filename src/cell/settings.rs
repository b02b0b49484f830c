//! Settings of a cell: activations, clips and coupled gates.

use crate::activation::{Activation, Shape};

/// Activations, clips and coupled gates of a cell; the default is the plain LSTM.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Activation of the gates i, f, o.
    pub gate: Shape,
    /// Activation of the candidate g.
    pub candidate: Shape,
    /// Activation of the cell state before h.
    pub output: Shape,
    /// Bound of the arguments of the activations of gates and candidate.
    pub clip: f32,
    /// Bound of the cell state.
    pub cell_clip: f32,
    /// True for coupled gates, f = 1 − i.
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
    /// The kinds of the three activations, a byte each, then a bit for coupled gates and a bit for a clip.
    pub fn kinds(&self) -> u32 {
        let flags = self.coupled as u32 | ((self.clip < f32::MAX) as u32) << 1;
        self.gate.kind | self.candidate.kind << 8 | self.output.kind << 16 | flags << 24
    }

    /// The settings of [`Settings::kinds`] and of the numbers in the order of the parameter blocks.
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
