//! The table of a model's layers.

use super::parameters::SharedParameters;
use crate::network::Node;
use std::fmt::Write;

/// Name, kind, output shape and parameters of each layer.
pub(super) fn table(layers: &[Node], parameters: &SharedParameters) -> String {
    let mut rows = vec![["layer".to_string(), "what".into(), "output".into(), "parameters".into()]];
    let mut whole = true;
    for node in layers {
        let (name, operator) = (&node.name, node.layer.operator());
        whole &= !operator.ends_sequence();
        let output = if whole { format!("[B, T, {}]", node.output()) } else { format!("[B, {}]", node.output()) };
        let prefix = format!("{name}.");
        rows.push([name.clone(), operator.describe(), output, parameters.count(&prefix).to_string()]);
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
