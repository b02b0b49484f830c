//! sLSTM of xLSTM (Beck et al. 2024, [arXiv:2405.04517](https://arxiv.org/abs/2405.04517)): an exponential input gate, a normaliser n
//! and a stabiliser m. Twin of `shaders/cells/s_lstm.wgsl`.
//!
//! Of the paper's two forget gates this has σ, which enters the stabiliser as ln σ, as in the authors' package `xlstm`:
//!
//! ```text
//! z = tanh(ã_z)    m = max(ln σ(ã_f) + m', ã_i)    i = exp(ã_i − m)    c = f ⊙ c' + i ⊙ z
//! o = σ(ã_o)       (ã_i where n' = 0)              f = exp(ln σ(ã_f) + m' − m)    n = f ⊙ n' + i    h = o ⊙ c / n
//! ```
//!
//! The first step, from n' = 0, has m = ã_i, so that i = 1: for any ã_i, n is 1 and h is o ⊙ z. After it one of f and i is 1 in every
//! step, so n stays at least 1 and h is never divided by 0. Initial states must have n ≥ 0.

use super::{Backward, CellMath, CellOption, GATES, MAX_SAVED, MAX_STATES, More, Terms, Update};
use crate::real::Number;
use crate::real::saturating::{sigmoid_activated, sigmoid_restored, tanh_activated, tanh_restored};

pub struct SLstm;

/// Bound of ln f. It is above 0 only if n' and c' are 0, where f has no effect but must stay finite.
const LARGEST: f32 = 60.0;

impl CellMath for SLstm {
    const NAME: &'static str = "s_lstm";
    const KIND: &'static str = "s_lstm";
    const SHADER: &'static str = include_str!("../../shaders/cells/s_lstm.wgsl");
    const STATES: &'static [&'static str] = &["c", "n", "m"];
    const SAVED: usize = 5; // i and f after the stabiliser, z, o, σ of the forget gate as `saturating.rs` saves them
    const OPTIONS: &'static [CellOption] =
        &[CellOption::Heads, CellOption::RecurrentDropout, CellOption::WeightDropout];

    #[inline(always)]
    fn update<N: Number>(terms: impl Terms<N>, &[c_prev, n_prev, m_prev]: &[N; MAX_STATES], _: &More<N>) -> Update<N> {
        let [ai, af, az, ao] = terms.sum();
        let (z, o, forget) = (tanh_activated(az), sigmoid_activated(ao), sigmoid_activated(af));
        let zero = af.nothing();
        let log_forget = af.at_most(zero) - (zero - af.magnitude()).exponential().logarithm_of_one_plus();
        let carried = log_forget + m_prev;
        let m = zero.below(n_prev.magnitude(), ai.at_least(carried), ai);
        let i = (ai - m).exponential();
        let f = (carried - m).at_most(m.constant(LARGEST)).exponential();
        let (c, n) = (f * c_prev + i * z.value, f * n_prev + i);
        let mut saved = [zero; MAX_SAVED];
        saved[..5].copy_from_slice(&[i, f, z.saved, o.saved, forget.saved]);
        Update { output: o.value, states: [c, n, m], saved }
    }

    #[inline(always)]
    fn hidden<N: Number>(o: N, &[c, n, _]: &[N; MAX_STATES], _: &More<N>) -> N {
        o * (c / n)
    }

    /// c and n are both proportional to e^-m, so h = o ⊙ c / n does not depend on m, and its gradients of m by way of c and of n cancel:
    /// d_c ⊙ c + d_n ⊙ n = (o / n) ⊙ c − (o ⊙ c / n²) ⊙ n = 0. Only gradients of c, n and m themselves reach m.
    #[inline(always)]
    fn backward<N: Number>(
        saved: &[N; MAX_SAVED],
        &[c_prev, n_prev, _]: &[N; MAX_STATES],
        &[c, n, _]: &[N; MAX_STATES],
        dh: N,
        &[dc, dn, dm]: &[N; MAX_STATES],
        _: &More<N>,
    ) -> Backward<N> {
        let ([i, f], one, zero) = ([saved[0], saved[1]], dh.constant(1.0), dh.nothing());
        let (z, o, forget) = (tanh_restored(saved[2]), sigmoid_restored(saved[3]), sigmoid_restored(saved[4]));
        let y = c / n;
        let dy = dh * o.value / n;
        let (d_c, d_n) = (dc + dy, dn - dy * y);
        // m is ã_i where i is 1, else ln σ(ã_f) + m'.
        let d_m = dm - dc * c - dn * n;
        let d_carried = f * (d_c * c_prev + d_n * n_prev) + i.below(one, d_m, zero);
        let d_i = i * (d_c * z.value + d_n) + i.below(one, zero, d_m);
        let gates = [d_i, d_carried * forget.complement, d_c * i * z.slope, dh * y * o.slope];
        Backward { gates, bias: gates, extra: [zero; GATES], states: [d_c * f, d_n * f, d_carried] }
    }
}
