//! Layers to time beside the plain one.

use wgpu_lstm::{Activation, Bias, Cell, Lstm};

/// A layer that differs from the plain one.
#[derive(Debug)]
pub struct Variant {
    /// Name in a case.
    pub name: &'static str,
    /// The layer, from the plain one.
    pub of: fn(Lstm) -> Lstm,
    /// True for sequences of different lengths.
    pub ragged: bool,
}

/// The LSTM with nothing added.
pub const PLAIN: &Variant = &ALL[0];

/// All of them. Probabilities and widths are common ones; only whether they are there matters for the time, but for the
/// projection's width.
const ALL: &[Variant] = &[
    variant("plain", |lstm| lstm),
    Variant { ragged: true, ..variant("lengths", |lstm| lstm) },
    variant("projection", |lstm| {
        let half = lstm.hidden() / 2;
        lstm.projection(half)
    }),
    variant("layer_norm", |lstm| lstm.layer_norm(true)),
    variant("peepholes", |lstm| lstm.peepholes(true)),
    variant("coupled", |lstm| lstm.coupled(true)),
    variant("clip", |lstm| lstm.clip(3.0)),
    variant("cell_clip", |lstm| lstm.cell_clip(3.0)),
    variant("hard_sigmoid", |lstm| lstm.gate_activation(Activation::HardSigmoid { alpha: 0.2, beta: 0.5 })),
    variant("gru", |lstm| lstm.cell(Cell::Gru)),
    variant("gru_reset_before", |lstm| lstm.cell(Cell::GruResetBefore)),
    variant("article", |lstm| lstm.cell(Cell::Article)),
    variant("zoneout", |lstm| lstm.zoneout(0.1, 0.1)),
    variant("dropout", |lstm| lstm.dropout(0.2)),
    variant("input_dropout", |lstm| lstm.input_dropout(0.2)),
    variant("recurrent_dropout", |lstm| lstm.recurrent_dropout(0.2)),
    variant("weight_dropout", |lstm| lstm.weight_dropout(0.2)),
    variant("heads", |lstm| lstm.heads(4)),
    variant("rnn", |lstm| lstm.cell(Cell::Rnn)),
    variant("ind_rnn", |lstm| {
        let heads = lstm.hidden();
        lstm.cell(Cell::Rnn).heads(heads)
    }),
    variant("min_lstm", |lstm| lstm.cell(Cell::MinLstm).bias(Bias::Single)),
    variant("s_lstm", |lstm| lstm.cell(Cell::SLstm).heads(4)),
];

const fn variant(name: &'static str, of: fn(Lstm) -> Lstm) -> Variant {
    Variant { name, of, ragged: false }
}

impl Variant {
    pub fn all() -> &'static [Variant] {
        ALL
    }

    pub fn find(name: &str) -> Result<&'static Variant, String> {
        let known = || ALL.iter().map(|variant| variant.name).collect::<Vec<_>>().join(", ");
        ALL.iter()
            .find(|variant| variant.name == name)
            .ok_or_else(|| format!("{name} is no variant; variants are {}", known()))
    }

    /// Lengths of B sequences of at most T steps, from T down to about half of it.
    pub fn lengths(&self, batch: usize, steps: usize) -> Option<Vec<usize>> {
        self.ragged.then(|| (0..batch).map(|row| steps - row * steps / (2 * batch)).collect())
    }
}
