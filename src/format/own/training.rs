//! The state of training in a file: tensors whose names begin with "optimiser.", "state." or "callback.".

use crate::error::{Error, Result};
use crate::layer::HostTensor;
use crate::model::{Model, TrainingState};
use crate::network::Node;
use crate::transfer::finite;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Prefix of the optimiser's memory, which is kept as the device has it: "optimiser.<kind> <buffer>".
const MEMORY: &str = "optimiser.";

/// Prefix of states that training carries: "state.<B> <buffer>".
const STATE: &str = "state.";

/// Prefix of weights that callbacks keep: "callback.<place among the callbacks> <tensor>".
const CALLBACK: &str = "callback.";

/// True if a tensor of this name belongs to the state of training.
pub(super) fn owns(name: &str) -> bool {
    [MEMORY, STATE, CALLBACK].iter().any(|prefix| name.starts_with(prefix))
}

/// The tensors of a state of training.
pub(super) fn tensors(state: &TrainingState) -> Vec<HostTensor> {
    let flat = |name: String, values: &Vec<f32>| HostTensor { name, shape: vec![values.len()], values: values.clone() };
    let memory = state.memory.iter().map(|(name, values)| flat(format!("{MEMORY}{name}"), values));
    let carried = state.carried.iter().map(|((batch, name), values)| flat(format!("{STATE}{batch} {name}"), values));
    let callbacks = state.progress.callbacks.iter().enumerate().flat_map(|(place, callback)| {
        let weights = callback.weights.iter().flat_map(|weights| weights.iter());
        weights.map(move |host| HostTensor { name: format!("{CALLBACK}{place} {}", host.name), ..host.clone() })
    });
    memory.chain(carried).chain(callbacks).collect()
}

/// Has a model go on from a state of training and its tensors.
pub(super) fn restore(
    model: &mut Model,
    path: &Path,
    mut state: TrainingState,
    tensors: Vec<HostTensor>,
) -> Result<()> {
    let refused = |error: Error| Error::format(path, format!("has a state of training that does not fit: {error}"));
    model.compile(state.loss.clone(), state.update.clone()).map_err(refused)?;
    model.checkpoint_time(state.checkpoints).map_err(refused)?;
    let (of_callbacks, tensors): (Vec<_>, Vec<_>) =
        tensors.into_iter().partition(|host| host.name.starts_with(CALLBACK));
    for (place, weights) in weights_of_callbacks(model, of_callbacks).map_err(refused)? {
        let count = state.progress.callbacks.len();
        let callback = state.progress.callbacks.get_mut(place).ok_or_else(|| {
            Error::format(path, format!("has weights of callback {place}, but states of {count} callbacks"))
        })?;
        callback.weights = Some(Arc::new(weights));
    }
    for HostTensor { name, values, .. } in tensors {
        if let Some(name) = name.strip_prefix(STATE) {
            let (batch, name) = carried_state(model, name, values.len() as u64).map_err(refused)?;
            finite(&format!("state {name}"), "[element]", &ndarray::aview1(&values))?;
            state.carried.insert((batch, name), values);
            continue;
        }
        let name = name.trim_start_matches(MEMORY).to_string();
        let expected = model.optimiser_memory_len(&name);
        if expected != Some(values.len() as u64) {
            let room = expected.map_or("none of that name".into(), |len| len.to_string());
            return Err(Error::format(
                path,
                format!(
                    "has {} numbers of the optimiser's memory \"{name}\"; the model has room for {room}",
                    values.len()
                ),
            ));
        }
        finite(&format!("tensor {name}"), "[element]", &ndarray::aview1(&values))?;
        state.memory.insert(name, values);
    }
    model.restore_training(state)
}

/// The weights that callbacks keep, by the callback's place; each has all tensors of the model.
fn weights_of_callbacks(model: &Model, tensors: Vec<HostTensor>) -> Result<BTreeMap<usize, Vec<HostTensor>>> {
    let mut all: BTreeMap<usize, Vec<HostTensor>> = BTreeMap::new();
    for host in tensors {
        let place = host.name.strip_prefix(CALLBACK).and_then(|name| name.split_once(' '));
        let place = place.and_then(|(place, name)| Some((place.parse().ok()?, name.to_string())));
        let (place, name) =
            place.ok_or_else(|| Error::Config(format!("tensor \"{}\" names no callback", host.name)))?;
        finite(&format!("tensor {}", host.name), "[element]", &ndarray::aview1(&host.values))?;
        all.entry(place).or_default().push(HostTensor { name, ..host });
    }
    let mut expected: Vec<_> = model.graph().owners().flat_map(Node::shapes).collect();
    expected.sort();
    for (place, weights) in &all {
        let mut given: Vec<_> = weights.iter().map(|host| (host.name.clone(), host.shape.clone())).collect();
        given.sort();
        if let Some((name, shape)) =
            expected.iter().chain(&given).find(|one| given.contains(one) != expected.contains(one))
        {
            return Err(Error::Shape(format!(
                "tensor {name} of shape {shape:?} is only in one of the model and the weights of callback {place}"
            )));
        }
    }
    Ok(all)
}

/// B and the buffer's name of a state "<B> <buffer>" of `len` elements, if the model has it.
fn carried_state(model: &Model, name: &str, len: u64) -> Result<(usize, String)> {
    let wrong = || Error::Config(format!("there is no state \"{name}\" of {len} numbers"));
    let (batch, buffer) = name.split_once(' ').ok_or_else(wrong)?;
    let batch = batch.parse().map_err(|_| wrong())?;
    match model.has_carried_state(batch, buffer, len)? {
        true => Ok((batch, buffer.to_string())),
        false => Err(wrong()),
    }
}
