//! The scheduler: from a network and the sizes of a batch to a plan. It touches neither GPU nor CPU.
//!
//! Start with `recurrence/forward.rs`: it is the algorithm.
//!
//! ```
//! use wgpu_lstm::schedule::{Batch, LayerPlan, Purpose, network};
//! use wgpu_lstm::{Capabilities, Dense, Loss, Lstm, Optimiser, Update};
//! let layers = [
//!     LayerPlan { name: "lstm".into(), input: 3, layer: Lstm::new(8).into() },
//!     LayerPlan { name: "dense".into(), input: 8, layer: Dense::new(2).into() },
//! ];
//! let update = Update::new(Optimiser::adam(1e-3));
//! let purpose = Purpose::Train { loss: &Loss::MeanSquaredError, update: &update, weighted: false };
//! let network = network(&layers, Batch::new(32, 100), purpose, &Capabilities::default())?; // B = 32, T = 100
//! println!("{}", network.plan);
//! # Ok::<(), wgpu_lstm::Error>(())
//! ```

mod activation;
mod builder;
mod dense;
mod network;
mod norm;
mod pool;
mod recurrence;
mod segments;
mod sequence;
mod strategy;
mod update;

pub use builder::Builder;
pub(crate) use network::check_carried;
pub use network::{Batch, LayerPlan, LstmGradientPlan, NetworkPlan, Purpose, lstm_gradients, network};
pub(crate) use recurrence::{CARRY, CELL, PRODUCT, PRODUCT_NORM, PROJECT, RESET, STATE_NORM};
pub use recurrence::{Drops, Stage};
pub(crate) use segments::check_segments;
pub use sequence::{Direction, Sequence};
