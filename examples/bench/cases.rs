//! Sizes to time.

use crate::common::Weights;
use crate::variants::{PLAIN, Variant};
use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use wgpu_lstm::Lstm;

/// Sizes of a stack and a batch.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub t: usize,
    pub b: usize,
    pub i: usize,
    pub h: usize,
    pub l: usize,
    pub d: usize,
    /// Form of the recurrent weights.
    pub weights: Weights,
    /// The layer.
    pub variant: &'static Variant,
}

/// Lists of cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// From one step of a small layer to a second of work.
    Small,
    /// Sizes that others published: DeepBench (inference at B = 1, 2, 4; training), FlashRNN, and Appleyard et al.
    Published,
}

/// The grids by name: of each case T, B, I, H, L. `benches/torch_lstm.py` reads the same file.
const GRIDS: &str = include_str!("grids.json");

impl Grid {
    /// The grid's name in the file.
    fn name(self) -> &'static str {
        match self {
            Grid::Small => "small",
            Grid::Published => "published",
        }
    }

    pub fn cases(self) -> Result<Vec<Case>> {
        let grids: BTreeMap<String, Vec<Sizes>> = serde_json::from_str(GRIDS).context("grids.json")?;
        let sizes = grids.get(self.name()).with_context(|| format!("grids.json has no {}", self.name()))?;
        Ok(sizes.iter().map(Sizes::case).collect())
    }
}

/// Sizes of a case in the file.
#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE", deny_unknown_fields)]
struct Sizes {
    t: usize,
    b: usize,
    i: usize,
    h: usize,
    l: usize,
}

impl Sizes {
    fn case(&self) -> Case {
        let Sizes { t, b, i, h, l } = *self;
        Case { t, b, i, h, l, d: 1, weights: Weights::F32, variant: PLAIN }
    }
}

impl Case {
    /// The layer, which returns every step.
    pub fn lstm(&self) -> Lstm {
        (self.variant.of)(Lstm::new(self.h).layers(self.l).bidirectional(self.d == 2).return_sequences(true))
    }

    pub fn dtype(&self) -> &'static str {
        match self.weights {
            Weights::F32 => "f32",
            Weights::F16 => "f16",
            Weights::Bf16 => "bf16",
            Weights::Int8 => "int8",
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { t, b, i, h, l, d, .. } = self;
        write!(f, "T={t},B={b},I={i},H={h},L={l},D={d},dtype={},variant={}", self.dtype(), self.variant.name)
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Case, String> {
        let mut case = Case { t: 0, b: 0, i: 0, h: 0, l: 1, d: 1, weights: Weights::F32, variant: PLAIN };
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("{part}: expected NAME=NUMBER"))?;
            if name == "dtype" {
                case.weights = Weights::from_str(value, false)
                    .map_err(|_| format!("dtype is {value}; recurrent weights are in f32, f16, bf16 or int8"))?;
                continue;
            }
            if name == "variant" {
                case.variant = Variant::find(value)?;
                continue;
            }
            let size = match name {
                "T" => &mut case.t,
                "B" => &mut case.b,
                "I" => &mut case.i,
                "H" => &mut case.h,
                "L" => &mut case.l,
                "D" => &mut case.d,
                _ => return Err(format!("{name} is not a size; sizes are T, B, I, H, L and D")),
            };
            *size = value.parse().map_err(|_| format!("{part}: {value} is not a number"))?;
        }
        let Case { t, b, i, h, .. } = case;
        for (name, size) in [("T", t), ("B", b), ("I", i), ("H", h), ("L", case.l)] {
            if size == 0 {
                return Err(format!("{name} is missing or 0"));
            }
            if size >= 1 << 28 {
                return Err(format!("{name} is {size}; sizes are below 2^28"));
            }
        }
        if case.d == 1 || case.d == 2 { Ok(case) } else { Err("D is 1 or 2".into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_in_their_file() {
        let counts = [Grid::Small, Grid::Published].map(|grid| grid.cases().unwrap().len());
        assert_eq!(counts, [7, 25]);
    }
}
