//! The recurrence, forward and backward.
//!
//! Each thread carries a tile through all steps. If the batch is large enough, a tile has some of the rows and all units, and
//! there is no barrier. If it is not, or if the weights of all units exceed the caches, threads divide the units of the same rows,
//! too, and exchange their states at a barrier in each step.

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

use self::tiles::{Division, Tile, divide};
use super::partition::Partition;
use super::team::WORTH_A_THREAD;
use crate::kernel::{Call, ScanBackward, ScanBackwardConstants, ScanForward, ScanForwardConstants};
use crate::real::Real;

/// Threads that the steps of a call would keep busy.
fn worth(call: &Call) -> u64 {
    call.flops() / 2 / WORTH_A_THREAD
}

/// [`scan_forward`] or [`scan_backward`] as threads share it out.
pub(super) fn partition(call: &Call, wanted: impl Fn(u64) -> usize) -> Partition {
    let [hidden, batch, directions] = if call.kernel.name == "scan_forward" {
        let (p, constants): (ScanForward, ScanForwardConstants) = (call.params(), call.constants());
        [constants.h, p.batch, p.directions]
    } else {
        let (p, constants): (ScanBackward, ScanBackwardConstants) = (call.params(), call.constants());
        [constants.h, p.batch, p.directions]
    }
    .map(|size| size as usize);
    let Division { tiles, units } = divide(hidden, batch, directions, wanted(worth(call)));
    let unit = call.flops() / 2 / (hidden * batch * directions) as u64;
    let of_tile = |tile: &Tile| (tile.rows.len() * tile.units.len()) as u64 * unit;
    let each = tiles.iter().map(|own| own.iter().map(of_tile).sum());
    Partition::of([tiles.len() / units.len().max(1), units.len()], each)
}

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
