//! Training: losses, optimisers, the fit loop's settings and its callbacks.

mod callback;
mod fit;
mod loss;
mod optimiser;

pub use callback::{Callback, Checkpoint, EarlyStopping, EpochEvent, Flow, StepEvent};
pub use fit::{Fit, History, Validation};
pub(crate) use fit::{check_data, fit};
pub use loss::Loss;
pub use optimiser::Optimiser;
