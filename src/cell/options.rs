//! Options of recurrent layers that only some cells have.

use std::fmt;

/// An option that only some cells have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellOption {
    /// [`Lstm::peepholes`](crate::Lstm::peepholes).
    Peepholes,
    /// [`Lstm::coupled`](crate::Lstm::coupled).
    Coupled,
    /// [`Lstm::clip`](crate::Lstm::clip).
    Clip,
    /// [`Lstm::cell_clip`](crate::Lstm::cell_clip).
    CellClip,
    /// [`Lstm::gate_activation`](crate::Lstm::gate_activation).
    GateActivation,
    /// [`Lstm::candidate_activation`](crate::Lstm::candidate_activation).
    CandidateActivation,
    /// [`Lstm::output_activation`](crate::Lstm::output_activation).
    OutputActivation,
    /// [`Lstm::projection`](crate::Lstm::projection).
    Projection,
    /// [`Lstm::layer_norm`](crate::Lstm::layer_norm).
    LayerNorm,
    /// [`Lstm::zoneout`](crate::Lstm::zoneout).
    Zoneout,
    /// [`Lstm::heads`](crate::Lstm::heads).
    Heads,
    /// [`Lstm::recurrent_dropout`](crate::Lstm::recurrent_dropout).
    RecurrentDropout,
    /// [`Lstm::weight_dropout`](crate::Lstm::weight_dropout).
    WeightDropout,
}

impl CellOption {
    /// All options.
    pub const ALL: &'static [CellOption] = &[
        CellOption::Peepholes,
        CellOption::Coupled,
        CellOption::Clip,
        CellOption::CellClip,
        CellOption::GateActivation,
        CellOption::CandidateActivation,
        CellOption::OutputActivation,
        CellOption::Projection,
        CellOption::LayerNorm,
        CellOption::Zoneout,
        CellOption::Heads,
        CellOption::RecurrentDropout,
        CellOption::WeightDropout,
    ];
}

impl fmt::Display for CellOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CellOption::Peepholes => "peepholes",
            CellOption::Coupled => "coupled gates",
            CellOption::Clip => "clip",
            CellOption::CellClip => "cell clip",
            CellOption::GateActivation => "gate activation",
            CellOption::CandidateActivation => "candidate activation",
            CellOption::OutputActivation => "output activation",
            CellOption::Projection => "projection",
            CellOption::LayerNorm => "layer normalisation",
            CellOption::Zoneout => "zoneout",
            CellOption::Heads => "heads",
            CellOption::RecurrentDropout => "recurrent dropout",
            CellOption::WeightDropout => "weight dropout",
        })
    }
}
