//! The LSTM of PyTorch and Keras. Twin of `shaders/cells/standard.wgsl`.

use super::{Backward, CellMath, GATES, MAX_SAVED, MAX_STATES, More, Terms, Update, single};
use crate::real::saturating::{sigmoid_activated, sigmoid_restored, tanh_activated, tanh_and_slope, tanh_restored};
use crate::real::{Number, tanh};

pub struct Standard;

impl CellMath for Standard {
    const NAME: &'static str = "standard";
    const SHADER: &'static str = include_str!("../../shaders/cells/standard.wgsl");
    const SAVED: usize = 4; // i, f, g, o as `saturating.rs` saves them

    #[inline(always)]
    fn update<N: Number>(terms: impl Terms<N>, &[c_prev, ..]: &[N; MAX_STATES], _: &More<N>) -> Update<N> {
        let [ai, af, ag, ao] = terms.sum();
        let (i, f, o) = (sigmoid_activated(ai), sigmoid_activated(af), sigmoid_activated(ao));
        let g = tanh_activated(ag);
        let c = f.value * c_prev + i.value * g.value;
        let mut saved = [c.nothing(); MAX_SAVED];
        saved[..4].copy_from_slice(&[i.saved, f.saved, g.saved, o.saved]);
        Update { output: o.value, states: single(c), saved }
    }

    #[inline(always)]
    fn hidden<N: Number>(o: N, &[c, ..]: &[N; MAX_STATES], _: &More<N>) -> N {
        o * tanh(c)
    }

    #[inline(always)]
    fn backward<N: Number>(
        saved: &[N; MAX_SAVED],
        &[c_prev, ..]: &[N; MAX_STATES],
        &[c, ..]: &[N; MAX_STATES],
        dh: N,
        &[dc, ..]: &[N; MAX_STATES],
        _: &More<N>,
    ) -> Backward<N> {
        let (i, f, o) = (sigmoid_restored(saved[0]), sigmoid_restored(saved[1]), sigmoid_restored(saved[3]));
        let g = tanh_restored(saved[2]);
        let (tc, slope) = tanh_and_slope(c);
        let d_c = dc + dh * o.value * slope;
        let gates = [d_c * g.value * i.slope, d_c * c_prev * f.slope, d_c * i.value * g.slope, dh * tc * o.slope];
        Backward { gates, bias: gates, extra: [d_c.nothing(); GATES], states: single(d_c * f.value) }
    }
}
