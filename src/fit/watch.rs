//! The value of an epoch that a callback follows.

use super::EpochEvent;
use crate::error::Result;

/// A value of each epoch, and the direction in which it gets better. By default the validation loss, or without validation the training
/// loss.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    name: Option<String>,
    larger: bool,
}

impl Watch {
    pub fn named(self, name: String) -> Watch {
        Watch { name: Some(name), ..self }
    }

    pub fn larger(self) -> Watch {
        Watch { larger: true, ..self }
    }

    /// The value of an epoch.
    pub fn value(&self, event: &EpochEvent) -> Result<f32> {
        match &self.name {
            None => Ok(event.watched()),
            Some(name) => Ok(event.value(name)? as f32),
        }
    }

    /// True if a value is finite and better than the best one by more than `delta`.
    pub fn is_better(&self, value: f32, best: Option<f64>, delta: f32) -> bool {
        let better = |best: f64| match self.larger {
            true => value > best as f32 + delta,
            false => value < best as f32 - delta,
        };
        value.is_finite() && best.is_none_or(better)
    }

    /// The settings, in words; none for the default.
    pub fn settings(&self) -> String {
        let larger = if self.larger { ", larger is better" } else { "" };
        match &self.name {
            None => larger.into(),
            Some(name) => format!(", watching {name}{larger}"),
        }
    }
}
