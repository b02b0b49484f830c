//! PyTorch's files: weights without an architecture, run as the recurrent layer that they are.

use super::{Outputs, Request};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::path::Path;
use wgpu_lstm::LstmState;
use wgpu_lstm::format::pytorch::Weights;

/// A summary of the file.
pub fn list(path: &Path) -> Result<String> {
    let weights = Weights::open(path)?;
    let mut text = String::from("recurrent layers, by prefix\n");
    for prefix in weights.prefixes() {
        match weights.recurrent(Some(prefix)) {
            Ok(layer) => writeln!(text, "  \"{prefix}\": {layer}")?,
            Err(error) => writeln!(text, "  \"{prefix}\": not supported: {error}")?,
        }
    }
    if weights.prefixes().is_empty()
        && let Err(error) = weights.recurrent(None)
    {
        writeln!(text, "  none: {error}")?;
    }
    text.push_str("tensors\n");
    for tensor in weights.tensors() {
        write!(text, "  {} {:?} {}", tensor.name, tensor.shape, tensor.number)?;
        match (tensor.supported, tensor.computed) {
            (true, None) => {}
            (true, Some(origin)) => write!(text, ", computed: {origin}")?,
            (false, None) => text.push_str(", not supported"),
            (false, Some(reason)) => write!(text, ", not supported: {reason}")?,
        }
        text.push('\n');
    }
    Ok(text)
}

/// Runs a layer: `output`, `h_n` and, of an LSTM, `c_n`.
pub fn run(path: &Path, request: &Request) -> Result<Outputs> {
    request.known(&["input", "h_0", "c_0"])?;
    let layer = Weights::open(path)?.layer(request.prefix.as_deref(), &request.device)?.time_major(request.time_major);
    let x = request.input("input")?.sequences()?;
    let given = |name: &str| request.inputs.iter().find(|(own, _)| own.as_deref() == Some(name));
    let batch = x.shape()[usize::from(request.time_major)];
    let mut initial = LstmState::zeros(layer.config(), batch)?;
    for (name, state) in [("h_0", &mut initial.h), ("c_0", &mut initial.c)] {
        if let Some((_, array)) = given(name) {
            *state = array.f32()?.into_dimensionality().with_context(|| format!("{name} is not [L·D, B, H]"))?;
        }
    }
    let out = match &request.lengths {
        Some(lengths) => layer.forward_ragged(x.view(), lengths, Some(&initial))?,
        None => layer.forward(x.view(), Some(&initial))?,
    };
    let mut outputs = vec![("output".to_string(), out.output.into_dyn()), ("h_n".to_string(), out.state.h.into_dyn())];
    // A GRU has no cell state.
    if out.state.c.dim().2 > 0 {
        outputs.push(("c_n".to_string(), out.state.c.into_dyn()));
    }
    Ok(outputs)
}
