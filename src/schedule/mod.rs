//! Tools with which layers write plans: the builder, sequences along time, and the recurrence. It imports neither executor.
//!
//! Start with `recurrence/forward.rs`: it is the algorithm.

pub(crate) mod attention;
mod batch_product;
mod builder;
pub(crate) mod cost;
mod elementwise;
mod launch;
mod product;
pub(crate) mod recurrence;
mod sequence;
mod size;
mod step_weights;
mod strategy;

pub use crate::plan::product::{ProductLaunch, ProductTile};
pub(crate) use attention::Scores;
pub use builder::Builder;
pub(crate) use builder::{DropoutMask, Segment, words_name};
pub use sequence::{Direction, Sequence};
pub(crate) use size::size;
pub(crate) use strategy::describe as describe_strategy;
