//! A Keras layer's configuration; an option that nobody reads is refused.

use super::Result;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashSet;

/// The options of one layer. Those that nobody asks for are errors, unless they only matter where a layer is trained anew.
pub(super) struct LayerConfig<'a> {
    /// Name of the layer in messages: its class and name.
    of: String,
    options: &'a Map<String, Value>,
    taken: RefCell<HashSet<&'a str>>,
}

/// Options that change no prediction: how weights start and are kept small, seeds, and how the same numbers are computed.
const WITHOUT_EFFECT: &[&str] = &[
    "name",
    "trainable",
    "seed",
    "unroll",
    "implementation",
    "use_cudnn",
    "batch_input_shape",
    "batch_shape",
    "input_length",
    "autocast",
];

/// Ends of names of such options.
const TRAINING: &[&str] = &["_initializer", "_regularizer", "_constraint"];

impl<'a> LayerConfig<'a> {
    pub fn new(of: String, options: &'a Map<String, Value>) -> Result<LayerConfig<'a>> {
        let settings = LayerConfig { of, options, taken: RefCell::default() };
        if let Some(dtype) = settings.take("dtype") {
            let name = policy(dtype);
            if name != Some("float32") {
                return settings.refuse(format!("has the dtype policy {dtype}; only float32 is supported"));
            }
        }
        Ok(settings)
    }

    /// An error about this layer.
    pub fn refuse<T>(&self, why: impl std::fmt::Display) -> Result<T> {
        Err(format!("{} {why}", self.of))
    }

    /// An option, if it is there and not null.
    pub fn take(&self, key: &'a str) -> Option<&'a Value> {
        self.taken.borrow_mut().insert(key);
        self.options.get(key).filter(|value| !value.is_null())
    }

    pub fn flag(&self, key: &'a str, default: bool) -> Result<bool> {
        match self.take(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => self.refuse(format!("has {key} = {other}; true or false was expected")),
        }
    }

    /// Refuses an option that is on.
    pub fn off(&self, key: &'a str) -> Result<()> {
        if self.flag(key, false)? { self.refuse(format!("has {key} = true, which is not supported")) } else { Ok(()) }
    }

    /// Refuses an option with any value but null.
    pub fn none(&self, key: &'a str) -> Result<()> {
        match self.take(key) {
            None => Ok(()),
            Some(value) => self.refuse(format!("has {key} = {value}, which is not supported")),
        }
    }

    pub fn size(&self, key: &'a str) -> Result<usize> {
        let value = self.take(key);
        match value.and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok()) {
            // beyond which no layer goes
            Some(size @ 1..0x1000_0000) => Ok(size),
            _ => self.refuse(format!("has {key} = {}; a size from 1 to below 2^28 was expected", shown(value))),
        }
    }

    pub fn number(&self, key: &'a str, default: f64) -> Result<f64> {
        match self.take(key) {
            None => Ok(default),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(number),
                None if value == "NaN" && key == "mask_value" => self.refuse(
                    "has mask_value = NaN, which equals no number, NaN included: Keras masks no step by it; save the model with the \
                     number that padding has, or without the layer",
                ),
                None => self.refuse(format!("has {key} = {value}; a number was expected")),
            },
        }
    }

    /// A layer within this one.
    pub fn layer(&self, key: &'a str) -> Result<Option<(&'a str, &'a Map<String, Value>)>> {
        match self.take(key) {
            None => Ok(None),
            Some(value) => match class(value) {
                Some(layer) => Ok(Some(layer)),
                None => self.refuse(format!("has no layer as its {key}")),
            },
        }
    }

    /// Refuses what was not taken.
    pub fn done(&self) -> Result<()> {
        let taken = self.taken.borrow();
        let left = self.options.iter().find(|(key, value)| {
            let idle = WITHOUT_EFFECT.contains(&key.as_str()) || TRAINING.iter().any(|end| key.ends_with(end));
            !taken.contains(key.as_str()) && !value.is_null() && !idle
        });
        match left {
            None => Ok(()),
            Some((key, value)) => self.refuse(format!("has the option {key} = {value}, which is not supported")),
        }
    }
}

/// JSON in which Python's NaN, Infinity and -Infinity, which are no JSON, are texts.
pub(super) fn with_named_numbers(text: &str) -> Cow<'_, str> {
    if !["NaN", "Infinity"].iter().any(|name| text.contains(name)) {
        return text.into();
    }
    let (mut plain, mut rest, mut quoted) = (String::new(), text, false);
    while let Some(letter) = rest.chars().next() {
        let name = ["NaN", "Infinity", "-Infinity"].into_iter().find(|name| !quoted && rest.starts_with(name));
        let taken = match (name, letter) {
            (Some(name), _) => {
                plain += &format!("\"{name}\"");
                rest = &rest[name.len()..];
                continue;
            }
            // A letter that is escaped ends no text.
            (None, '\\') if quoted => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            (None, letter) => letter.len_utf8(),
        };
        quoted ^= letter == '"';
        plain += &rest[..taken];
        rest = &rest[taken..];
    }
    plain.into()
}

/// The class and the options of a layer.
pub(super) fn class(value: &Value) -> Option<(&str, &Map<String, Value>)> {
    Some((value.get("class_name")?.as_str()?, value.get("config")?.as_object()?))
}

/// The name of a dtype policy.
fn policy(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| {
        let (class, config) = class(value)?;
        matches!(class, "DTypePolicy" | "Policy").then(|| config.get("name")?.as_str())?
    })
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_string(), Value::to_string)
}
