//! Sizes that fit 32-bit offsets.

use crate::error::{Error, Result};

/// Checks a size, which must be from 1 to below 2^28; `what` names it in the error.
pub(crate) fn size(what: &str, value: usize) -> Result<u32> {
    match u32::try_from(value) {
        Ok(size @ 1..=0xfff_ffff) => Ok(size),
        _ => Err(Error::Config(format!("{what} is {value}; it must be at least 1 and below 2^28"))),
    }
}
