//! The plain recurrent cell (Elman 1990) of PyTorch's `nn.RNN`, Keras's SimpleRNN and ONNX's RNN; with as many heads as units it is
//! IndRNN (Li et al. 2018). Twin of `shaders/cells/rnn.wgsl`.
//!
//! Its one gate is the first of the scan's four columns. The other three stay empty: both products are those of an LSTM of the same
//! size, four times what the cell needs, and so are the weights on the device. The cell state is the hidden state.

use super::general::clamp;
use super::{Backward, CellMath, CellOption, GATES, MAX_SAVED, MAX_STATES, More, Terms, Update, single};
use crate::real::Number;

pub struct Rnn;

impl CellMath for Rnn {
    const NAME: &'static str = "rnn";
    const KIND: &'static str = "rnn";
    const SHADER: &'static str =
        concat!(include_str!("../../shaders/cells/open.wgsl"), include_str!("../../shaders/cells/rnn.wgsl"));
    const SAVED: usize = 1; // h as its activation saves it
    const INPUT_GATES: &'static [usize] = &[0];
    const RECURRENT_GATES: &'static [usize] = &[0];
    const STATE_IS_HIDDEN: bool = true;
    const FORGET_GATE: Option<usize> = None;
    const OPTIONS: &'static [CellOption] = &[
        CellOption::CandidateActivation,
        CellOption::Clip,
        CellOption::Heads,
        CellOption::RecurrentDropout,
        CellOption::WeightDropout,
    ];

    #[inline(always)]
    fn update<N: Number>(terms: impl Terms<N>, _: &[N; MAX_STATES], More { settings, .. }: &More<N>) -> Update<N> {
        let y = settings.candidate.activated(clamp(terms.sum()[0], settings.clip));
        let mut saved = [y.value.nothing(); MAX_SAVED];
        saved[0] = y.saved;
        Update { output: y.value, states: single(y.value), saved }
    }

    #[inline(always)]
    fn backward<N: Number>(
        saved: &[N; MAX_SAVED],
        _: &[N; MAX_STATES],
        _: &[N; MAX_STATES],
        dh: N,
        &[dc, ..]: &[N; MAX_STATES],
        More { settings, .. }: &More<N>,
    ) -> Backward<N> {
        let none = dh.nothing();
        let y = settings.candidate.restored_within(settings.clip, saved[0]);
        let gates = [(dh + dc) * y.slope, none, none, none];
        Backward { gates, bias: gates, extra: [none; GATES], states: single(none) }
    }
}
