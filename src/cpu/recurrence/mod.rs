//! The recurrence, forward and backward.
//!
//! Each thread carries a tile through all steps. If the batch is large enough, a tile has some of the rows and all units, and
//! there is no barrier. If it is not, or if the weights of all units exceed the caches, a tile has all rows and some of the
//! units, and threads exchange their states at a barrier in each step.

mod backward;
mod exchange;
mod forward;
mod fused_step;
mod stack_step;
mod tiles;
mod weights;

pub use backward::scan_backward;
pub use forward::scan_forward;
pub use fused_step::fused_step;
pub use stack_step::stack_step;

use crate::real::Real;

/// The key of a run's random bits (2 words), then the lengths of its sequences.
pub(crate) struct KeyAndLengths<'a, F>(pub &'a [F]);

impl<F: Real> KeyAndLengths<'_, F> {
    pub fn key(&self) -> [u32; 2] {
        [self.0[0].word(), self.0[1].word()]
    }

    /// True if a time is before the end of a row's sequence.
    pub fn holds(&self, row: usize, time: usize) -> bool {
        time < self.0[2 + row].word() as usize
    }
}

/// The time of a step of the scan.
pub(crate) fn time(step: usize, total: u32, direction: usize, backwards: u32) -> usize {
    if direction == 1 || backwards == 1 { total as usize - 1 - step } else { step }
}
