//! The table of a model's layers.

use super::parameters::SharedParameters;
use crate::network::{Graph, Node, Source};
use std::fmt::Write;

/// Name, kind, output shape and parameters of each layer; of a network that branches, also what it reads.
pub(super) fn table(graph: &Graph, parameters: &SharedParameters) -> String {
    let mut rows = vec![["layer", "what", "reads", "output", "parameters"].map(String::from)];
    for (at, node) in graph.nodes.iter().enumerate() {
        let axis = graph.axis(Source::Node(at));
        let output =
            if axis.is_some() { format!("[B, T, {}]", node.output()) } else { format!("[B, {}]", node.output()) };
        let count = match &node.shares {
            None => parameters.count(&format!("{}.", node.name)).to_string(),
            Some(owner) => format!("those of {owner}"),
        };
        rows.push([node.name.clone(), node.layer.operator().describe(), reads(graph, node), output, count]);
    }
    let shown = [true, true, !graph.is_chain(), true, true];
    let widths: [usize; 5] = std::array::from_fn(|k| rows.iter().map(|row| row[k].chars().count()).max().unwrap_or(0));
    let mut table = String::new();
    for row in rows {
        for (k, cell) in row.iter().enumerate().filter(|(k, _)| shown[*k]) {
            // Writing to a string cannot fail.
            let _ = match k {
                0 => write!(table, "{cell:<0$}", widths[0]),
                4 => writeln!(table, "  {cell:>0$}", widths[4]),
                _ => write!(table, "  {cell:<0$}", widths[k]),
            };
        }
    }
    if !graph.is_chain() {
        let outputs = graph.outputs.iter().map(|output| format!("{} = {}", output.name, graph.name(output.from)));
        let _ = writeln!(table, "outputs: {}", outputs.collect::<Vec<_>>().join(", "));
    }
    let _ = write!(table, "{} parameters in all", parameters.count(""));
    table
}

/// Names of the tensors that a node reads.
fn reads(graph: &Graph, node: &Node) -> String {
    let all: Vec<String> = node.sources.iter().chain(&node.initial).map(|&source| graph.name(source)).collect();
    all.join(", ")
}
