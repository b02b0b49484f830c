//! A node's attributes, which are taken one by one: what nobody took is refused.

use super::call::Outcome;
use super::proto::{AttributeProto, TensorProto, kind};
use std::collections::BTreeMap;

/// Attributes of a node, and what else decides how it is to be understood.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes {
    by_name: BTreeMap<String, AttributeProto>,
    /// Version of the default operator set.
    pub opset: i64,
    /// True for each output that is used.
    pub outputs: Vec<bool>,
}

impl Attributes {
    pub fn new(attributes: Vec<AttributeProto>, opset: i64, outputs: Vec<bool>) -> Outcome<Attributes> {
        let mut by_name = BTreeMap::new();
        for attribute in attributes {
            if !attribute.ref_attr_name.is_empty() {
                return Err(format!("attribute {} refers to a function's, which is not supported", attribute.name));
            }
            if by_name.contains_key(&attribute.name) {
                return Err(format!("attribute {} is there twice", attribute.name));
            }
            by_name.insert(attribute.name.clone(), attribute);
        }
        Ok(Attributes { by_name, opset, outputs })
    }

    /// Takes an attribute of a kind.
    fn take(&mut self, name: &str, kind: i32) -> Outcome<Option<AttributeProto>> {
        match self.by_name.remove(name) {
            Some(attribute) if attribute.r#type == kind => Ok(Some(attribute)),
            Some(attribute) => {
                let name_of = |kind: i32| usize::try_from(kind).ok().and_then(|k| kind::NAMES.get(k).copied());
                Err(format!(
                    "attribute {name} is of type {}, expected {}",
                    name_of(attribute.r#type).unwrap_or("unknown"),
                    name_of(kind).unwrap_or_default()
                ))
            }
            None => Ok(None),
        }
    }

    pub fn int(&mut self, name: &str) -> Outcome<Option<i64>> {
        Ok(self.take(name, kind::INT)?.map(|attribute| attribute.i.unwrap_or_default()))
    }

    /// An integer that is 0 or 1.
    pub fn flag(&mut self, name: &str) -> Outcome<Option<bool>> {
        match self.int(name)? {
            None => Ok(None),
            Some(value @ 0..=1) => Ok(Some(value == 1)),
            Some(other) => Err(format!("attribute {name} is {other}, expected 0 or 1")),
        }
    }

    pub fn float(&mut self, name: &str) -> Outcome<Option<f32>> {
        Ok(self.take(name, kind::FLOAT)?.map(|attribute| attribute.f.unwrap_or_default()))
    }

    pub fn ints(&mut self, name: &str) -> Outcome<Option<Vec<i64>>> {
        Ok(self.take(name, kind::INTS)?.map(|attribute| attribute.ints))
    }

    pub fn floats(&mut self, name: &str) -> Outcome<Option<Vec<f32>>> {
        Ok(self.take(name, kind::FLOATS)?.map(|attribute| attribute.floats))
    }

    pub fn text(&mut self, name: &str) -> Outcome<Option<String>> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| format!("attribute {name} is no text"));
        self.take(name, kind::STRING)?.map(|attribute| text(&attribute.s.unwrap_or_default())).transpose()
    }

    pub fn texts(&mut self, name: &str) -> Outcome<Option<Vec<String>>> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| format!("attribute {name} is no text"));
        let all = |attribute: AttributeProto| attribute.strings.iter().map(|bytes| text(bytes)).collect();
        self.take(name, kind::STRINGS)?.map(all).transpose()
    }

    pub fn tensor(&mut self, name: &str) -> Outcome<Option<TensorProto>> {
        let attribute = self.take(name, kind::TENSOR)?;
        match attribute {
            None => Ok(None),
            Some(AttributeProto { t: Some(tensor), .. }) => Ok(Some(*tensor)),
            Some(_) => Err(format!("attribute {name} has no tensor")),
        }
    }

    /// Takes what does not change the result.
    pub fn ignore(&mut self, name: &str) {
        self.by_name.remove(name);
    }

    /// True if an output is used.
    pub fn wants(&self, output: usize) -> bool {
        self.outputs.get(output).copied().unwrap_or(false)
    }

    /// Refuses more outputs than `most`.
    pub fn at_most_outputs(&self, most: usize) -> Outcome<()> {
        match self.outputs.len() <= most {
            true => Ok(()),
            false => Err(format!("it has {} outputs, expected at most {most}", self.outputs.len())),
        }
    }

    /// Refuses what nobody took.
    pub fn done(&self) -> Outcome<()> {
        match self.by_name.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("attribute {name} is not supported in opset {}", self.opset)),
        }
    }
}
