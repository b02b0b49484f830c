//! The means by which layers write plans: the builder, sequences along time, and the recurrence. It touches neither GPU nor CPU.
//!
//! Start with `forward.rs`: it is the algorithm.

mod backward;
mod builder;
mod forward;
mod sequence;
mod size;
mod split_backward;
mod split_forward;
mod strategy;

/// Recurrent layers of a stack, forward and backward.
pub(crate) mod recurrence {
    pub use super::backward::{StateGradients, Upstream, lstm as backward};
    pub use super::forward::{Initial, LayerTrace, LayerWeights, LstmSizes, Norms, last_step, lstm};
}

pub use builder::Builder;
pub(crate) use builder::{Drop, Segment};
pub use forward::{Drops, Split};
pub use sequence::{Direction, Sequence};
pub(crate) use size::size;
pub(crate) use strategy::describe as describe_strategy;
