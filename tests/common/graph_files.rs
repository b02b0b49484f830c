//! The files `graph_*`: networks as JSON, and the naive oracle of each.
#![allow(dead_code)]

use super::Fixture;
use super::graph_oracle::*;
use super::recurrent_oracle::{ActivationKind, OracleActivation, RecurrentCell};
use ndarray::Axis;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The network of a file.
#[derive(Debug, Deserialize)]
pub struct GraphFile {
    pub inputs: BTreeMap<String, InputFile>,
    pub nodes: Vec<NodeFile>,
    pub outputs: BTreeMap<String, OutputFile>,
}

/// Width of an input, or the number of its token ids.
#[derive(Debug, Deserialize)]
pub struct InputFile {
    pub features: Option<usize>,
    pub entries: Option<usize>,
}

#[derive(Debug, Deserialize)]
pub struct NodeFile {
    pub name: String,
    pub layer: Value,
    pub inputs: Vec<String>,
    #[serde(default)]
    pub initial: Vec<String>,
    pub shares: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct OutputFile {
    pub node: String,
    pub loss: String,
    pub weight: f64,
}

impl NodeFile {
    /// The layer's kind.
    pub fn kind(&self) -> &str {
        self.word("layer")
    }

    pub fn word(&self, key: &str) -> &str {
        self.layer[key].as_str().unwrap_or_else(|| panic!("{key} of {}", self.layer))
    }

    pub fn size(&self, key: &str) -> usize {
        self.number(key) as usize
    }

    pub fn number(&self, key: &str) -> f64 {
        self.layer[key].as_f64().unwrap_or_else(|| panic!("{key} of {}", self.layer))
    }

    pub fn is(&self, key: &str) -> bool {
        self.layer[key].as_bool().unwrap_or_else(|| panic!("{key} of {}", self.layer))
    }
}

impl GraphFile {
    pub fn of(file: &Fixture) -> GraphFile {
        serde_json::from_str(&file.metadata["graph"]).unwrap()
    }

    /// A tensor by its name: of an input, of a node, or of a node's state; of two directions that has both.
    pub fn tensors(&self, name: &str) -> Vec<Tensor> {
        if let Some(at) = self.inputs.keys().position(|key| key == name) {
            return vec![Tensor::Input(at)];
        }
        let (node, state) = name.split_once('.').map_or((name, None), |(node, state)| (node, Some(state)));
        let at = self.nodes.iter().position(|other| other.name == node).unwrap_or_else(|| panic!("{name}"));
        let Some(state) = state else { return vec![Tensor::Node(at)] };
        let own = &self.nodes[at];
        let planes = if own.word("cell") == "gru" { 1 } else { 2 };
        let k = ["h", "c"].iter().position(|other| *other == state).unwrap();
        (0..=own.is("bidirectional") as usize).map(|direction| Tensor::State(at, direction * planes + k)).collect()
    }

    /// The same network as the oracle has it. States of two directions are joined by a node in front of the one that reads them.
    pub fn oracle(&self, file: &Fixture) -> (GraphOracle, Vec<Tensor>) {
        let wide =
            |(name, array): (String, ndarray::ArrayD<f32>)| (name, array.iter().map(|&v| f64::from(v)).collect());
        let mut oracle =
            GraphOracle { params: file.under("param.").into_iter().map(wide).collect(), nodes: Vec::new() };
        let mut place = Vec::new(); // of each node of the file
        let moved = |tensor: Tensor, place: &[usize]| match tensor {
            Tensor::Input(k) => Tensor::Input(k),
            Tensor::Node(at) => Tensor::Node(place[at]),
            Tensor::State(at, k) => Tensor::State(place[at], k),
        };
        for node in &self.nodes {
            let tensor = |name: &String| moved(self.tensors(name)[0], &place);
            let inputs = node.inputs.iter().map(tensor).collect();
            let mut initial = Vec::new();
            for name in &node.initial {
                let parts: Vec<Tensor> = self.tensors(name).into_iter().map(|part| moved(part, &place)).collect();
                if let [one] = parts[..] {
                    initial.push(one);
                    continue;
                }
                let name = format!("{name} of both");
                oracle.nodes.push(OracleNode {
                    name,
                    op: OracleOp::Concat,
                    inputs: parts,
                    initial: vec![],
                    shares: None,
                });
                initial.push(Tensor::Node(oracle.nodes.len() - 1));
            }
            let op = op(node, file.metadata["batch_statistics"] == "1");
            place.push(oracle.nodes.len());
            oracle.nodes.push(OracleNode { name: node.name.clone(), op, inputs, initial, shares: node.shares.clone() });
        }
        let outputs = self.outputs.values().map(|output| moved(self.tensors(&output.node)[0], &place));
        let outputs = outputs.collect();
        (oracle, outputs)
    }

    /// Rows of each input, up to their ends.
    pub fn rows(&self, file: &Fixture) -> Vec<Vec<Steps>> {
        let rows = |name: &String| {
            let x = file.array3(&format!("input.{name}"));
            let row = |n: usize| {
                let length = file.tensors.get(&format!("lengths.{name}")).map_or(x.dim().1, |all| all[n] as usize);
                let steps = x.index_axis(Axis(0), n);
                steps.outer_iter().take(length).map(|step| step.iter().map(|&v| f64::from(v)).collect()).collect()
            };
            (0..x.dim().0).map(row).collect()
        };
        self.inputs.keys().map(rows).collect()
    }

    /// The loss of each output, over all steps that there are, and the weighted sum of all.
    pub fn losses(&self, file: &Fixture, values: &GraphValues, outputs: &[Tensor]) -> (BTreeMap<String, f64>, f64) {
        let (mut each, mut total) = (BTreeMap::new(), 0.0);
        for ((name, output), &tensor) in self.outputs.iter().zip(outputs) {
            let target = &file.tensors[&format!("target.{name}")];
            let (mut sum, mut steps) = (0.0, 0);
            for (row, target) in target.outer_iter().enumerate() {
                let y = values.row(tensor, row);
                let width = target.shape()[target.ndim() - 1];
                let target: Vec<f64> = target.iter().map(|&v| f64::from(v)).collect();
                for (y, target) in y.iter().zip(target.chunks(width)) {
                    sum += match output.loss.as_str() {
                        "mean_squared_error" => {
                            y.iter().zip(target).map(|(y, t)| (y - t).powi(2)).sum::<f64>() / width as f64
                        }
                        "sparse_softmax_cross_entropy" => {
                            let largest = y.iter().copied().fold(f64::MIN, f64::max);
                            let all = y.iter().map(|y| (y - largest).exp()).sum::<f64>().ln() + largest;
                            all - y[target[0] as usize]
                        }
                        other => panic!("no loss is called {other}"),
                    };
                }
                steps += y.len();
            }
            total += output.weight * sum / steps as f64;
            each.insert(name.clone(), sum / steps as f64);
        }
        (each, total)
    }
}

fn activated(name: &str) -> Activated {
    let kind = match name {
        "linear" => return Activated::Linear,
        "softmax" => return Activated::Softmax,
        "tanh" => ActivationKind::Tanh,
        "relu" => ActivationKind::Relu,
        "sigmoid" => ActivationKind::Sigmoid,
        other => panic!("no activation is called {other}"),
    };
    Activated::Each(OracleActivation::new(kind, 0.0, 0.0))
}

fn windows(node: &NodeFile, size: &str) -> Windows {
    let ends = match (&node.layer["padding"], node.layer["padding"].as_str()) {
        (_, Some("valid")) => Ends::Valid,
        (_, Some("same")) => Ends::Same,
        (_, Some("causal")) => Ends::Causal,
        (both, _) => Ends::Both(both.as_u64().unwrap() as usize),
    };
    let dilation = node.layer.get("dilation").map_or(1, |_| node.size("dilation"));
    Windows { size: node.size(size), stride: node.size("stride"), dilation, ends }
}

fn op(node: &NodeFile, by_batch: bool) -> OracleOp {
    match node.kind() {
        "dense" => OracleOp::Dense(activated(node.word("activation"))),
        "embedding" => OracleOp::Embedding(node.size("features")),
        "layer_norm" => OracleOp::LayerNorm(node.number("epsilon")),
        "lstm" => OracleOp::Recurrent {
            cell: if node.word("cell") == "gru" { RecurrentCell::GruResetAfter } else { RecurrentCell::Lstm },
            hidden: node.size("hidden"),
            directions: 1 + node.is("bidirectional") as usize,
            whole: node.is("return_sequences"),
        },
        "concat" => OracleOp::Concat,
        "add" => OracleOp::Add,
        "multiply" => OracleOp::Multiply,
        "average" => OracleOp::Average,
        "maximum" => OracleOp::Maximum,
        "repeat" => OracleOp::Repeat(node.size("steps")),
        "attention" => OracleOp::Attention {
            score: if node.word("score") == "additive" { Score::Additive } else { Score::Dot },
            causal: node.is("causal"),
        },
        "conv1d" => OracleOp::Conv {
            windows: windows(node, "kernel"),
            groups: node.size("groups"),
            filters: node.size("filters"),
            activation: activated(node.word("activation")),
        },
        "max_pool1d" => OracleOp::MaxPool(windows(node, "size")),
        "average_pool1d" => {
            OracleOp::MeanPool { windows: windows(node, "size"), count_padding: node.is("count_padding") }
        }
        "zero_padding1d" => OracleOp::ZeroPad { left: node.size("left"), right: node.size("right") },
        "batch_norm" => OracleOp::BatchNorm { epsilon: node.number("epsilon"), by_batch },
        other => panic!("no layer is called {other}"),
    }
}
