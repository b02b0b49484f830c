//! The article's cell (see [`Cell::Article`](super::Cell::Article)). Twin of `shaders/cells/article.wgsl`.

use super::{Backward, CellMath, Forward, GATES, MAX_SAVED};
use crate::real::{Real, sigmoid, tanh};

pub struct Article;

impl CellMath for Article {
    const NAME: &'static str = "article";
    const SHADER: &'static str = include_str!("../../shaders/cells/article.wgsl");
    const SAVED: usize = 5; // i, f, C̃, o, z = W_c·[h', x]

    #[inline(always)]
    fn forward<F: Real>(wx: [F; GATES], rh: [F; GATES], b: [F; GATES], c_prev: F) -> Forward<F> {
        let [zi, zf, z, zo] = std::array::from_fn(|k| wx[k] + rh[k]);
        let (i, f, o) = (sigmoid(zi + b[0]), sigmoid(zf + b[1]), sigmoid(zo + b[3]));
        let candidate = tanh(z * f + b[2]);
        let c = c_prev * (F::one() - i) + candidate * i;
        let mut saved = [F::zero(); MAX_SAVED];
        saved[..5].copy_from_slice(&[i, f, candidate, o, z]);
        Forward { h: tanh(c) * o, c, saved }
    }

    #[inline(always)]
    fn backward<F: Real>(saved: &[F; MAX_SAVED], c_prev: F, c: F, dh: F, dc: F) -> Backward<F> {
        let one = F::one();
        let [i, f, candidate, o, z, ..] = *saved;
        let tc = tanh(c);
        let d_c = dc + dh * o * (one - tc * tc);
        let d_candidate = d_c * i * (one - candidate * candidate); // before tanh: z ⊙ f + b_c
        let di = d_c * (candidate - c_prev) * i * (one - i);
        let df = d_candidate * z * f * (one - f);
        let d_o = dh * tc * o * (one - o);
        Backward { gates: [di, df, d_candidate * f, d_o], bias: [di, df, d_candidate, d_o], c_prev: d_c * (one - i) }
    }
}
