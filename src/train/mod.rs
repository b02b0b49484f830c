//! Training: losses, optimisers, the fit loop's settings and its callbacks.

mod callback;
mod checkpoint;
mod csv_log;
mod early_stopping;
mod fit;
mod loss;
mod optimiser;
mod pace;
mod progress;
mod regulariser;
mod run;
mod schedule;
mod stop;
mod tensorboard;
mod time_checkpoints;
mod update;

pub(crate) use crate::kernel::HYPER;
pub use callback::{Callback, CallbackState, EpochEvent, Flow, StepEvent};
pub use checkpoint::Checkpoint;
pub use csv_log::CsvLog;
pub use early_stopping::EarlyStopping;
pub use fit::{Fit, History, Reset, Stopped, Validation};
pub use loss::Loss;
pub use optimiser::{Optimiser, Rule, WeightDecay};
pub(crate) use pace::{MOST_STEPS, Pace};
pub(crate) use progress::{Progress, check_count};
pub(crate) use regulariser::Action;
pub use regulariser::Regulariser;
pub(crate) use run::{check_data, fit};
pub use schedule::{Curve, Schedule};
pub use stop::{StopFlag, TimeLimit};
pub use tensorboard::TensorBoard;
pub use time_checkpoints::TimeCheckpoints;
pub use update::{Clip, Update};
