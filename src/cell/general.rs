//! The LSTM of the ONNX operator and of cuDNN: any activations, peepholes, coupled gates, both clips. Twin of
//! `shaders/cells/general.wgsl`.

use super::{Backward, CellMath, GATES, MAX_SAVED, MAX_STATES, More, Terms, Update, single};
use crate::real::Number;
use crate::real::saturating::{Activated, Restored};

macro_rules! shader {
    ($constants:literal) => {
        concat!(
            $constants,
            include_str!("../../shaders/cells/open.wgsl"),
            include_str!("../../shaders/cells/general.wgsl")
        )
    };
}

/// The cell. PEEPHOLES: four further parameters a unit, for i, f, an unused one, and o. NORMED: this returns the output gate in place
/// of h, and another kernel computes h from it and the normalised cell state.
pub struct General<const PEEPHOLES: bool, const NORMED: bool>;

#[inline(always)]
pub(super) fn clamp<N: Number>(x: N, limit: f32) -> N {
    x.at_most(x.constant(limit)).at_least(x.constant(-limit))
}

impl<const PEEPHOLES: bool, const NORMED: bool> CellMath for General<PEEPHOLES, NORMED> {
    const NAME: &'static str = match (PEEPHOLES, NORMED) {
        (false, false) => "general",
        (true, false) => "peephole",
        (false, true) => "normed",
        (true, true) => "normed_peephole",
    };
    const SHADER: &'static str = match (PEEPHOLES, NORMED) {
        (false, false) => shader!("const EXTRA = 0u; const NORMED = 0u;\n"),
        (true, false) => shader!("const EXTRA = 1u; const NORMED = 0u;\n"),
        (false, true) => shader!("const EXTRA = 0u; const NORMED = 1u;\n"),
        (true, true) => shader!("const EXTRA = 1u; const NORMED = 1u;\n"),
    };
    const SAVED: usize = 4; // i, f, g, o as activations save them
    const EXTRA: bool = PEEPHOLES;

    #[inline(always)]
    fn update<N: Number>(
        terms: impl Terms<N>,
        &[c_prev, ..]: &[N; MAX_STATES],
        More { extra: p, settings }: &More<N>,
    ) -> Update<N> {
        let [mut ai, mut af, ag, mut ao] = terms.sum();
        if PEEPHOLES {
            ai = ai + p[0] * c_prev;
            af = af + p[1] * c_prev;
        }
        let gate = |a: N| settings.gate.activated(clamp(a, settings.clip));
        let i = gate(ai);
        let f = if settings.coupled {
            Activated { value: i.complement, complement: i.value, saved: i.complement }
        } else {
            gate(af)
        };
        let g = settings.candidate.activated(clamp(ag, settings.clip));
        let c = clamp(f.value * c_prev + i.value * g.value, settings.cell_clip);
        if PEEPHOLES {
            ao = ao + p[3] * c;
        }
        let o = gate(ao);
        let mut saved = [c.nothing(); MAX_SAVED];
        saved[..4].copy_from_slice(&[i.saved, f.saved, g.saved, o.saved]);
        Update { output: o.value, states: single(c), saved }
    }

    #[inline(always)]
    fn hidden<N: Number>(o: N, &[c, ..]: &[N; MAX_STATES], More { settings, .. }: &More<N>) -> N {
        if NORMED { o } else { o * settings.output.of(c) }
    }

    #[inline(always)]
    fn backward<N: Number>(
        saved: &[N; MAX_SAVED],
        &[c_prev, ..]: &[N; MAX_STATES],
        _: &[N; MAX_STATES],
        dh: N,
        &[dc, ..]: &[N; MAX_STATES],
        More { extra: p, settings }: &More<N>,
    ) -> Backward<N> {
        let gate = |saved: N| settings.gate.restored_within(settings.clip, saved);
        let (i, o) = (gate(saved[0]), gate(saved[3]));
        let none = c_prev.nothing();
        let f = if settings.coupled {
            Restored { value: i.complement, complement: i.value, slope: none }
        } else {
            gate(saved[1])
        };
        let g = settings.candidate.restored_within(settings.clip, saved[2]);
        // The cell state before zoneout, which may have replaced it by the old one since.
        let whole = f.value * c_prev + i.value * g.value;
        let c = clamp(whole, settings.cell_clip);
        let (ao, mut d_c) = if NORMED {
            (dh * o.slope, dc)
        } else {
            let (y, slope) = settings.output.with_slope(c);
            (dh * y * o.slope, dc + dh * o.value * slope)
        };
        if PEEPHOLES {
            d_c = d_c + ao * p[3];
        }
        let limit = c.constant(settings.cell_clip);
        let d_c = whole.magnitude().below(limit, d_c, none);
        let di = if settings.coupled { g.value - c_prev } else { g.value };
        let (ai, af) = (d_c * di * i.slope, d_c * c_prev * f.slope);
        let ag = d_c * i.value * g.slope;
        let mut back = d_c * f.value;
        if PEEPHOLES {
            back = back + ai * p[0] + af * p[1];
        }
        let gates = [ai, af, ag, ao];
        let extra = if PEEPHOLES { [ai * c_prev, af * c_prev, none, ao * c] } else { [none; GATES] };
        Backward { gates, bias: gates, extra, states: single(back) }
    }
}
