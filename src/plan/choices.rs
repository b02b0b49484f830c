//! Choices that plans follow instead of the scheduler's model of cost.

use super::launch::{Launch, Recurrence};
use crate::lock::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Launches that were measured to be the fastest of a device, by what they are for: see [`Tuning`](crate::Tuning). Empty by default.
///
/// ```
/// use wgpu_lstm::Capabilities;
/// assert!(Capabilities::default().choices.is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Choices {
    recurrences: Arc<HashMap<Recurrence, Launch>>,
    /// Passes that plans asked for, if they are recorded.
    asked: Option<Arc<Mutex<Vec<Recurrence>>>>,
}

impl Choices {
    /// True if there is no choice.
    pub fn is_empty(&self) -> bool {
        self.recurrences.is_empty()
    }

    /// True if there is a choice for a pass.
    pub(crate) fn has(&self, what: &Recurrence) -> bool {
        self.recurrences.contains_key(&what.shape())
    }

    /// The choice for a pass.
    pub(crate) fn recurrence(&self, what: &Recurrence) -> Option<Launch> {
        let what = &what.shape();
        if let Some(asked) = &self.asked
            && what.has_sample()
        {
            let mut asked = lock(asked);
            if !asked.contains(what) {
                asked.push(*what);
            }
        }
        self.recurrences.get(what).copied()
    }

    /// The same choices and another one.
    pub(crate) fn with(&self, what: Recurrence, launch: Launch) -> Choices {
        let mut all = HashMap::clone(&self.recurrences);
        all.insert(what.shape(), launch);
        Choices { recurrences: Arc::new(all), asked: self.asked.clone() }
    }

    /// The same choices, which record what plans ask for.
    pub(crate) fn recording(&self) -> Choices {
        Choices { asked: Some(Arc::default()), ..self.clone() }
    }

    /// The same choices, which record nothing.
    pub(crate) fn quiet(&self) -> Choices {
        Choices { asked: None, ..self.clone() }
    }

    /// Passes that plans asked for since [`Choices::recording`], as [`Recurrence::shape`]; without those that cannot be
    /// measured.
    pub(crate) fn asked(&self) -> Vec<Recurrence> {
        self.asked.as_ref().map_or_else(Vec::new, |asked| lock(asked).clone())
    }
}

/// Equal if the choices are; what records them does not count.
impl PartialEq for Choices {
    fn eq(&self, other: &Choices) -> bool {
        self.recurrences == other.recurrences
    }
}

impl Eq for Choices {}
