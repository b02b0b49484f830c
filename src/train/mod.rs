//! Training: losses, optimisers, the fit loop's settings and its callbacks.

mod callback;
mod checkpoints;
mod csv_log;
mod fit;
mod loss;
mod optimiser;
mod regulariser;
mod schedule;
mod tensorboard;
mod update;

pub use callback::{Callback, Checkpoint, EarlyStopping, EpochEvent, Flow, StepEvent};
pub use checkpoints::TimeCheckpoints;
pub use csv_log::CsvLog;
pub(crate) use fit::Progress;
pub use fit::{Fit, History, Reset, Validation};
pub(crate) use fit::{check_data, fit};
pub use loss::Loss;
pub(crate) use loss::kind;
pub(crate) use optimiser::HYPER;
pub use optimiser::{Optimiser, Rule, WeightDecay};
pub use regulariser::Regulariser;
pub(crate) use regulariser::{Action, parts};
pub use schedule::{Curve, Schedule};
pub use tensorboard::TensorBoard;
pub use update::{Clip, Update};
