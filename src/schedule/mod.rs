//! The scheduler: from a network and the sizes of a batch to a plan. It touches neither GPU nor CPU.
//!
//! Start with `forward.rs`: it is the algorithm.

mod backward;
mod builder;
mod dense;
mod forward;
mod network;
mod sequence;
mod update;

pub use builder::Builder;
pub use network::{LayerPlan, LstmGradientPlan, NetworkPlan, Purpose, lstm_gradients, network};
pub use sequence::{Direction, Sequence};
