//! Sizes, as `--case T=128,B=32,I=256,H=256,L=1`.

use serde::Serialize;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Case {
    pub t: usize,
    pub b: usize,
    pub i: usize,
    pub h: usize,
    pub l: usize,
    pub d: usize,
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Case, String> {
        let mut case = Case { l: 1, d: 1, ..Case::default() };
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or(format!("{part}: expected NAME=NUMBER"))?;
            let value = value.parse().map_err(|_| format!("{value} is not a number"))?;
            match name {
                "T" => case.t = value,
                "B" => case.b = value,
                "I" => case.i = value,
                "H" => case.h = value,
                "L" => case.l = value,
                _ => return Err(format!("{name} is not a size")),
            }
        }
        Ok(case)
    }
}
