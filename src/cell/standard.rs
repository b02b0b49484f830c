//! The LSTM of PyTorch and Keras. Twin of `shaders/cells/standard.wgsl`.

use super::{Backward, CellMath, Forward, GATES, MAX_SAVED, More};
use crate::real::{Number, sigmoid, tanh};

pub struct Standard;

impl CellMath for Standard {
    const NAME: &'static str = "standard";
    const SHADER: &'static str = include_str!("../../shaders/cells/standard.wgsl");
    const SAVED: usize = 4; // i, f, g, o

    #[inline(always)]
    fn forward<N: Number>(wx: [N; GATES], rh: [N; GATES], b: [N; GATES], c_prev: N, _: &More<N>) -> Forward<N> {
        let [ai, af, ag, ao] = std::array::from_fn(|k| wx[k] + rh[k] + b[k]);
        let (i, f, g, o) = (sigmoid(ai), sigmoid(af), tanh(ag), sigmoid(ao));
        let c = f * c_prev + i * g;
        let mut saved = [c.nothing(); MAX_SAVED];
        saved[..4].copy_from_slice(&[i, f, g, o]);
        Forward { h: o * tanh(c), c, saved }
    }

    #[inline(always)]
    fn backward<N: Number>(saved: &[N; MAX_SAVED], c_prev: N, c: N, dh: N, dc: N, _: &More<N>) -> Backward<N> {
        let [i, f, g, o, ..] = *saved;
        let tc = tanh(c);
        let d_c = dc + dh * o * (tc * tc).one_minus();
        let gates = [
            d_c * g * i * i.one_minus(),
            d_c * c_prev * f * f.one_minus(),
            d_c * i * (g * g).one_minus(),
            dh * tc * o * o.one_minus(),
        ];
        Backward { gates, bias: gates, extra: [d_c.nothing(); GATES], c_prev: d_c * f }
    }
}
