//! The LSTM of the ONNX operator and of cuDNN: any activations, peepholes, coupled gates, both clips. Twin of
//! `shaders/cells/general.wgsl`.

use super::{Backward, CellMath, Forward, GATES, MAX_SAVED, More};
use crate::activation::Shape;
use crate::real::Number;

macro_rules! shader {
    ($constants:literal) => {
        concat!(
            $constants,
            include_str!("../../shaders/cells/open.wgsl"),
            include_str!("../../shaders/cells/general.wgsl")
        )
    };
}

/// With peepholes (one more vector of four for each unit: for i, for f, unused, for o) or without; with the cell state normalised on
/// its way to h, which then another kernel makes, of it and of the output gate that this gives for h, or not.
pub struct General<const PEEPHOLES: bool, const NORMED: bool>;

#[inline(always)]
pub(super) fn clamp<N: Number>(x: N, limit: f32) -> N {
    x.at_most(x.constant(limit)).at_least(x.constant(-limit))
}

/// The slope of an activation behind the clip, in terms of its value: nothing where the clip has cut. Where a value equals
/// the clip's by rounding alone, the slope is nothing in any case or the sum lies on the clip.
#[inline(always)]
pub(crate) fn slope_within<N: Number>(shape: Shape, clip: f32, y: N) -> N {
    if clip == f32::MAX {
        return shape.slope(y);
    }
    let (one, other) = (shape.of(y.constant(clip)), shape.of(y.constant(-clip)));
    let (low, high) = (one.at_most(other), one.at_least(other));
    low.below(y, y.below(high, shape.slope(y), y.nothing()), y.nothing())
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
    const SAVED: usize = 4; // i, f, g, o
    const EXTRA: bool = PEEPHOLES;

    #[inline(always)]
    fn forward<N: Number>(
        wx: [N; GATES],
        rh: [N; GATES],
        b: [N; GATES],
        c_prev: N,
        More { extra: p, settings }: &More<N>,
    ) -> Forward<N> {
        let [mut ai, mut af, ag, mut ao] = std::array::from_fn(|k| wx[k] + rh[k] + b[k]);
        if PEEPHOLES {
            ai = ai + p[0] * c_prev;
            af = af + p[1] * c_prev;
        }
        let gate = |a: N| settings.gate.of(clamp(a, settings.clip));
        let i = gate(ai);
        let f = if settings.coupled { i.one_minus() } else { gate(af) };
        let g = settings.candidate.of(clamp(ag, settings.clip));
        let c = clamp(f * c_prev + i * g, settings.cell_clip);
        if PEEPHOLES {
            ao = ao + p[3] * c;
        }
        let o = gate(ao);
        let mut saved = [c.nothing(); MAX_SAVED];
        saved[..4].copy_from_slice(&[i, f, g, o]);
        Forward { h: if NORMED { o } else { o * settings.output.of(c) }, c, saved }
    }

    #[inline(always)]
    fn backward<N: Number>(
        saved: &[N; MAX_SAVED],
        c_prev: N,
        _: N,
        dh: N,
        dc: N,
        More { extra: p, settings }: &More<N>,
    ) -> Backward<N> {
        let [i, f, g, o, ..] = *saved;
        let none = c_prev.nothing();
        // The state that went to h: zoneout may have put the old one in its place since.
        let whole = f * c_prev + i * g;
        let c = clamp(whole, settings.cell_clip);
        let gate = |d: N, y: N| d * slope_within(settings.gate, settings.clip, y);
        let (ao, mut d_c) = if NORMED {
            (gate(dh, o), dc)
        } else {
            let y = settings.output.of(c);
            (gate(dh * y, o), dc + dh * o * settings.output.slope(y))
        };
        if PEEPHOLES {
            d_c = d_c + ao * p[3];
        }
        let limit = c.constant(settings.cell_clip);
        let d_c = whole.magnitude().below(limit, d_c, none);
        let (di, af) = if settings.coupled { (g - c_prev, none) } else { (g, gate(d_c * c_prev, f)) };
        let ai = gate(d_c * di, i);
        let ag = d_c * i * slope_within(settings.candidate, settings.clip, g);
        let mut back = d_c * f;
        if PEEPHOLES {
            back = back + ai * p[0] + af * p[1];
        }
        let gates = [ai, af, ag, ao];
        let extra = if PEEPHOLES { [ai * c_prev, af * c_prev, none, ao * c] } else { [none; GATES] };
        Backward { gates, bias: gates, extra, c_prev: back }
    }
}
