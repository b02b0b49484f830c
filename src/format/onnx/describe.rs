//! Summaries of ONNX files.

use super::scope::{Node, Scope, What};
use super::value::shape_name;
use super::{Graph, RecurrentNode};
use crate::layer::{Bias, Lstm};
use std::collections::BTreeMap;
use std::fmt::Write;

impl Graph {
    /// A summary to be printed: inputs, outputs, recurrent layers, tensors, and what is not supported.
    pub fn describe(&self) -> String {
        let mut text = format!("ONNX, operator set {}", self.opset);
        if !self.producer.is_empty() {
            text += &format!(", made by {}", self.producer);
        }
        let mut section = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                // Writing to a string cannot fail.
                let _ = write!(text, "\n{title}");
                for line in lines {
                    let _ = write!(text, "\n  {line}");
                }
            }
        };
        section("inputs", self.inputs().iter().map(|port| port.to_string()).collect());
        section("outputs", self.outputs().iter().map(|port| port.to_string()).collect());
        section("recurrent layers", self.recurrent().iter().map(layer).collect());
        let constants = self.scopes.iter().flat_map(|scope| &scope.constants);
        let held = constants.filter_map(|(name, value)| Some((name, value.as_ref().ok()?)));
        let held = held.map(|(name, value)| format!("{name} {} {}", value.kind(), shape_name(value.shape())));
        let mut tensors: Vec<String> = held.collect();
        tensors.sort();
        section("tensors", tensors);
        section("not supported", unsupported(&self.scopes, |_| true));
        text
    }
}

/// Nodes that are not supported, by operator and reason in the order of the graph.
fn groups(scopes: &[Scope]) -> Vec<(&Node, &str, usize)> {
    let mut groups: Vec<(&Node, &str, usize)> = Vec::new();
    for node in scopes.iter().flat_map(|scope| &scope.nodes) {
        let What::Unsupported(reason) = &node.what else { continue };
        match groups.iter_mut().find(|(other, why, _)| other.op == node.op && why == reason) {
            Some((.., count)) => *count += 1,
            None => groups.push((node, reason, 1)),
        }
    }
    groups
}

/// Operators that are not supported, with how many nodes have each: "Conv × 83".
pub(super) fn operators(scopes: &[Scope]) -> Vec<String> {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for (node, _, count) in groups(scopes) {
        match counts.iter_mut().find(|(op, _)| *op == node.op) {
            Some((_, all)) => *all += count,
            None => counts.push((&node.op, count)),
        }
    }
    let line = |(op, count): (&str, usize)| if count == 1 { op.to_string() } else { format!("{op} × {count}") };
    counts.into_iter().map(line).collect()
}

/// A line for each kind of what is not supported: operators, then those of the tensors that are wanted.
pub(super) fn unsupported(scopes: &[Scope], wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let line = |(node, reason, count): (&Node, &str, usize)| match count {
        1 => format!("{}: {reason}", node.title()),
        _ => format!("{} × {count}: {reason}; the first is node \"{}\"", node.op, node.name),
    };
    let mut lines: Vec<String> = groups(scopes).into_iter().map(line).collect();
    let mut tensors: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in scopes.iter().flat_map(|scope| &scope.constants) {
        if let (Err(reason), true) = (value, wanted(name)) {
            tensors.entry(reason).or_default().push(name);
        }
    }
    for (reason, mut names) in tensors {
        names.sort_unstable();
        lines.push(match names[..] {
            [name] => format!("tensor \"{name}\" {reason}"),
            _ => format!("{} tensors, \"{}\" the first: each {reason}", names.len(), names[0]),
        });
    }
    lines
}

/// A line about a recurrent layer.
fn layer(node: &RecurrentNode) -> String {
    let RecurrentNode { name, op, input, config } = node;
    match config {
        Err(reason) => format!("{name}: {op}, {reason}"),
        Ok(lstm) => {
            let input = input.map_or("given at run time".into(), |input| input.to_string());
            format!("{name}: {op}, input {input}, hidden {}{}", lstm.hidden(), options(lstm))
        }
    }
}

/// Options in which a layer differs from the plain LSTM.
fn options(lstm: &Lstm) -> String {
    let options = &lstm.options;
    let plain = crate::layer::Lstm::new(1).options;
    let mut words = String::new();
    let mut add = |word: String| words += &format!(", {word}");
    if lstm.directions() == 2 {
        add("bidirectional".into());
    }
    if options.reverse {
        add("reverse".into());
    }
    if lstm.bias == Bias::None {
        add("no bias".into());
    }
    if options.peepholes {
        add("peepholes".into());
    }
    if options.coupled {
        add("coupled gates".into());
    }
    if let Some(clip) = options.clip {
        add(format!("clip {clip}"));
    }
    for (what, own, usual) in [
        ("gate activation", options.gate_activation, plain.gate_activation),
        ("candidate activation", options.activation, plain.activation),
        ("output activation", options.output_activation, plain.output_activation),
    ] {
        if own != usual {
            add(format!("{what} {own}"));
        }
    }
    words
}
