//! From what a pickle describes to tensors by name: state dicts, checkpoints and whole modules.

use super::container::Saved;
use super::pickle::{Id, Pickle, Value};
use super::tensor::{Tensor, dense_strides, storage_type};
use crate::format::number::Number;
use std::collections::HashMap;
use std::ops::Range;

/// Dicts inside each other that are followed.
const DEEPEST: usize = 64;
/// Bytes of a tensor's name.
const LONGEST_NAME: usize = 1024;
/// Axes of a tensor.
const AXES: usize = 16;
/// Cost of a tensor against [`Walk::budget`]; a pickle spends some forty bytes on one.
const TENSOR: usize = 8;

/// Tensors of a saved object.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// All tensors, in the file's order. Of a checkpoint that has a `state_dict` they are those of it.
    pub tensors: Vec<Tensor>,
    /// The `nonlinearity` of modules that say one, by their names.
    pub nonlinearities: HashMap<String, String>,
    /// Place of the first weights that are packed for PyTorch's quantised kernels, and what holds them.
    pub quantised: Option<(String, String)>,
}

impl Contents {
    /// Packed weights and advice on them, to follow another sentence; empty where there are none.
    pub fn about_quantised(&self) -> String {
        match &self.quantised {
            Some((name, holder)) => format!(
                "; it has a quantised module ({holder} at \"{name:.80}\"), whose weights are packed for PyTorch's integer kernels: save \
                 the state_dict of the model as it was before quantize_dynamic or convert"
            ),
            None => String::new(),
        }
    }
}

/// Collects the tensors of a saved object.
pub(super) fn contents(saved: &Saved) -> Result<Contents, String> {
    let Saved { pickle, storages } = saved;
    let root = pickle.entry(pickle.root, "state_dict").unwrap_or(pickle.root);
    let mut walk = Walk { pickle, storages, found: Contents::default(), budget: pickle.len };
    walk.value(root, "", 0)?;
    if walk.found.tensors.is_empty() {
        let about = walk.found.about_quantised();
        return Err(format!("holds no tensors; it holds {}{about}", describe(pickle, root)));
    }
    Ok(walk.found)
}

/// True if a class is that of a quantised module, or packs its weights.
fn is_quantised(module: &str, class: &str) -> bool {
    let inside = ["torch.ao.nn.quantized.", "torch.nn.quantized.", "torch.ao.nn.intrinsic.quantized."];
    (module, class) == ("torch", "ScriptObject") || inside.iter().any(|start| module.starts_with(start))
}

/// A value's type in words.
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
    found: Contents,
    /// Dicts may share others, and so describe far more than a pickle has bytes; what is taken from them may not.
    budget: usize,
}

impl Walk<'_> {
    /// Takes the tensors of a value, called `name`.
    fn value(&mut self, id: Id, name: &str, depth: usize) -> Result<(), String> {
        if depth > DEEPEST {
            return Err(format!("holds dicts in each other deeper than {DEEPEST}, at {name:.60}"));
        }
        let pickle = self.pickle;
        match &pickle.values[id] {
            Value::Dict(entries) => self.entries(entries, name, depth),
            Value::Sequence(items) => {
                self.spend(1 + items.len(), name)?;
                for (index, &item) in items.iter().enumerate() {
                    self.value(item, &joined(name, &index.to_string())?, depth + 1)?;
                }
                Ok(())
            }
            &Value::Call { callee, arguments, state, .. } => match pickle.global(callee) {
                Some((module, function)) if module.starts_with("torch") && function.starts_with("_rebuild") => {
                    let tensor = self.tensor(function, arguments, name, depth)?;
                    self.spend(TENSOR, name)?;
                    self.found.tensors.push(tensor);
                    Ok(())
                }
                Some((module, class)) if is_quantised(module, class) => {
                    self.found.quantised.get_or_insert_with(|| (name.into(), format!("{module:.60}.{class:.60}")));
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

    fn spend(&mut self, cost: usize, name: &str) -> Result<(), String> {
        let left = self.budget.checked_sub(cost + name.len() / 32);
        self.budget = left.ok_or_else(|| format!("holds more than its pickle has bytes for, at {name:.60}"))?;
        Ok(())
    }

    fn entries(&mut self, entries: &[(Id, Id)], name: &str, depth: usize) -> Result<(), String> {
        self.spend(1 + entries.len(), name)?;
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
        let Some(attributes) = self.pickle.dict(state) else { return Ok(()) };
        self.spend(1 + attributes.len(), name)?;
        if self.pickle.entry(state, "_parameters").is_none() {
            return Ok(());
        }
        if let Some(word) = self.pickle.entry(state, "nonlinearity").and_then(|word| self.pickle.text(word)) {
            // Of a word of any length, which modules may share, as much as a message shows
            self.found.nonlinearities.insert(name.into(), word.chars().take(20).collect());
        }
        for table in ["_parameters", "_buffers", "_modules"] {
            if let Some(entries) = self.pickle.entry(state, table).and_then(|table| self.pickle.dict(table)) {
                self.entries(entries, name, depth)?;
            }
        }
        Ok(())
    }

    /// The tensor that a call of `torch._utils._rebuild_…` describes.
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
                let (Some(shape), Some(strides), Some(offset)) =
                    (self.sizes(shape), self.sizes(strides), pickle.size(offset))
                else {
                    return refuse("whose shape, strides or offset are no sizes, or more than 16 axes");
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
            // Listed, so that others of the file can be read.
            ("_rebuild_qtensor", &[storage, _offset, shape, ..]) => {
                let (number, _) = self.storage(storage, name)?;
                Ok(unread(name, number, self.sizes(shape)))
            }
            ("_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor", &[_layout, parts]) => {
                let shape = pickle.sequence(parts).and_then(|parts| {
                    parts.iter().rev().find_map(|&part| self.sizes(part).filter(|shape| !shape.is_empty()))
                });
                Ok(unread(name, Number::Other("sparse".into()), shape))
            }
            ("_rebuild_nested_tensor", _) => Ok(unread(name, Number::Other("nested".into()), None)),
            ("_rebuild_meta_tensor_no_storage", &[_, shape, ..]) => {
                Ok(unread(name, Number::Other("meta".into()), self.sizes(shape)))
            }
            _ => refuse(&format!("made by {function:.60}, which is not read")),
        }
    }

    /// A shape or strides.
    fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        let id = match self.pickle.values.get(id) {
            // torch.Size((3, 3))
            Some(&Value::Call { callee, arguments, .. }) if self.pickle.global(callee) == Some(("torch", "Size")) => {
                *self.pickle.sequence(arguments)?.first()?
            }
            _ => id,
        };
        let sizes = self.pickle.sequence(id).filter(|sizes| sizes.len() <= AXES)?;
        sizes.iter().map(|&size| self.pickle.size(size)).collect()
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

/// A tensor that is listed and not read; of no axes where its shape is not known.
fn unread(name: &str, number: Number, shape: Option<Vec<usize>>) -> Tensor {
    let shape = shape.unwrap_or_default();
    Tensor { name: name.into(), number, strides: dense_strides(&shape), shape, offset: 0, storage: 0..0 }
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
