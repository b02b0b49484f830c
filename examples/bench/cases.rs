//! Sizes to time.

use crate::variants::{PLAIN, Variant};
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
    /// Recurrent weights in f16.
    pub half: bool,
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

impl Grid {
    pub fn cases(self) -> Vec<Case> {
        let case = |(t, b, i, h, l)| Case { t, b, i, h, l, d: 1, half: false, variant: PLAIN };
        match self {
            Grid::Small => [
                (1, 1, 128, 128, 1),
                (24, 32, 4, 32, 1),
                (96, 32, 8, 64, 2),
                (128, 32, 256, 256, 1),
                (50, 64, 512, 512, 1),
                (25, 32, 1024, 1024, 1),
                (100, 1, 512, 512, 1),
            ]
            .map(case)
            .to_vec(),
            Grid::Published => {
                let inference = [(256, 150), (512, 25), (1024, 25), (1536, 50), (2048, 25)];
                let inference = inference.iter().flat_map(|&(h, t)| [1, 2, 4].map(|b| (t, b, h, h, 1)));
                let training = [512, 1024].into_iter().flat_map(|h| [16, 32, 64, 128].map(|b| (25, b, h, h, 1)));
                let others = [(1024, 16, 768, 768, 1), (100, 64, 512, 512, 4)];
                inference.chain(training).chain(others).map(case).collect()
            }
        }
    }
}

impl Case {
    /// The layer, which returns every step.
    pub fn lstm(&self) -> Lstm {
        (self.variant.of)(Lstm::new(self.h).layers(self.l).bidirectional(self.d == 2).return_sequences(true))
    }

    pub fn dtype(&self) -> &'static str {
        if self.half { "f16" } else { "f32" }
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

    fn from_str(text: &str) -> Result<Case, String> {
        let mut case = Case { t: 0, b: 0, i: 0, h: 0, l: 1, d: 1, half: false, variant: PLAIN };
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("{part}: expected NAME=NUMBER"))?;
            if name == "dtype" {
                case.half = match value {
                    "f32" => false,
                    "f16" => true,
                    _ => return Err(format!("dtype {value} is neither f32 nor f16 (recurrent weights in f16)")),
                };
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
