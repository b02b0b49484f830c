//! The GRU of PyTorch and Keras, whose reset gate acts after the recurrent product. Twin of `shaders/cells/gru.wgsl`.
//!
//! Its gates are r, z and n. W·x and R·h' of n have a column each, so that four columns are in use as in an LSTM: r, z, W·x of n,
//! R·h' of n. The cell state is the hidden state, through which a unit gets its own h'.

use super::general::clamp;
use super::{Backward, CellMath, CellOption, GATES, MAX_SAVED, MAX_STATES, More, Terms, Update, single};
use crate::real::Number;

pub struct Gru;

impl CellMath for Gru {
    const NAME: &'static str = "gru";
    const SHADER: &'static str =
        concat!(include_str!("../../shaders/cells/open.wgsl"), include_str!("../../shaders/cells/gru.wgsl"));
    const SAVED: usize = 4; // r, z, n as activations save them, R·h' of n with its bias
    const INPUT_GATES: &'static [usize] = &[0, 1, 2];
    const RECURRENT_GATES: &'static [usize] = &[0, 1, 3];
    const STATE_IS_HIDDEN: bool = true;
    const KIND: &'static str = "gru";
    const FORGET_GATE: Option<usize> = None;
    const OPTIONS: &'static [CellOption] = &[
        CellOption::Clip,
        CellOption::GateActivation,
        CellOption::CandidateActivation,
        CellOption::Heads,
        CellOption::RecurrentDropout,
        CellOption::WeightDropout,
    ];

    #[inline(always)]
    fn update<N: Number>(
        terms: impl Terms<N>,
        &[c_prev, ..]: &[N; MAX_STATES],
        More { settings, .. }: &More<N>,
    ) -> Update<N> {
        let [wx, rh, b] = terms.apart();
        let [ar, az, _, q] = std::array::from_fn(|k| if k == 3 { rh[k] + b[k] } else { wx[k] + rh[k] + b[k] });
        let gate = |a: N| settings.gate.activated(clamp(a, settings.clip));
        let (r, z) = (gate(ar), gate(az));
        let n = settings.candidate.activated(clamp(wx[2] + b[2] + r.value * q, settings.clip));
        let h = z.complement * n.value + z.value * c_prev;
        let mut saved = [h.nothing(); MAX_SAVED];
        saved[..4].copy_from_slice(&[r.saved, z.saved, n.saved, q]);
        Update { output: h, states: single(h), saved }
    }

    #[inline(always)]
    fn backward<N: Number>(
        saved: &[N; MAX_SAVED],
        &[c_prev, ..]: &[N; MAX_STATES],
        _: &[N; MAX_STATES],
        dh: N,
        &[dc, ..]: &[N; MAX_STATES],
        More { settings, .. }: &More<N>,
    ) -> Backward<N> {
        let d = dh + dc;
        let r = settings.gate.restored_within(settings.clip, saved[0]);
        let z = settings.gate.restored_within(settings.clip, saved[1]);
        let (n, q) = (settings.candidate.restored_within(settings.clip, saved[2]), saved[3]);
        let dn = d * z.complement * n.slope; // before its activation
        let gates = [dn * q * r.slope, d * (c_prev - n.value) * z.slope, dn, dn * r.value];
        Backward { gates, bias: gates, extra: [d.nothing(); GATES], states: single(d * z.value) }
    }
}
