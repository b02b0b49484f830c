//! Counting different numbers, to say where rounding makes some of them the same.

use std::collections::HashSet;

/// Count of different numbers.
pub fn distinct(values: impl IntoIterator<Item = f64>) -> usize {
    // -0 + 0 is 0
    values.into_iter().map(|value| (value + 0.0).to_bits()).collect::<HashSet<u64>>().len()
}
