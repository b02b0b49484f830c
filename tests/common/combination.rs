//! Random combinations of the options of recurrent layers, for the crate and for the naive oracle. A case follows from its seed
//! alone.
#![allow(dead_code)]

use super::Draw;
use super::masks::Chances;
use super::recurrent_oracle::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};
use wgpu_lstm::cell::CellOption;
use wgpu_lstm::{Activation, Bias, Cell, Lstm, Merge};

/// Cases of a run on the CPU.
pub const ON_CPU: u32 = 700;
/// Cases of a run on an adapter: the first ones of those on the CPU. Most of their time goes into the compilation of shaders.
pub const ON_ADAPTER: u32 = 140;

/// One of the activations, for both.
fn activation(draw: &mut Draw) -> (Activation, OracleActivation) {
    let (alpha, beta) = (draw.next().abs(), draw.next());
    let (kind, activation) = match draw.below(12) {
        0 => (ActivationKind::Sigmoid, Activation::Sigmoid),
        1 => (ActivationKind::Tanh, Activation::Tanh),
        2 => (ActivationKind::Relu, Activation::Relu),
        3 => (ActivationKind::HardSigmoid, Activation::HardSigmoid { alpha, beta }),
        4 => (ActivationKind::Softsign, Activation::Softsign),
        5 => (ActivationKind::Softplus, Activation::Softplus),
        6 => (ActivationKind::Elu, Activation::Elu { alpha }),
        7 => (ActivationKind::LeakyRelu, Activation::LeakyRelu { alpha }),
        8 => (ActivationKind::Affine, Activation::Affine { alpha, beta }),
        9 => (ActivationKind::ScaledTanh, Activation::ScaledTanh { alpha, beta }),
        // Its jump makes a rounding at the threshold a failure. None of these cases meets it, and they are always the same.
        10 => (ActivationKind::ThresholdedRelu, Activation::ThresholdedRelu { alpha }),
        _ => return (Activation::Linear, OracleActivation::new(ActivationKind::Affine, 1.0, 0.0)),
    };
    (activation, OracleActivation::new(kind, alpha as f64, beta as f64))
}

/// A layer, and the oracle that says the same, but for its parameters.
pub struct Case {
    pub lstm: Lstm,
    pub oracle: RecurrentOracle,
    /// T, B, I.
    pub sizes: [usize; 3],
    pub ragged: bool,
    /// Dropout rates in training.
    pub chances: Chances,
    /// True if the device is so small that time is split where it can be.
    pub small: bool,
    /// Bound of the parameters.
    pub largest: f32,
    /// For what is left to draw.
    pub draw: Draw,
}

impl Case {
    /// The case of a seed.
    pub fn new(seed: u64) -> Case {
        let mut draw = Draw::new(seed);
        let [t, b, input, hidden] = [1 + draw.below(7), 1 + draw.below(5), 1 + draw.below(6), 1 + draw.below(9)];
        let mut yes = |of: usize| draw.below(of) == 0;
        let cell = if yes(6) {
            Cell::Gru
        } else if yes(6) {
            Cell::GruResetBefore
        } else if yes(8) {
            Cell::Article
        } else {
            Cell::Standard
        };
        // Cells that came later, and heads, by numbers of their own.
        let mut later = Draw::new(seed ^ 0x00ce_115e);
        let cell = match later.below(12) {
            0 | 1 => Cell::Rnn,
            2 => Cell::MinLstm,
            3 => Cell::SLstm,
            _ => cell,
        };
        let takes = |option: CellOption| cell.spec().options.contains(&option);
        let divisors: Vec<usize> = (1..=hidden).filter(|heads| hidden % heads == 0).collect();
        let heads = if later.below(3) == 0 { divisors[later.below(divisors.len())] } else { 1 };
        let lstm_cell = cell == Cell::Standard;
        let bidirectional = yes(3);
        let (reverse, go_backwards) = (!bidirectional && yes(5), !bidirectional && yes(6));
        let bias = if yes(4) {
            Bias::None
        } else if yes(2) {
            Bias::Single
        } else {
            Bias::Double
        };
        let bias = if bias == Bias::Double && cell == Cell::MinLstm { Bias::Single } else { bias };
        let (peepholes, coupled, clips, cell_clips, normed) = (yes(4), yes(5), yes(5), yes(6), yes(5));
        let (projects, other_activations, zones, ragged, small) =
            (hidden > 1 && yes(5), yes(3), yes(6), yes(2), yes(4));
        let layers = if go_backwards && !reverse { 1 } else { 1 + draw.below(3) };
        let go_backwards = go_backwards && !reverse;

        let mut lstm = Lstm::new(hidden).layers(layers).bidirectional(bidirectional).bias(bias).cell(cell);
        lstm = lstm.reverse(reverse).go_backwards(go_backwards);
        let oracle_cell = match cell {
            Cell::Standard if normed => RecurrentCell::LayerNormLstm,
            Cell::Standard => RecurrentCell::Lstm,
            Cell::Article => RecurrentCell::Article,
            Cell::GruResetBefore => RecurrentCell::GruResetBefore,
            Cell::Gru => RecurrentCell::GruResetAfter,
            Cell::Rnn => RecurrentCell::Rnn,
            Cell::MinLstm => RecurrentCell::MinLstm,
            Cell::SLstm => RecurrentCell::SLstm,
            other => unreachable!("{other:?} is not drawn"),
        };
        let mut oracle = RecurrentOracle::new(oracle_cell, input, hidden);
        oracle.layers = layers;
        oracle.directions = 1 + bidirectional as usize;
        oracle.go_backwards = reverse || go_backwards;
        oracle.visiting_order = go_backwards;
        if takes(CellOption::CandidateActivation) {
            if clips {
                (lstm, oracle.clip) = (lstm.clip(0.8), f64::from(0.8f32));
            }
            if other_activations {
                let [mut gate, candidate, output] = [(); 3].map(|()| activation(&mut draw));
                // Gates without a bound let states grow without one over the steps, and roundings with them.
                use ActivationKind::{HardSigmoid, ScaledTanh, Sigmoid, Softsign, Tanh};
                while t > 2 && ![HardSigmoid, ScaledTanh, Sigmoid, Softsign, Tanh].contains(&gate.1.kind) {
                    gate = activation(&mut draw);
                }
                (lstm, oracle.candidate) = (lstm.candidate_activation(candidate.0), candidate.1);
                if takes(CellOption::GateActivation) {
                    (lstm, oracle.gate) = (lstm.gate_activation(gate.0), gate.1);
                }
                if lstm_cell {
                    (lstm, oracle.output_activation) = (lstm.output_activation(output.0), output.1);
                }
            }
        }
        if lstm_cell {
            lstm = lstm.peepholes(peepholes).coupled(coupled);
            oracle.coupled = coupled;
            if cell_clips {
                (lstm, oracle.cell_clip) = (lstm.cell_clip(0.6), f64::from(0.6f32));
            }
            if normed {
                lstm = lstm.layer_norm(true);
            } else if projects {
                let projection = 1 + draw.below(hidden - 1);
                (lstm, oracle.projection) = (lstm.projection(projection), projection);
            }
            if zones && lstm.width() == hidden {
                (lstm, oracle.zoneout_h, oracle.zoneout_c) = (lstm.zoneout(0.25, 0.125), 0.25, 0.125);
            }
        }

        if takes(CellOption::Heads) && oracle.projection == 0 && oracle_cell != RecurrentCell::LayerNormLstm {
            (lstm, oracle.heads) = (lstm.heads(heads), heads);
        }

        // What training drops, by numbers of its own: the forward pass does not see it.
        let mut other = Draw::new(!seed);
        let mut chance =
            |possible: bool| if possible && other.below(4) == 0 { 0.1 + 0.4 * other.next().abs() as f64 } else { 0.0 };
        let chances = Chances {
            between: chance(layers > 1),
            input: chance(true),
            recurrent: chance(takes(CellOption::RecurrentDropout)),
            weights: chance(takes(CellOption::WeightDropout)),
            zoneout_h: oracle.zoneout_h,
            zoneout_c: oracle.zoneout_c,
        };
        lstm = chances.on(lstm);
        if bidirectional && other.below(2) == 0 {
            let merges =
                [(Merge::Sum, OracleMerge::Sum), (Merge::Mul, OracleMerge::Mul), (Merge::Ave, OracleMerge::Ave)];
            let (merge, same) = merges[other.below(3)];
            (lstm, oracle.merge) = (lstm.merge(merge), same);
        }

        if ragged && other.below(3) == 0 {
            (lstm, oracle.repeat_output) = (lstm.repeat_output(true), true);
        }

        let largest = if other_activations { 0.4 } else { 0.9 };
        Case { lstm, oracle, sizes: [t, b, input], ragged, chances, small, largest, draw }
    }
}

/// Calls with so many seeds, always the same: a failure is found by everyone or by no one.
pub fn seeds(count: u32, mut case: impl FnMut(u64)) {
    let config = Config { cases: count, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    let case = std::cell::RefCell::new(&mut case);
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(Default::default()))
        .run(&any::<u32>(), |seed| {
            (case.borrow_mut())(seed.into());
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
