//! minLSTM (Feng et al. 2024, [arXiv:2410.01201](https://arxiv.org/abs/2410.01201)), with normalised gates and a linear candidate.
//! Twin of `shaders/cells/min_lstm.wgsl`.
//!
//! No gate depends on h', so there is no recurrent product: columns are i, f, the candidate and an unused one. The cell state is
//! the hidden state.

use super::{Backward, CellMath, CellOption, GATES, MAX_SAVED, MAX_STATES, More, Terms, Update, single};
use crate::real::Number;
use crate::real::saturating::{sigmoid_activated, sigmoid_restored};

pub struct MinLstm;

/// f / (f + i) and i / (f + i). No gate is below the smallest normal number, so the sum is never 0.
#[inline(always)]
fn normalised<N: Number>(f: N, i: N) -> [N; 2] {
    let sum = f + i;
    [f / sum, i / sum]
}

impl CellMath for MinLstm {
    const NAME: &'static str = "min_lstm";
    const KIND: &'static str = "min_lstm";
    const SHADER: &'static str = include_str!("../../shaders/cells/min_lstm.wgsl");
    const SAVED: usize = 3; // i, f as `saturating.rs` saves them, the candidate
    const INPUT_GATES: &'static [usize] = &[0, 1, 2];
    const RECURRENT_GATES: &'static [usize] = &[];
    const STATE_IS_HIDDEN: bool = true;
    const OPTIONS: &'static [CellOption] = &[];

    #[inline(always)]
    fn update<N: Number>(terms: impl Terms<N>, &[c_prev, ..]: &[N; MAX_STATES], _: &More<N>) -> Update<N> {
        let [wx, _, b] = terms.apart();
        let (i, f, g) = (sigmoid_activated(wx[0] + b[0]), sigmoid_activated(wx[1] + b[1]), wx[2] + b[2]);
        let [keep, take] = normalised(f.value, i.value);
        let h = keep * c_prev + take * g;
        let mut saved = [h.nothing(); MAX_SAVED];
        saved[..3].copy_from_slice(&[i.saved, f.saved, g]);
        Update { output: h, states: single(h), saved }
    }

    #[inline(always)]
    fn backward<N: Number>(
        saved: &[N; MAX_SAVED],
        &[c_prev, ..]: &[N; MAX_STATES],
        _: &[N; MAX_STATES],
        dh: N,
        &[dc, ..]: &[N; MAX_STATES],
        _: &More<N>,
    ) -> Backward<N> {
        let (d, none) = (dh + dc, dh.nothing());
        let (i, f, g) = (sigmoid_restored(saved[0]), sigmoid_restored(saved[1]), saved[2]);
        let [keep, take] = normalised(f.value, i.value);
        // keep = σ(ln f − ln i), and ln σ has the slope 1 − σ
        let d_keep = d * (c_prev - g) * keep * take;
        let gates = [none - d_keep * i.complement, d_keep * f.complement, d * take, none];
        Backward { gates, bias: gates, extra: [none; GATES], states: single(d * keep) }
    }
}
