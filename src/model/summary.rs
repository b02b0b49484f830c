//! The table of a model's layers.

use crate::layer::{Layer, SharedParameters};
use crate::schedule::LayerPlan;
use std::fmt::Write;

/// Name, kind, output shape and parameters of each layer.
pub(super) fn table(layers: &[LayerPlan], parameters: &SharedParameters) -> String {
    let mut rows = vec![["layer".to_string(), "what".into(), "output".into(), "parameters".into()]];
    let mut whole = true;
    for LayerPlan { name, input, layer } in layers {
        let what = match layer {
            Layer::Lstm(lstm) => {
                let layers = if lstm.layers > 1 { format!(", {} layers", lstm.layers) } else { String::new() };
                let directions = if lstm.bidirectional { ", bidirectional" } else { "" };
                format!("LSTM({}{layers}{directions}, {} cell)", lstm.hidden, lstm.spec().name)
            }
            Layer::Dense(dense) => {
                format!("Dense({}, {})", dense.units, dense.activation.to_string().to_lowercase())
            }
            Layer::Activation(activation) => format!("Activation({})", format!("{activation:?}").to_lowercase()),
            Layer::Dropout(dropout) => format!("Dropout({})", dropout.probability),
            Layer::LayerNorm(norm) => format!("LayerNorm({:e})", norm.epsilon),
            Layer::Embedding(embedding) => format!("Embedding({}, {})", embedding.entries, embedding.features),
            Layer::Masking(masking) => format!("Masking({})", masking.value),
            Layer::Pool(pool) => format!("Pool({})", pool.name()),
        };
        whole &= !layer.ends_sequence();
        let output =
            if whole { format!("[B, T, {}]", layer.output(*input)) } else { format!("[B, {}]", layer.output(*input)) };
        let prefix = format!("{name}.");
        rows.push([name.clone(), what, output, parameters.count(&prefix).to_string()]);
    }
    let widths: [usize; 4] = std::array::from_fn(|k| rows.iter().map(|row| row[k].chars().count()).max().unwrap_or(0));
    let mut table = String::new();
    for row in rows {
        let [name, what, output, count] = &row;
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "{name:<0$}  {what:<1$}  {output:<2$}  {count:>3$}",
            widths[0], widths[1], widths[2], widths[3]
        );
    }
    let _ = write!(table, "{} parameters in all", parameters.count(""));
    table
}
