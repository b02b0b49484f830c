//! Fitting: the training loop, its settings, and callbacks that follow and steer it.

mod callback;
mod checkpoint;
mod csv_log;
mod early_stopping;
mod feed;
mod metric;
mod pace;
mod progress;
mod run;
mod settings;
mod stop;
mod tensorboard;
mod watch;

pub use callback::{Callback, CallbackState, EpochEvent, Flow, StepEvent};
pub use checkpoint::Checkpoint;
pub use csv_log::CsvLog;
pub use early_stopping::EarlyStopping;
pub(crate) use pace::{MOST_STEPS, Pace};
pub(crate) use progress::Progress;
pub(crate) use run::{fit, fit_batches};
pub use settings::{Fit, History, Reset, Stopped, Validation};
pub use stop::{StopFlag, TimeLimit};
pub use tensorboard::TensorBoard;
