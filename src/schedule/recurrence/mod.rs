//! The recurrence: a step of time as a list of stages, forward and backward.
//!
//! A layer's configuration says which [`Stage`]s its steps have, in the order in which they run: the recurrent product, the
//! normalisation of products, the reset gate, the cell, the normalisation of the cell state, the projection, and the states
//! that rows carry past the end of their sequence. Each stage is a file and emits its commands forward and backward. A step
//! of product and cell alone is fused: the scan runs one or many such steps in one dispatch. Any other step goes stage by
//! stage, and backward through the stages in reverse order.
//!
//! `forward.rs` and `backward.rs` have what is common to all layers: chunks of time, histories, W·x, and the large products
//! for the gradients of weights.

pub mod backward;
mod carry;
mod cell;
pub mod forward;
mod fused_step;
mod grid;
mod output;
mod output_gradient;
mod product;
mod product_norm;
mod project;
mod reset;
mod sample;
mod sizes;
mod stack;
mod stage;
mod state_norm;
mod trace;
mod weight_gradients;
mod weights;

pub use backward::{StateGradients, Upstream};
pub use carry::CARRY;
pub use cell::CELL;
pub use forward::Initial;
pub use output::last_step;
pub use product::PRODUCT;
pub use product_norm::PRODUCT_NORM;
pub use project::PROJECT;
pub use reset::RESET;
pub(crate) use sample::{most_steps, sample};
pub(crate) use sizes::Pass;
pub use sizes::{Drops, LstmSizes};
pub use stage::Stage;
pub use state_norm::STATE_NORM;
pub use trace::LayerTrace;
pub use weights::{LayerWeights, Norms};
