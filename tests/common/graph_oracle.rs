//! Naive f64 networks: nodes that read inputs, other nodes and their states, written straight from the equations with plain vectors
//! and loops.
//!
//! It exists to check the crate against, so it shares no code with it. Each sequence of a batch is computed alone, over the steps that
//! it has: what a network makes of padding is so out of the question. Recurrent nodes are those of `recurrent_oracle.rs`.
#![allow(dead_code)]

use super::recurrent_oracle::{OracleActivation, OracleRun, RecurrentCell, RecurrentOracle};
use std::collections::BTreeMap;

/// A sequence [T, F] of one row, or a vector as one step.
pub type Steps = Vec<Vec<f64>>;

/// A tensor that a node reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tensor {
    /// An input of the network.
    Input(usize),
    /// The output of a node.
    Node(usize),
    /// A final state of a node: h and c (an LSTM's) of the forward direction, then those of the other.
    State(usize, usize),
}

/// Zeros at the ends of a row of T steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ends {
    /// None.
    Valid,
    /// So many that there are ⌈T / stride⌉ windows; the odd one at the end.
    Same,
    /// All in front.
    Causal,
    /// So many at both ends.
    Both(usize),
}

/// Windows of steps.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    pub size: usize,
    pub stride: usize,
    pub dilation: usize,
    pub ends: Ends,
}

impl Windows {
    /// Steps of each window for a row of `steps`; before the first and past the last there is padding.
    fn of(self, steps: usize) -> Vec<Vec<isize>> {
        let reach = (self.size - 1) * self.dilation + 1;
        let (left, right) = match self.ends {
            Ends::Valid => (0, 0),
            Ends::Causal => (reach - 1, 0),
            Ends::Both(padding) => (padding, padding),
            Ends::Same => {
                let windows = steps.div_ceil(self.stride);
                let total = ((windows - 1) * self.stride + reach).saturating_sub(steps);
                (total / 2, total - total / 2)
            }
        };
        let padded = left + steps + right;
        let starts = (0..padded).step_by(self.stride).filter(|start| start + reach <= padded);
        let taps =
            |start: usize| (0..self.size).map(|k| (start + k * self.dilation) as isize - left as isize).collect();
        starts.map(taps).collect()
    }

    /// Number of windows.
    pub fn count(self, steps: usize) -> usize {
        self.of(steps).len()
    }
}

/// Equations of a node.
#[derive(Clone, Debug)]
pub enum OracleOp {
    /// W·x + b, then an activation.
    Dense(Activated),
    Activation(Activated),
    /// A row of a table, of so many features.
    Embedding(usize),
    LayerNorm(f64),
    Recurrent {
        cell: RecurrentCell,
        hidden: usize,
        directions: usize,
        /// False: the final h of each direction.
        whole: bool,
    },
    Concat,
    Add,
    Multiply,
    Average,
    Maximum,
    /// A vector, so many times.
    Repeat(usize),
    /// A vector at every step of a second input.
    RepeatOver,
    /// Query, value and, if it is there, key.
    Attention {
        score: Score,
        causal: bool,
    },
    /// Steps weighted by the softmax of w·x, or of w·tanh(x).
    AttentionPool {
        tanh: bool,
    },
    Last,
    Mean,
    Max,
    Sum,
    Conv {
        windows: Windows,
        groups: usize,
        filters: usize,
        activation: Activated,
    },
    MaxPool(Windows),
    MeanPool {
        windows: Windows,
        count_padding: bool,
    },
    ZeroPad {
        left: usize,
        right: usize,
    },
    /// By running statistics, or by the moments of the batch.
    BatchNorm {
        epsilon: f64,
        by_batch: bool,
    },
}

/// Similarity of a query and a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Score {
    Dot,
    /// The product over √F.
    Scaled,
    /// Σ tanh(q + k).
    Additive,
}

/// An activation of each element, or of a whole step.
#[derive(Clone, Copy, Debug)]
pub enum Activated {
    Linear,
    Each(OracleActivation),
    Softmax,
}

impl Activated {
    fn apply(self, x: Vec<f64>) -> Vec<f64> {
        match self {
            Activated::Linear => x,
            Activated::Each(activation) => x.into_iter().map(|x| activation.apply(x)).collect(),
            Activated::Softmax => softmax(&x),
        }
    }
}

/// The sum of vectors times weights.
fn weighted(weights: &[f64], values: &Steps) -> Vec<f64> {
    let mut sum = vec![0.0; values[0].len()];
    for (weight, value) in weights.iter().zip(values) {
        sum.iter_mut().zip(value).for_each(|(sum, value)| *sum += weight * value);
    }
    sum
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let largest = x.iter().copied().fold(f64::MIN, f64::max);
    let powers: Vec<f64> = x.iter().map(|x| (x - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// A node.
#[derive(Clone, Debug)]
pub struct OracleNode {
    pub name: String,
    pub op: OracleOp,
    pub inputs: Vec<Tensor>,
    /// Initial states, in the order of [`Tensor::State`]; empty: zeros.
    pub initial: Vec<Tensor>,
    /// Name of the node whose parameters it uses.
    pub shares: Option<String>,
}

/// A network.
#[derive(Clone, Debug, Default)]
pub struct GraphOracle {
    pub nodes: Vec<OracleNode>,
    /// By `<node>.<PyTorch's name>`, in PyTorch's layout.
    pub params: BTreeMap<String, Vec<f64>>,
}

/// Values of all rows of a batch: of each node its output and its final states.
pub struct GraphValues {
    inputs: Vec<Vec<Steps>>,
    outputs: Vec<Vec<Steps>>,
    states: Vec<Vec<Vec<Vec<f64>>>>,
}

impl GraphValues {
    /// A tensor in one row; a state is a vector.
    pub fn row(&self, tensor: Tensor, row: usize) -> Steps {
        match tensor {
            Tensor::Input(k) => self.inputs[k][row].clone(),
            Tensor::Node(at) => self.outputs[at][row].clone(),
            Tensor::State(at, k) => vec![self.states[at][row][k].clone()],
        }
    }
}

impl GraphOracle {
    /// Values of all nodes, for rows [T, F] of each input.
    pub fn forward(&self, inputs: &[Vec<Steps>]) -> GraphValues {
        let mut values = GraphValues { inputs: inputs.to_vec(), outputs: Vec::new(), states: Vec::new() };
        let rows = 0..inputs[0].len();
        for node in &self.nodes {
            let given = |tensors: &[Tensor], row: usize| -> Vec<Steps> {
                tensors.iter().map(|&tensor| values.row(tensor, row)).collect()
            };
            let (mut outputs, mut states) = (Vec::new(), Vec::new());
            for row in rows.clone() {
                let x = given(&node.inputs, row);
                let (y, after) = match node.op {
                    OracleOp::Recurrent { .. } => self.recurrent(node, &x[0], &given(&node.initial, row)),
                    _ => (self.step(node, &x), Vec::new()),
                };
                outputs.push(y);
                states.push(after);
            }
            if let OracleOp::BatchNorm { epsilon, by_batch: true } = node.op {
                outputs = self.by_moments(node, &outputs, epsilon);
            }
            values.outputs.push(outputs);
            values.states.push(states);
        }
        values
    }

    fn param(&self, node: &OracleNode, name: &str) -> Option<&Vec<f64>> {
        self.params.get(&format!("{}.{name}", node.shares.as_ref().unwrap_or(&node.name)))
    }

    fn recurrent(&self, node: &OracleNode, x: &Steps, initial: &[Steps]) -> (Steps, Vec<Vec<f64>>) {
        let OracleOp::Recurrent { cell, hidden, directions, whole } = node.op else { unreachable!("{node:?}") };
        let mut oracle = RecurrentOracle::new(cell, x[0].len(), hidden);
        oracle.directions = directions;
        let prefix = format!("{}.", node.shares.as_ref().unwrap_or(&node.name));
        let own = self.params.iter().filter_map(|(name, v)| Some((name.strip_prefix(&prefix)?.to_string(), v.clone())));
        oracle.params = own.collect();
        let has_c = oracle.has_c();
        let mut run = OracleRun { x: x.concat(), b: 1, t: x.len(), ..OracleRun::default() };
        for (k, state) in initial.iter().enumerate() {
            let of = if has_c && k % 2 == 1 { &mut run.c_0 } else { &mut run.h_0 };
            of.extend(&state[0]);
        }
        let result = oracle.forward(&run);
        let mut states = Vec::new();
        for direction in 0..directions {
            let part = |all: &[f64]| all[direction * hidden..(direction + 1) * hidden].to_vec();
            states.push(part(&result.h_n));
            if has_c {
                states.push(part(&result.c_n));
            }
        }
        let y = match whole {
            true => result.output.chunks(directions * hidden).map(<[f64]>::to_vec).collect(),
            false => vec![result.h_n],
        };
        (y, states)
    }

    fn step(&self, node: &OracleNode, x: &[Steps]) -> Steps {
        let first = &x[0];
        let each = |with: &dyn Fn(&[f64]) -> Vec<f64>| -> Steps { first.iter().map(|step| with(step)).collect() };
        let joined = |with: &dyn Fn(&[f64]) -> f64| -> Steps {
            let step =
                |t: usize| (0..first[t].len()).map(|f| with(&x.iter().map(|x| x[t][f]).collect::<Vec<_>>())).collect();
            (0..first.len()).map(step).collect()
        };
        let feature = |with: &dyn Fn(&[f64]) -> f64| -> Steps {
            let column = |f: usize| with(&first.iter().map(|step| step[f]).collect::<Vec<_>>());
            vec![(0..first[0].len()).map(column).collect()]
        };
        match &node.op {
            OracleOp::Dense(activation) => each(&|x| {
                let weight = &self.param(node, "weight").unwrap()[..];
                let sums = weight.chunks(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>());
                let bias = self.param(node, "bias");
                activation.apply(sums.enumerate().map(|(u, sum)| sum + bias.map_or(0.0, |bias| bias[u])).collect())
            }),
            OracleOp::Activation(activation) => each(&|x| activation.apply(x.to_vec())),
            OracleOp::Embedding(features) => {
                let table = self.param(node, "weight").unwrap();
                each(&|x| table[x[0] as usize * features..][..*features].to_vec())
            }
            OracleOp::LayerNorm(epsilon) => each(&|x| {
                let (weight, bias) = (self.param(node, "weight").unwrap(), self.param(node, "bias").unwrap());
                let (mean, variance) = moments(x);
                let normal = x.iter().map(|x| (x - mean) / (variance + epsilon).sqrt());
                normal.zip(weight).zip(bias).map(|((x, w), b)| x * w + b).collect()
            }),
            OracleOp::Concat => (0..first.len()).map(|t| x.iter().flat_map(|x| x[t].clone()).collect()).collect(),
            OracleOp::Add => joined(&|all| all.iter().sum()),
            OracleOp::Multiply => joined(&|all| all.iter().product()),
            OracleOp::Average => joined(&|all| all.iter().sum::<f64>() / all.len() as f64),
            OracleOp::Maximum => joined(&|all| all.iter().copied().fold(f64::MIN, f64::max)),
            OracleOp::Repeat(steps) => vec![first[0].clone(); *steps],
            OracleOp::RepeatOver => vec![first[0].clone(); x[1].len()],
            OracleOp::Attention { score, causal } => self.attention(node, x, *score, *causal),
            OracleOp::AttentionPool { tanh } => {
                let weight = self.param(node, "weight").unwrap();
                let score = |x: &Vec<f64>| -> f64 {
                    x.iter().zip(weight).map(|(x, w)| w * if *tanh { x.tanh() } else { *x }).sum()
                };
                vec![weighted(&softmax(&first.iter().map(score).collect::<Vec<_>>()), first)]
            }
            OracleOp::Last => vec![first[first.len() - 1].clone()],
            OracleOp::Mean => feature(&|all| all.iter().sum::<f64>() / all.len() as f64),
            OracleOp::Max => feature(&|all| all.iter().copied().fold(f64::MIN, f64::max)),
            OracleOp::Sum => feature(&|all| all.iter().sum()),
            OracleOp::Conv { windows, groups, filters, activation } => {
                self.convolved(node, first, *windows, [*groups, *filters], *activation)
            }
            OracleOp::MaxPool(windows) => {
                pooled(first, *windows, |inside, _| inside.iter().copied().fold(f64::MIN, f64::max))
            }
            OracleOp::MeanPool { windows, count_padding } => pooled(first, *windows, |inside, size| {
                inside.iter().sum::<f64>() / if *count_padding { size } else { inside.len() } as f64
            }),
            OracleOp::ZeroPad { left, right } => {
                let zeros = |count: usize| vec![vec![0.0; first[0].len()]; count];
                [zeros(*left), first.clone(), zeros(*right)].concat()
            }
            OracleOp::BatchNorm { by_batch: true, .. } => first.clone(),
            OracleOp::BatchNorm { epsilon, .. } => each(&|x| {
                let all = ["weight", "bias", "running_mean", "running_var"].map(|name| self.param(node, name).unwrap());
                let normal = |f: usize| (x[f] - all[2][f]) / (all[3][f] + epsilon).sqrt();
                (0..x.len()).map(|f| normal(f) * all[0][f] + all[1][f]).collect()
            }),
            OracleOp::Recurrent { .. } => unreachable!("it has states"),
        }
    }

    fn attention(&self, node: &OracleNode, x: &[Steps], score: Score, causal: bool) -> Steps {
        let (query, value, key) = (&x[0], &x[1], x.get(2).unwrap_or(&x[1]));
        let scale = self.param(node, "scale");
        let attend = |(t, q): (usize, &Vec<f64>)| {
            let seen = if causal { (t + 1).min(key.len()) } else { key.len() };
            let similar = |k: &Vec<f64>| -> f64 {
                let pairs = q.iter().zip(k).enumerate();
                let product = || q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() * scale.map_or(1.0, |scale| scale[0]);
                match score {
                    Score::Dot => product(),
                    Score::Scaled => product() / (q.len() as f64).sqrt(),
                    Score::Additive => {
                        pairs.map(|(f, (q, k))| scale.map_or(1.0, |scale| scale[f]) * (q + k).tanh()).sum()
                    }
                }
            };
            weighted(&softmax(&key[..seen].iter().map(similar).collect::<Vec<_>>()), value)
        };
        query.iter().enumerate().map(attend).collect()
    }

    fn convolved(
        &self,
        node: &OracleNode,
        x: &Steps,
        windows: Windows,
        [groups, filters]: [usize; 2],
        activation: Activated,
    ) -> Steps {
        let weight = self.param(node, "weight").unwrap();
        let bias = self.param(node, "bias");
        let (own, per_group) = (x[0].len() / groups, filters / groups);
        let output = |taps: &Vec<isize>, filter: usize| {
            let mut sum = bias.map_or(0.0, |bias| bias[filter]);
            for (k, &t) in taps.iter().enumerate().filter(|(_, t)| (0..x.len() as isize).contains(*t)) {
                for f in 0..own {
                    sum += weight[(filter * own + f) * windows.size + k] * x[t as usize][filter / per_group * own + f];
                }
            }
            sum
        };
        let steps = windows.of(x.len());
        steps.iter().map(|taps| activation.apply((0..filters).map(|filter| output(taps, filter)).collect())).collect()
    }

    /// Normalised by the mean and variance of each feature over all steps of all rows.
    fn by_moments(&self, node: &OracleNode, rows: &[Steps], epsilon: f64) -> Vec<Steps> {
        let (weight, bias) = (self.param(node, "weight").unwrap(), self.param(node, "bias").unwrap());
        let all: Vec<&Vec<f64>> = rows.iter().flatten().collect();
        let column = |f: usize| moments(&all.iter().map(|step| step[f]).collect::<Vec<_>>());
        let moments: Vec<(f64, f64)> = (0..all[0].len()).map(column).collect();
        let normal = |(f, x): (usize, &f64)| {
            let (mean, variance) = moments[f];
            (x - mean) / (variance + epsilon).sqrt() * weight[f] + bias[f]
        };
        let step = |step: &Vec<f64>| step.iter().enumerate().map(normal).collect();
        rows.iter().map(|row| row.iter().map(step).collect()).collect()
    }
}

/// Mean and variance.
fn moments(x: &[f64]) -> (f64, f64) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    (mean, x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64)
}

/// Each window of each feature, from the steps of it that there are and its number of steps with padding.
fn pooled(x: &Steps, windows: Windows, with: impl Fn(&[f64], usize) -> f64) -> Steps {
    let step = |taps: &Vec<isize>| {
        let there: Vec<usize> = taps.iter().filter_map(|&t| usize::try_from(t).ok()).filter(|&t| t < x.len()).collect();
        let feature = |f: usize| with(&there.iter().map(|&t| x[t][f]).collect::<Vec<_>>(), windows.size);
        (0..x[0].len()).map(feature).collect()
    };
    windows.of(x.len()).iter().map(step).collect()
}
