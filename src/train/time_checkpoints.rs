//! Activation checkpointing over time.

use serde::{Deserialize, Serialize};

/// Activation checkpointing over time: the activations that training keeps for the backward pass.
///
/// With segments, only the states at the start of each are kept, and backward goes forward through a segment a second time before
/// it goes back through it (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"; Gruslys et al. 2016, for time). With
/// segments of √T steps the memory grows with √T; input, target and, where steps are weighted or sequences have lengths, one number
/// a step are kept whole. The price is one more pass forward, a third of the work, and what short segments cost: on two CPU cores,
/// an LSTM of 128 units on 16 sequences takes
///
/// | T | off | square root | every 128 |
/// |---|---|---|---|
/// | 1,024 | 129 MB, 195 ms a step | 7.5 MB, 328 ms | 20 MB, 257 ms |
/// | 4,096 | 510 MB, 781 ms a step | 16 MB, 1,081 ms | 24 MB, 1,029 ms |
///
/// Gradients are the same up to the order of sums, a relative 1e-6 or so.
/// [`Model::training_plan`](crate::Model::training_plan) says the bytes and the work of any sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TimeCheckpoints {
    /// Everything: memory grows with T.
    #[default]
    Off,
    /// States every √T steps, rounded up.
    SquareRoot,
    /// States every so many steps; T or more are as good as off. A device that cannot bind a segment gets shorter ones.
    Every(usize),
}

impl TimeCheckpoints {
    /// Steps of a segment for T steps.
    pub(crate) fn segment(self, steps: usize) -> Option<usize> {
        match self {
            TimeCheckpoints::Off => None,
            TimeCheckpoints::SquareRoot => Some((steps as f64).sqrt().ceil() as usize),
            TimeCheckpoints::Every(segment) => Some(segment),
        }
    }
}
