//! Losses, optimisers, learning-rate schedules and regularisers.

mod count;
mod loss;
mod losses;
mod optimiser;
mod pattern;
mod regulariser;
mod schedule;
mod time_checkpoints;
mod update;

pub(crate) use count::check_count;
pub use loss::Loss;
pub use losses::Losses;
pub use optimiser::{Optimiser, Rule, WeightDecay};
pub(crate) use regulariser::Action;
pub use regulariser::Regulariser;
pub use schedule::{Curve, Schedule};
pub use time_checkpoints::TimeCheckpoints;
pub(crate) use update::Group;
pub use update::{Clip, Update};
