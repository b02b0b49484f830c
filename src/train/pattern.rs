//! Choice of parameters by a part of their names.

use crate::error::{Error, Result};
use crate::layer::{DeviceTensor, Parameter};
use serde::{Deserialize, Serialize};

/// The parameters whose names contain a text; without one, every weight matrix and no bias.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Pattern(Option<String>);

impl Pattern {
    /// The parameters whose names contain this.
    pub fn new(pattern: impl Into<String>) -> Pattern {
        Pattern(Some(pattern.into()))
    }

    /// The text, for messages.
    pub fn text(&self) -> &str {
        self.0.as_deref().unwrap_or("weight")
    }

    fn names(&self, parameter: &Parameter) -> bool {
        match &self.0 {
            Some(pattern) => parameter.name.contains(pattern.as_str()),
            None => parameter.is_weight(),
        }
    }

    /// True if it names a tensor of the device.
    pub fn is_of(&self, tensor: &DeviceTensor) -> bool {
        tensor.parameters.iter().any(|parameter| self.names(parameter))
    }

    /// The parameters among these tensors that it names.
    pub fn named<'a>(&'a self, tensors: &'a [DeviceTensor]) -> impl Iterator<Item = &'a Parameter> {
        tensors.iter().flat_map(|tensor| &tensor.parameters).filter(|parameter| self.names(parameter))
    }

    /// Refuses a pattern that names no parameter of these tensors, or a part of a tensor; `what` has the pattern.
    pub fn validate(&self, what: &str, tensors: &[DeviceTensor]) -> Result<()> {
        let pattern = self.text();
        if self.named(tensors).next().is_none() {
            let all = tensors.iter().flat_map(|tensor| &tensor.parameters);
            let names: Vec<&str> = all.map(|parameter| parameter.name.as_str()).take(6).collect();
            return Err(Error::Config(format!(
                "{what} is on \"{pattern}\", which no parameter's name contains; among the names: {}",
                names.join(", ")
            )));
        }
        for tensor in tensors {
            let (named, others): (Vec<_>, Vec<_>) =
                tensor.parameters.iter().partition(|parameter| self.names(parameter));
            if let (Some(name), Some(other)) = (named.first(), others.first()) {
                return Err(Error::Config(format!(
                    "{what} is on \"{pattern}\", which names {} but not {}; the device keeps the two together, so name both or \
                     neither",
                    name.name, other.name
                )));
            }
        }
        Ok(())
    }
}
