//! The masks that training makes, written out for the naive oracle: random bits are the crate's (they have known answers of
//! their own), which bit drops what is said here once more.
#![allow(dead_code)]

use super::recurrent_oracle::{OracleRun, RecurrentCell, RecurrentOracle};
use wgpu_lstm::Lstm;
use wgpu_lstm::random::{bits, threshold};

/// Kinds of masks whose statistics `tests/dropout.rs` looks at: a layer, and what recurrent layers may have.
pub const KINDS: [&str; 7] =
    ["Dropout layer", "input_dropout", "dropout", "recurrent_dropout", "weight_dropout", "zoneout_h", "zoneout_c"];

/// Probabilities of every kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chances {
    pub between: f64,
    pub input: f64,
    pub recurrent: f64,
    pub weights: f64,
    pub zoneout_h: f64,
    pub zoneout_c: f64,
}

impl Chances {
    /// A layer that drops so; zoneout, which inference knows, too, is left to the caller.
    pub fn on(self, lstm: Lstm) -> Lstm {
        let lstm = lstm.dropout(self.between).input_dropout(self.input);
        lstm.recurrent_dropout(self.recurrent).weight_dropout(self.weights)
    }

    /// The run as training sees it with this key.
    pub fn run(self, key: [u32; 2], oracle: &RecurrentOracle, run: &OracleRun) -> OracleRun {
        let mut run = run.clone();
        let (b, t, d, hidden, width) = (run.b, run.t, oracle.directions, oracle.hidden, oracle.width());
        let factor = |probability: f64, site: u32, index: usize| {
            let dropped = bits(key, [index as u32, site])[0] < threshold(probability);
            if dropped { 0.0 } else { f64::from((1.0 / (1.0 - probability)) as f32) }
        };
        // Places are numbered as layers come to them.
        let mut sites = 0..;
        let mut place = move || sites.next().unwrap();
        for layer in 0..oracle.layers {
            let features = if layer == 0 { oracle.input } else { d * width };
            let mut read = vec![]; // factors of what the layer reads, [B, T, features]
            if layer > 0 && self.between > 0.0 {
                let site = place();
                read = vec![1.0; b * t * features];
                for (at, value) in read.iter_mut().enumerate() {
                    let (row, time, k) = (at / features / t, at / features % t, at % features);
                    *value = factor(self.between, site, (time * b + row) * features + k);
                }
            }
            if self.input > 0.0 {
                let site = place();
                let shared = |row: usize, k: usize| factor(self.input, site, row * features + k);
                if layer == 0 {
                    run.input_mask = (0..b * features).map(|at| shared(at / features, at % features)).collect();
                } else {
                    read.resize(b * t * features, 1.0);
                    read.iter_mut().enumerate().for_each(|(at, value)| {
                        *value *= shared(at / features / t, at % features);
                    });
                }
            }
            if layer > 0 {
                run.between_masks.push(read);
            }
            if self.weights > 0.0 {
                let site = place();
                let columns: &[usize] = match oracle.cell {
                    RecurrentCell::GruResetAfter => &[0, 1, 3],
                    RecurrentCell::GruResetBefore => &[0, 1, 2],
                    RecurrentCell::Rnn => &[0],
                    _ => &[0, 1, 2, 3],
                };
                for direction in 0..d {
                    // [head, gate, unit] rows; those of a single head as PyTorch has them
                    let (units, seen) = (hidden / oracle.heads, width / oracle.heads);
                    let element = |at: usize| {
                        let (row, k) = (at / seen, at % seen);
                        let (head, gate, unit) =
                            (row / units / columns.len(), row / units % columns.len(), row % units);
                        let column = 4 * (head * units + unit) + columns[gate];
                        factor(self.weights, site, (direction * seen + k) * 4 * hidden + column)
                    };
                    run.weight_masks.push((0..columns.len() * hidden * seen).map(element).collect());
                }
            }
            if self.recurrent > 0.0 {
                let site = place();
                for direction in 0..d {
                    let element = |at: usize| factor(self.recurrent, site, direction * b * width + at);
                    run.recurrent_masks.push((0..b * width).map(element).collect());
                }
            }
            let site = place();
            for direction in 0..d {
                let backwards = direction == 1 || oracle.go_backwards;
                let kept = |which: usize, probability: f64| {
                    let element = |at: usize| {
                        let (time, row, unit) = (at / hidden / b, at / hidden % b, at % hidden);
                        let visit = if backwards { t - 1 - time } else { time };
                        let index = ((visit * d + direction) * b + row) * hidden + unit;
                        (bits(key, [index as u32, site])[which] < threshold(probability)) as u32 as f64
                    };
                    (0..t * b * hidden).map(element).collect::<Vec<f64>>()
                };
                if self.zoneout_h > 0.0 || self.zoneout_c > 0.0 {
                    run.zoneout_keep_h.push(kept(0, self.zoneout_h));
                    run.zoneout_keep_c.push(kept(1, self.zoneout_c));
                }
            }
        }
        run
    }
}
