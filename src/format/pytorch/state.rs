//! From what a pickle describes to tensors by name: state dicts, checkpoints and whole modules.

use super::container::Saved;
use super::pickle::{Id, Pickle, Value};
use super::tensor::{Tensor, storage_type};
use crate::format::number::Number;
use std::collections::HashMap;
use std::ops::Range;

/// Dicts inside each other that are followed.
const DEEPEST: usize = 64;
/// Bytes of a tensor's name.
const LONGEST_NAME: usize = 1024;
/// Tensors and other values that are looked at.
const MOST: usize = 1 << 16;
/// Bytes of what is known of tensors for each byte of a pickle: some are in it once and are referred to again and again.
const HELD: usize = 64;

/// All tensors that a file's object holds, in its order. Of a checkpoint that has a `state_dict` they are those of it.
pub(super) fn tensors(saved: &Saved) -> Result<Vec<Tensor>, String> {
    let Saved { pickle, storages } = saved;
    let root = pickle.entry(pickle.root, "state_dict").unwrap_or(pickle.root);
    let mut walk = Walk { pickle, storages, found: Vec::new(), seen: 0, held: 0 };
    walk.value(root, "", 0)?;
    if walk.found.is_empty() {
        return Err(format!("holds no tensors; it holds {}", describe(pickle, root)));
    }
    Ok(walk.found)
}

/// What a value is, in words.
fn describe(pickle: &Pickle, id: Id) -> String {
    match &pickle.values[id] {
        Value::Dict(entries) => format!("a dict of {} entries", entries.len()),
        Value::Sequence(items) => format!("a list of {} values", items.len()),
        &Value::Call { callee, .. } => match pickle.global(callee) {
            Some((module, name)) => format!("a {module}.{name}"),
            None => "an object".into(),
        },
        _ => "a plain value".into(),
    }
}

struct Walk<'a> {
    pickle: &'a Pickle<'a>,
    storages: &'a HashMap<String, Range<usize>>,
    found: Vec<Tensor>,
    seen: usize,
    /// Bytes of `found`.
    held: usize,
}

impl Walk<'_> {
    /// Takes the tensors of a value, called `name`.
    fn value(&mut self, id: Id, name: &str, depth: usize) -> Result<(), String> {
        if depth > DEEPEST {
            return Err(format!("holds dicts in each other deeper than {DEEPEST}, at {:.60}", name));
        }
        self.seen += 1;
        if self.seen > MOST {
            return Err(format!("holds more than {MOST} values, at {:.60}", name));
        }
        let pickle = self.pickle;
        match &pickle.values[id] {
            Value::Dict(entries) => self.entries(entries, name, depth),
            Value::Sequence(items) => {
                for (index, &item) in items.iter().enumerate() {
                    self.value(item, &joined(name, &index.to_string())?, depth + 1)?;
                }
                Ok(())
            }
            &Value::Call { callee, arguments, state, .. } => match pickle.global(callee) {
                Some((module, function)) if module.starts_with("torch") && function.starts_with("_rebuild") => {
                    let tensor = self.tensor(function, arguments, name, depth)?;
                    self.held += size_of::<Tensor>() + name.len() + 2 * size_of::<usize>() * tensor.shape.len();
                    if self.held > HELD * (1024 + self.pickle.len) {
                        return Err(format!("refers to tensors more often than its size allows, at {name:.60}"));
                    }
                    self.found.push(tensor);
                    Ok(())
                }
                _ => match state {
                    Some(state) => self.module(state, name, depth),
                    None => Ok(()),
                },
            },
            _ => Ok(()),
        }
    }

    fn entries(&mut self, entries: &[(Id, Id)], name: &str, depth: usize) -> Result<(), String> {
        for &(key, value) in entries {
            let number;
            let key = match &self.pickle.values[key] {
                Value::Text(text) => text,
                Value::Int(index) => {
                    number = index.to_string();
                    number.as_str()
                }
                // Such as classes; no name of a state dict
                _ => continue,
            };
            self.value(value, &joined(name, key)?, depth + 1)?;
        }
        Ok(())
    }

    /// A pickled `nn.Module`: what its `state_dict()` would give, from the tables of its state. Other objects hold nothing.
    fn module(&mut self, state: Id, name: &str, depth: usize) -> Result<(), String> {
        // An object may give (dict, slots).
        let state = self.pickle.sequence(state).and_then(|parts| parts.first().copied()).unwrap_or(state);
        if self.pickle.entry(state, "_parameters").is_none() {
            return Ok(());
        }
        for table in ["_parameters", "_buffers", "_modules"] {
            if let Some(entries) = self.pickle.entry(state, table).and_then(|table| self.pickle.dict(table)) {
                self.entries(entries, name, depth)?;
            }
        }
        Ok(())
    }

    /// What `torch._utils._rebuild_…` would make.
    fn tensor(&self, function: &str, arguments: Id, name: &str, depth: usize) -> Result<Tensor, String> {
        let pickle = self.pickle;
        let refuse = |why: &str| Err(format!("has tensor {name} {why}"));
        let arguments = pickle.sequence(arguments).unwrap_or_default();
        match (function, arguments) {
            ("_rebuild_parameter" | "_rebuild_parameter_with_state", &[inner, ..]) => self.rebuilt(inner, name, depth),
            // (function, class, arguments, state)
            ("_rebuild_from_type_v2", &[inner, _, arguments, ..]) => match pickle.global(inner) {
                Some((_, inner)) if depth < DEEPEST => self.tensor(inner, arguments, name, depth + 1),
                _ => refuse("made by an unknown function"),
            },
            (
                "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3",
                &[storage, offset, shape, strides, ..],
            ) => {
                let v3 = function == "_rebuild_tensor_v3";
                let metadata = arguments.get(if v3 { 7 } else { 6 }).map(|&metadata| &pickle.values[metadata]);
                match metadata {
                    None | Some(Value::None) => {}
                    Some(Value::Dict(entries)) if entries.is_empty() => {}
                    Some(_) => return refuse("that is conjugated, negated or has other metadata; plain ones are read"),
                }
                let sizes = |id: Id| -> Option<Vec<usize>> {
                    pickle.sequence(id)?.iter().map(|&size| pickle.size(size)).collect()
                };
                let (Some(shape), Some(strides), Some(offset)) = (sizes(shape), sizes(strides), pickle.size(offset))
                else {
                    return refuse("whose shape, strides or offset are no sizes");
                };
                let (mut number, storage) = self.storage(storage, name)?;
                if v3 {
                    let kind = arguments.get(6).and_then(|&kind| pickle.global(kind));
                    let (module, kind) = kind.unwrap_or(("torch", "?"));
                    number = Number::Other(format!("{module}.{kind}"));
                }
                let tensor = Tensor { name: name.into(), number, shape, strides, offset, storage };
                tensor.check()?;
                Ok(tensor)
            }
            _ => refuse(&format!("made by {function:.60}; sparse, quantised and nested tensors are not read")),
        }
    }

    /// The tensor inside a parameter.
    fn rebuilt(&self, id: Id, name: &str, depth: usize) -> Result<Tensor, String> {
        let made = match self.pickle.values[id] {
            Value::Call { callee, arguments, .. } => self.pickle.global(callee).map(|(_, name)| (name, arguments)),
            _ => None,
        };
        match made {
            Some((function, arguments)) if depth < DEEPEST => self.tensor(function, arguments, name, depth + 1),
            _ => Err(format!("has parameter {name} that holds no tensor")),
        }
    }

    /// Type and place of a storage: ("storage", class, key, location, elements), in older files with a view, None.
    fn storage(&self, id: Id, name: &str) -> Result<(Number, Range<usize>), String> {
        let pickle = self.pickle;
        let refuse = |why: String| Err(format!("has tensor {name} {why}"));
        let parts = match pickle.values[id] {
            Value::Persistent(description) => pickle.sequence(description),
            _ => None,
        };
        let Some(&[kind, class, key, _location, _elements, ref view @ ..]) = parts else {
            return refuse("without a storage".into());
        };
        if pickle.text(kind) != Some("storage")
            || !matches!(view.first().map(|&view| &pickle.values[view]), None | Some(Value::None))
        {
            return refuse("whose storage is a view of another; save it anew".into());
        }
        let (_, class) = pickle.global(class).unwrap_or_default();
        let number = match (storage_type(class), class) {
            (Some((number, _)), _) => number,
            // Its tensors say the type.
            (None, "UntypedStorage") => Number::Other("untyped".into()),
            (None, class) => return refuse(format!("in a storage of unknown type \"{class:.60}\"")),
        };
        let key = pickle.text(key).unwrap_or_default();
        match self.storages.get(key) {
            Some(place) => Ok((number, place.clone())),
            None => refuse(format!("in storage \"{key:.60}\", which the file lacks")),
        }
    }
}

/// A name inside another.
fn joined(name: &str, key: &str) -> Result<String, String> {
    if name.len() + key.len() >= LONGEST_NAME {
        return Err(format!(
            "has a name longer than {LONGEST_NAME} bytes, {:.60}...",
            if name.is_empty() { key } else { name }
        ));
    }
    Ok(if name.is_empty() { key.into() } else { format!("{name}.{key}") })
}
