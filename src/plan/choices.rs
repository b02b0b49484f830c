//! Choices that plans follow instead of the scheduler's model of cost.

use super::launch::{Launch, Recurrence};
use super::product::{ProductLaunch, ProductShape};
use crate::lock::lock;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

/// A computation for which a device has several launches. Files have the fields alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Tunable {
    /// A layer's pass.
    Recurrence(Recurrence),
    /// A product.
    Product(ProductShape),
}

/// A launch for a [`Tunable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum TunedLaunch {
    /// Of a layer's pass.
    Recurrence(Launch),
    /// Of a product.
    Product(ProductLaunch),
}

impl fmt::Display for Tunable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tunable::Recurrence(pass) => pass.fmt(f),
            Tunable::Product(product) => product.fmt(f),
        }
    }
}

impl fmt::Display for TunedLaunch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TunedLaunch::Recurrence(launch) => launch.fmt(f),
            TunedLaunch::Product(launch) => launch.fmt(f),
        }
    }
}

/// Launches that were measured to be the fastest of a device, by what they are for: see [`Tuning`](crate::Tuning). Empty by default.
///
/// ```
/// use wgpu_lstm::Capabilities;
/// assert!(Capabilities::default().choices.is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// By shape.
    launches: Arc<HashMap<Tunable, TunedLaunch>>,
    /// Shapes that plans asked for, if they are recorded.
    asked: Option<Arc<Mutex<Vec<Tunable>>>>,
}

impl Choices {
    /// True if there is no choice.
    pub fn is_empty(&self) -> bool {
        self.launches.is_empty()
    }

    /// True if there is a choice for a pass.
    pub(crate) fn has(&self, what: &Recurrence) -> bool {
        self.launches.contains_key(&Tunable::Recurrence(what.shape()))
    }

    /// The choice for a pass.
    pub(crate) fn recurrence(&self, what: &Recurrence) -> Option<Launch> {
        match self.find(Tunable::Recurrence(what.shape()), what.has_sample())? {
            TunedLaunch::Recurrence(launch) => Some(launch),
            TunedLaunch::Product(_) => None,
        }
    }

    /// The choice for a product.
    pub(crate) fn product(&self, what: ProductShape) -> Option<ProductLaunch> {
        match self.find(Tunable::Product(what), what.is_large())? {
            TunedLaunch::Product(launch) => Some(launch),
            TunedLaunch::Recurrence(_) => None,
        }
    }

    /// The choice for a shape, which is recorded if it can be measured.
    fn find(&self, what: Tunable, is_measured: bool) -> Option<TunedLaunch> {
        if let Some(asked) = &self.asked
            && is_measured
        {
            let mut asked = lock(asked);
            if !asked.contains(&what) {
                asked.push(what);
            }
        }
        self.launches.get(&what).copied()
    }

    /// The same choices and another one.
    pub(crate) fn with(&self, what: Tunable, launch: TunedLaunch) -> Choices {
        let mut all = HashMap::clone(&self.launches);
        let what = match what {
            Tunable::Recurrence(pass) => Tunable::Recurrence(pass.shape()),
            Tunable::Product(_) => what,
        };
        all.insert(what, launch);
        Choices { launches: Arc::new(all), asked: self.asked.clone() }
    }

    /// The same choices, which record what plans ask for.
    pub(crate) fn recording(&self) -> Choices {
        Choices { asked: Some(Arc::default()), ..self.clone() }
    }

    /// The same choices, which record nothing.
    pub(crate) fn quiet(&self) -> Choices {
        Choices { asked: None, ..self.clone() }
    }

    /// Shapes that plans asked for since [`Choices::recording`]; without those that cannot be or are not worth being measured.
    pub(crate) fn asked(&self) -> Vec<Tunable> {
        self.asked.as_ref().map_or_else(Vec::new, |asked| lock(asked).clone())
    }
}

/// Equal if the choices are; what records them does not count.
impl PartialEq for Choices {
    fn eq(&self, other: &Choices) -> bool {
        self.launches == other.launches
    }
}

impl Eq for Choices {}
