//! States that a recurrent step carries past its cell.

use super::{Constant, Region, Touch};

/// States carried past the cell: 1 by rows whose sequence has ended, 2 by zoneout, 3 by both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carries(pub u32);

impl Carries {
    /// True if any states are carried past the cell.
    pub fn any(self) -> bool {
        self.0 > 0
    }

    /// True if sequences have lengths.
    pub fn ragged(self) -> bool {
        self.0 % 2 == 1
    }

    /// True if units keep their states by zoneout.
    pub fn zoneout(self) -> bool {
        self.0 >= 2
    }

    /// Reads of the buffer that holds the key of the random bits (2), which `draws` needs, and the lengths of the sequences `[B]`.
    pub(super) fn key_and_lengths(self, batch: u32, draws: bool) -> Touch {
        let len = if self.ragged() { 2 + batch } else { 2 * draws as u32 };
        Touch::reads(Region::span(0, 1, len))
    }
}

impl Constant for Carries {
    fn word(self) -> u32 {
        self.0
    }

    fn of_word(word: u32) -> Option<Self> {
        (word < 4).then_some(Carries(word))
    }
}
