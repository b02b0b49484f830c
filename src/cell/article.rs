//! The article's cell (see [`Cell::Article`](super::Cell::Article)). Twin of `shaders/cells/article.wgsl`.

use super::{Backward, CellMath, Forward, GATES, MAX_SAVED, More};
use crate::real::{Number, sigmoid, tanh};

pub struct Article;

impl CellMath for Article {
    const NAME: &'static str = "article";
    const SHADER: &'static str = include_str!("../../shaders/cells/article.wgsl");
    const SAVED: usize = 5; // i, f, C̃, o, z = W_c·[h', x]

    #[inline(always)]
    fn forward<N: Number>(wx: [N; GATES], rh: [N; GATES], b: [N; GATES], c_prev: N, _: &More<N>) -> Forward<N> {
        let [zi, zf, z, zo] = std::array::from_fn(|k| wx[k] + rh[k]);
        let (i, f, o) = (sigmoid(zi + b[0]), sigmoid(zf + b[1]), sigmoid(zo + b[3]));
        let candidate = tanh(z * f + b[2]);
        let c = c_prev * i.one_minus() + candidate * i;
        let mut saved = [c.nothing(); MAX_SAVED];
        saved[..5].copy_from_slice(&[i, f, candidate, o, z]);
        Forward { h: tanh(c) * o, c, saved }
    }

    #[inline(always)]
    fn backward<N: Number>(saved: &[N; MAX_SAVED], c_prev: N, c: N, dh: N, dc: N, _: &More<N>) -> Backward<N> {
        let [i, f, candidate, o, z, ..] = *saved;
        let tc = tanh(c);
        let d_c = dc + dh * o * (tc * tc).one_minus();
        let d_candidate = d_c * i * (candidate * candidate).one_minus(); // before tanh: z ⊙ f + b_c
        let di = d_c * (candidate - c_prev) * i * i.one_minus();
        let df = d_candidate * z * f * f.one_minus();
        let d_o = dh * tc * o * o.one_minus();
        Backward {
            gates: [di, df, d_candidate * f, d_o],
            bias: [di, df, d_candidate, d_o],
            extra: [d_c.nothing(); GATES],
            c_prev: d_c * i.one_minus(),
        }
    }
}
