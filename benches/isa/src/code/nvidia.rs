//! NVIDIA's machine code, as NVK's compiler (NAK) lists it.

use super::counts::{Counts, Flight};

/// A line of the listing.
pub enum Text<'a> {
    Label(&'a str),
    Instruction(&'a str),
    Other,
}

pub fn is_listing(_text: &str) -> bool {
    false
}

pub fn line(_line: &str) -> Text<'_> {
    Text::Other
}

pub fn target(_line: &str) -> Option<&str> {
    None
}

pub fn add(_counts: &mut Counts, _flight: &mut Flight, _line: &str) {}
