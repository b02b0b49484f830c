//! The article's cell (see [`Cell::Article`](super::Cell::Article)). Twin of `shaders/cells/article.wgsl`.

use super::{Backward, CellMath, CellOption, GATES, MAX_SAVED, MAX_STATES, More, Terms, Update, single};
use crate::real::saturating::{sigmoid_activated, sigmoid_restored, tanh_activated, tanh_and_slope, tanh_restored};
use crate::real::{Number, tanh};

pub struct Article;

impl CellMath for Article {
    const NAME: &'static str = "article";
    const SHADER: &'static str = include_str!("../../shaders/cells/article.wgsl");
    const SAVED: usize = 5; // i, f, C̃, o as `saturating.rs` saves them, z = W_c·[h', x]
    const OPTIONS: &'static [CellOption] =
        &[CellOption::Heads, CellOption::RecurrentDropout, CellOption::WeightDropout];

    #[inline(always)]
    fn update<N: Number>(terms: impl Terms<N>, &[c_prev, ..]: &[N; MAX_STATES], _: &More<N>) -> Update<N> {
        let [wx, rh, b] = terms.apart();
        let [zi, zf, z, zo] = std::array::from_fn(|k| wx[k] + rh[k]);
        let (i, f) = (sigmoid_activated(zi + b[0]), sigmoid_activated(zf + b[1]));
        let o = sigmoid_activated(zo + b[3]);
        let candidate = tanh_activated(z * f.value + b[2]);
        let c = c_prev * i.complement + candidate.value * i.value;
        let mut saved = [c.nothing(); MAX_SAVED];
        saved[..5].copy_from_slice(&[i.saved, f.saved, candidate.saved, o.saved, z]);
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
        let (candidate, z) = (tanh_restored(saved[2]), saved[4]);
        let (tc, slope) = tanh_and_slope(c);
        let d_c = dc + dh * o.value * slope;
        let d_candidate = d_c * i.value * candidate.slope; // before tanh: z ⊙ f + b_c
        let di = d_c * (candidate.value - c_prev) * i.slope;
        let df = d_candidate * z * f.slope;
        let d_o = dh * tc * o.slope;
        Backward {
            gates: [di, df, d_candidate * f.value, d_o],
            bias: [di, df, d_candidate, d_o],
            extra: [d_c.nothing(); GATES],
            states: single(d_c * i.complement),
        }
    }
}
