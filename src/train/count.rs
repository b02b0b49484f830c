//! Bounds of counted steps and epochs.

use crate::error::{Error, Result};

/// The largest count of steps or epochs: f64, in which schedules and optimisers reckon, tells all up to here apart.
const MOST: u64 = 1 << 53;

/// Refuses counts that no run can have reached.
pub(crate) fn check_count(what: &str, count: u64) -> Result<()> {
    match count < MOST && usize::try_from(count).is_ok_and(|count| count < usize::MAX) {
        true => Ok(()),
        false => Err(Error::Config(format!("{what} are {count}; no run has so many (at most {})", MOST - 1))),
    }
}
