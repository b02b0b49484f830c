//! The LSTM of PyTorch and Keras. Twin of `shaders/cells/standard.wgsl`.

use super::{Backward, CellMath, Forward, GATES, MAX_SAVED};
use crate::real::{Real, sigmoid, tanh};

pub struct Standard;

impl CellMath for Standard {
    const NAME: &'static str = "standard";
    const SHADER: &'static str = include_str!("../../shaders/cells/standard.wgsl");
    const SAVED: usize = 4; // i, f, g, o

    #[inline(always)]
    fn forward<F: Real>(wx: [F; GATES], rh: [F; GATES], b: [F; GATES], c_prev: F) -> Forward<F> {
        let [ai, af, ag, ao] = std::array::from_fn(|k| wx[k] + rh[k] + b[k]);
        let (i, f, g, o) = (sigmoid(ai), sigmoid(af), tanh(ag), sigmoid(ao));
        let c = f * c_prev + i * g;
        let mut saved = [F::zero(); MAX_SAVED];
        saved[..4].copy_from_slice(&[i, f, g, o]);
        Forward { h: o * tanh(c), c, saved }
    }

    #[inline(always)]
    fn backward<F: Real>(saved: &[F; MAX_SAVED], c_prev: F, c: F, dh: F, dc: F) -> Backward<F> {
        let one = F::one();
        let [i, f, g, o, ..] = *saved;
        let tc = tanh(c);
        let d_c = dc + dh * o * (one - tc * tc);
        let gates =
            [d_c * g * i * (one - i), d_c * c_prev * f * (one - f), d_c * i * (one - g * g), dh * tc * o * (one - o)];
        Backward { gates, bias: gates, c_prev: d_c * f }
    }
}
