//! The GRU whose reset gate acts on the hidden state before the recurrent product. Twin of `shaders/cells/gru_reset_before.wgsl`.
//!
//! Its columns are r, z, n and an unused one. Other kernels compute r and s = r ⊙ h', and add R·h' of r and z, and R·s of n, to
//! W·x; they also compute the gradient of r. The cell state is the hidden state.

use super::general::clamp;
use super::{Backward, CellMath, CellOption, GATES, MAX_SAVED, MAX_STATES, More, Terms, Update, single};
use crate::real::Number;

pub struct GruResetBefore;

impl CellMath for GruResetBefore {
    const NAME: &'static str = "gru_reset_before";
    const SHADER: &'static str = concat!(
        include_str!("../../shaders/cells/open.wgsl"),
        include_str!("../../shaders/cells/gru_reset_before.wgsl")
    );
    const SAVED: usize = 3; // r, z, n as activations save them
    const INPUT_GATES: &'static [usize] = &[0, 1, 2];
    const RECURRENT_GATES: &'static [usize] = &[0, 1, 2];
    const STATE_IS_HIDDEN: bool = true;
    const KIND: &'static str = "gru";
    const FORGET_GATE: Option<usize> = None;
    const OPTIONS: &'static [CellOption] = &[
        CellOption::Clip,
        CellOption::GateActivation,
        CellOption::CandidateActivation,
        CellOption::RecurrentDropout,
        CellOption::WeightDropout,
    ];

    #[inline(always)]
    fn update<N: Number>(
        terms: impl Terms<N>,
        &[c_prev, ..]: &[N; MAX_STATES],
        More { settings, .. }: &More<N>,
    ) -> Update<N> {
        let [ar, az, an, _] = terms.sum();
        let gate = |a: N| settings.gate.activated(clamp(a, settings.clip));
        let (r, z, n) = (gate(ar), gate(az), settings.candidate.activated(clamp(an, settings.clip)));
        let h = z.complement * n.value + z.value * c_prev;
        let mut saved = [h.nothing(); MAX_SAVED];
        saved[..3].copy_from_slice(&[r.saved, z.saved, n.saved]);
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
        let (d, none) = (dh + dc, dh.nothing());
        let z = settings.gate.restored_within(settings.clip, saved[1]);
        let n = settings.candidate.restored_within(settings.clip, saved[2]);
        let dz = d * (c_prev - n.value) * z.slope;
        let dn = d * z.complement * n.slope; // before its activation
        let gates = [none, dz, dn, none];
        Backward { gates, bias: gates, extra: [none; GATES], states: single(d * z.value) }
    }
}
