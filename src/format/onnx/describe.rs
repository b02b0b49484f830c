//! What a file holds, in words.

use super::scope::What;
use super::value::shape_name;
use super::{Graph, RecurrentNode};
use crate::layer::{Bias, Lstm};
use std::fmt::Write;

impl Graph {
    /// What the file holds, to be printed: inputs, outputs, recurrent layers, tensors, and what is not supported.
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
        let mut tensors: Vec<String> = Vec::new();
        let mut problems: Vec<String> = Vec::new();
        for (name, value) in self.scopes.iter().flat_map(|scope| &scope.constants) {
            match value {
                Ok(value) => tensors.push(format!("{name} {} {}", value.kind(), shape_name(value.shape()))),
                Err(reason) => problems.push(format!("tensor \"{name}\" {reason}")),
            }
        }
        for node in self.scopes.iter().flat_map(|scope| &scope.nodes) {
            if let What::Unsupported(reason) = &node.what {
                problems.push(format!("{}: {reason}", node.title()));
            }
        }
        tensors.sort();
        problems.sort();
        section("tensors", tensors);
        section("not supported", problems);
        text
    }
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

/// What is not as in the plain layer.
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
