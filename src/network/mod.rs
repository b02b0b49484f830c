//! Networks: layers as nodes in topological order, and the plans that run and train them.
//!
//! ```
//! use wgpu_lstm::network::{Batch, Node, Purpose, network};
//! use wgpu_lstm::{Capabilities, Dense, Loss, Lstm, Optimiser, Update};
//! let nodes = [Node::new("lstm", 3, Lstm::new(8)), Node::new("dense", 8, Dense::new(2))];
//! let update = Update::new(Optimiser::adam(1e-3));
//! let purpose = Purpose::Train { loss: &Loss::MeanSquaredError.into(), update: &update, weighted: false };
//! let network = network(&nodes, Batch::new(32, 100), purpose, &Capabilities::default())?; // B = 32, T = 100
//! println!("{}", network.plan);
//! # Ok::<(), wgpu_lstm::Error>(())
//! ```

mod batch;
mod decode;
mod gradients;
mod graph;
mod node;
mod optimiser_step;
mod pass;
mod place;
mod plan;
mod segments;
mod tape;
mod update;

pub use batch::{Batch, Purpose};
pub(crate) use decode::{Crossing, Cut, cut};
pub use gradients::{GradientPlan, gradients};
pub(crate) use graph::CHAIN;
pub use graph::{AsGraph, Graph, GraphInput, GraphOutput};
pub(crate) use node::StateValue;
pub(crate) use node::check_carried;
pub use node::{Node, Source};
pub(crate) use optimiser_step::{StepPlan, optimiser_step};
pub(crate) use plan::graph_plan;
pub use plan::{NetworkPlan, Parts, PlanOutput, network};
pub(crate) use segments::check_segments;
pub use tape::{Tape, TapeState};
pub use update::Hyper;
