//! Networks against what PyTorch and Keras computed (`tests/fixtures/graph_*`): outputs, losses, the gradient of every parameter by one
//! step of plain gradient descent with a rate of 1, running statistics, and steps of training with parameter groups.

mod common;

use common::graph_files::{GraphFile, NodeFile};
use common::graph_oracle::Tensor;
use common::{Fixture, close, fixture, fixture_names};
use ndarray::{ArrayD, Axis};
use std::collections::{BTreeMap, HashMap};
use wgpu_lstm::{
    Activation, Add, Attention, Average, BatchNorm, Bias, Concat, Conv1d, Dense, Device, Embedding, Fit, Gru, Inputs,
    Layer, LayerNorm, Loss, Losses, Lstm, Maximum, Model, Multiply, Network, Optimiser, Padding, Repeat, Targets,
    Update, Value, WeightDecay, WindowPool, ZeroPad,
};

/// f32 throughout, sums of a few dozens of terms; the files are computed in f64.
const VALUES: f32 = 1e-5;
/// A gradient is the difference of two parameters of up to 3, each rounded to 1e-7, and a sum over steps and rows.
const GRADIENTS: f32 = 2e-5;
/// After five steps of Adam, whose first divide gradients by their own size: where those are small, so does their rounding.
const TRAINED: f32 = 1e-4;

fn activation(name: &str) -> Activation {
    serde_json::from_value(name.into()).unwrap()
}

fn padding(node: &NodeFile) -> Padding {
    match node.layer["padding"].as_u64() {
        Some(steps) => Padding::Both(steps as usize),
        None => serde_json::from_value(node.layer["padding"].clone()).unwrap(),
    }
}

/// The crate's layer.
fn layer(node: &NodeFile, keras: bool) -> Layer {
    let inputs = node.inputs.len();
    match node.kind() {
        "dense" => {
            Dense::new(node.size("units")).activation(activation(node.word("activation"))).bias(node.is("bias")).into()
        }
        "embedding" => Embedding::new(node.size("entries"), node.size("features")).into(),
        "layer_norm" => LayerNorm::new().epsilon(node.number("epsilon") as f32).into(),
        "lstm" => {
            let (hidden, two, whole) = (node.size("hidden"), node.is("bidirectional"), node.is("return_sequences"));
            let bias = if node.word("bias") == "single" { Bias::Single } else { Bias::Double };
            match node.word("cell") {
                "gru" => Gru::new(hidden).bias(bias).bidirectional(two).return_sequences(whole).into(),
                _ => Lstm::new(hidden).bias(bias).bidirectional(two).return_sequences(whole).into(),
            }
        }
        "concat" => Concat::new(inputs).into(),
        "add" => Add::new(inputs).into(),
        "multiply" => Multiply::new(inputs).into(),
        "average" => Average::new(inputs).into(),
        "maximum" => Maximum::new(inputs).into(),
        "repeat" => Repeat::new(node.size("steps")).into(),
        "attention" => {
            let attention = if node.word("score") == "additive" { Attention::additive() } else { Attention::new() };
            attention.learnt_scale(node.is("scale")).causal(node.is("causal")).keys(inputs == 3).into()
        }
        "conv1d" => Conv1d::new(node.size("filters"), node.size("kernel"))
            .stride(node.size("stride"))
            .padding(padding(node))
            .dilation(node.size("dilation"))
            .groups(node.size("groups"))
            .bias(node.is("bias"))
            .activation(activation(node.word("activation")))
            .into(),
        "max_pool1d" => WindowPool::max(node.size("size")).stride(node.size("stride")).padding(padding(node)).into(),
        "average_pool1d" => WindowPool::mean(node.size("size"))
            .stride(node.size("stride"))
            .padding(padding(node))
            .count_padding(node.is("count_padding"))
            .into(),
        "zero_padding1d" => ZeroPad::new(node.size("left"), node.size("right")).into(),
        "batch_norm" => BatchNorm::new()
            .epsilon(node.number("epsilon") as f32)
            .momentum(node.number("momentum") as f32)
            .unbiased(!keras)
            .into(),
        other => panic!("no layer is called {other}"),
    }
}

/// The network of a file. States of two directions are joined in front of the node that reads them.
fn network(graph: &GraphFile, keras: bool) -> Network {
    let mut net = Network::new();
    let inputs: Vec<Value> = graph
        .inputs
        .iter()
        .map(|(name, input)| match input.features {
            Some(features) => net.input(name, features),
            None => net.tokens(name),
        })
        .collect();
    let mut nodes: Vec<Value> = Vec::new();
    let mut named = HashMap::new();
    for node in &graph.nodes {
        let value = |net: &Network, tensor: Tensor| match tensor {
            Tensor::Input(k) => inputs[k],
            Tensor::Node(at) => nodes[at],
            Tensor::State(at, k) => net.states(nodes[at])[k],
        };
        let read: Vec<Value> = node.inputs.iter().map(|name| value(&net, graph.tensors(name)[0])).collect();
        let mut states = Vec::new();
        for name in &node.initial {
            let parts: Vec<Value> = graph.tensors(name).into_iter().map(|part| value(&net, part)).collect();
            states.push(match parts[..] {
                [one] => one,
                _ => net.layer(Concat::new(parts.len())).named(format!("{name} of both")).of(parts),
            });
        }
        let builder = match &node.shares {
            Some(owner) => net.again(named[owner]),
            None => net.layer(layer(node, keras)),
        };
        nodes.push(builder.named(&node.name).starts_from(states).of(read));
        named.insert(node.name.clone(), *nodes.last().unwrap());
    }
    for (name, output) in &graph.outputs {
        net.output(name, named[&output.node]);
    }
    net
}

/// The model of a file, with its parameters.
fn model(file: &Fixture, graph: &GraphFile, device: &Device) -> Model {
    let keras = file.metadata["made_with"].starts_with("keras");
    network(graph, keras).build_with(device, file.under("param.")).unwrap()
}

fn lengths(file: &Fixture, input: &str) -> Option<Vec<usize>> {
    Some(file.tensors.get(&format!("lengths.{input}"))?.iter().map(|&length| length as usize).collect())
}

fn inputs<'a>(file: &'a Fixture, graph: &GraphFile) -> Inputs<'a> {
    graph.inputs.keys().fold(Inputs::new(), |all, name| {
        let all = all.add(name, file.tensors[&format!("input.{name}")].view());
        match lengths(file, name) {
            Some(lengths) => all.lengths(lengths),
            None => all,
        }
    })
}

fn targets<'a>(file: &'a Fixture, graph: &GraphFile) -> Targets<'a> {
    graph.outputs.keys().fold(Targets::new(), |all, name| all.add(name, file.tensors[&format!("target.{name}")].view()))
}

fn losses(graph: &GraphFile) -> Losses {
    graph.outputs.iter().fold(Losses::new(), |all, (name, output)| {
        let loss = match output.loss.as_str() {
            "mean_squared_error" => Loss::MeanSquaredError,
            "sparse_softmax_cross_entropy" => Loss::SparseSoftmaxCrossEntropy,
            other => panic!("no loss is called {other}"),
        };
        all.weighted(name, loss, output.weight as f32)
    })
}

/// Outputs as the file has them: 0 in steps past the end of a row.
fn outputs_are(name: &str, file: &Fixture, graph: &GraphFile, model: &Model, tolerance: f32) {
    let mut outputs = model.outputs(inputs(file, graph)).unwrap();
    for (output, given) in &mut outputs {
        let expected = &file.tensors[&format!("output.{output}")];
        assert_eq!(given.shape(), expected.shape(), "{name} output {output}");
        if given.ndim() == 3 && file.tensors.keys().any(|key| key.starts_with("lengths.")) {
            // Padding is where the file has zeros in all features.
            for (mut row, expected) in given.outer_iter_mut().zip(expected.outer_iter()) {
                for (mut step, expected) in row.outer_iter_mut().zip(expected.outer_iter()) {
                    if expected.iter().all(|&value| value == 0.0) {
                        step.fill(0.0);
                    }
                }
            }
        }
        close(&format!("{name} output {output}"), &*given, expected, tolerance, tolerance);
    }
}

fn parameters_are(
    name: &str,
    given: &BTreeMap<String, ArrayD<f32>>,
    expected: BTreeMap<String, ArrayD<f32>>,
    tolerance: f32,
) {
    assert!(!expected.is_empty(), "{name}");
    for (parameter, expected) in expected {
        close(&format!("{name} {parameter}"), &given[&parameter], &expected, tolerance, tolerance);
    }
}

/// Outputs, losses and gradients.
fn check_pass(device: &Device, name: &str) {
    let file = fixture(name);
    let graph = GraphFile::of(&file);
    let mut model = model(&file, &graph, device);
    model.compile(losses(&graph), Optimiser::sgd(1.0, 0.0)).unwrap();
    let by_batch = file.metadata["batch_statistics"] == "1";
    if !by_batch {
        outputs_are(name, &file, &graph, &model, VALUES);
        let loss = model.evaluate(inputs(&file, &graph), targets(&file, &graph)).unwrap();
        close(&format!("{name} loss"), &[loss], &file.tensors["loss"], VALUES, VALUES);
        if graph.nodes.iter().any(|node| node.kind() == "batch_norm") {
            return; // training takes the batch's statistics
        }
    }
    let rows = file.tensors.iter().find(|(key, _)| key.starts_with("input.")).unwrap().1.len_of(Axis(0));
    let fit = Fit::new().batch_size(rows).shuffle(false);
    let history = model.fit(inputs(&file, &graph), targets(&file, &graph), fit).unwrap();
    close(&format!("{name} training loss"), &history.loss, &file.tensors["loss"], VALUES, VALUES);
    let (before, after) = (file.under("param."), model.parameters().unwrap());
    let gradients = before.iter().map(|(key, values)| (key.clone(), values - &after[key])).collect();
    parameters_are(&format!("{name} gradient"), &gradients, file.under("grad.param."), GRADIENTS);
    if by_batch {
        parameters_are(&format!("{name} after"), &after, file.under("after."), VALUES);
    }
}

/// The optimiser of a file, with its parameter groups.
fn update(file: &Fixture) -> Update {
    let settings: serde_json::Value = serde_json::from_str(&file.metadata["training"]).unwrap();
    let rate = settings["rate"].as_f64().unwrap();
    let (optimiser, decay): (_, fn(f64) -> WeightDecay) = match settings["optimiser"].as_str().unwrap() {
        "sgd" => (Optimiser::sgd(rate, settings["momentum"].as_f64().unwrap_or(0.0) as f32), WeightDecay::L2),
        "adam" => (Optimiser::adam(rate), WeightDecay::L2),
        "adamw" => (Optimiser::adamw(rate, 0.0), WeightDecay::Decoupled),
        other => panic!("no optimiser is called {other}"),
    };
    let mut update = Update::new(optimiser);
    for (name, group) in settings["groups"].as_object().into_iter().flatten() {
        let pattern = format!("{name}.");
        update = match group["frozen"].as_bool() {
            Some(true) => update.freeze(pattern),
            _ => {
                let strength = group["decay"].as_f64().unwrap();
                update.rate(&pattern, group["rate"].as_f64().unwrap()).decay(&pattern, decay(strength))
            }
        };
    }
    update
}

/// Losses of steps of training, running statistics after each, and all parameters at the end.
fn check_training(device: &Device, name: &str) {
    let file = fixture(name);
    let graph = GraphFile::of(&file);
    let mut model = model(&file, &graph, device);
    model.compile(losses(&graph), update(&file)).unwrap();
    let rows = file.tensors.iter().find(|(key, _)| key.starts_with("input.")).unwrap().1.len_of(Axis(0));
    for (k, expected) in file.tensors["losses"].iter().enumerate() {
        let fit = Fit::new().batch_size(rows).shuffle(false);
        let history = model.fit(inputs(&file, &graph), targets(&file, &graph), fit).unwrap();
        close(&format!("{name} loss {k}"), &history.loss, [expected], TRAINED, TRAINED);
        let step = file.under(&format!("step{}.param.", k + 1));
        if !step.is_empty() {
            parameters_are(&format!("{name} step {}", k + 1), &model.parameters().unwrap(), step, TRAINED);
        }
    }
    let (before, after) = (file.under("param."), model.parameters().unwrap());
    parameters_are(&format!("{name} in the end"), &after, file.under("final.param."), TRAINED);
    if name.contains("groups") {
        assert_eq!(before["embedding.weight"], after["embedding.weight"], "{name}: frozen");
    }
    outputs_are(name, &file, &graph, &model, TRAINED);
}

/// Names of the files of a mode.
fn files(mode: &str) -> Vec<String> {
    let names = fixture_names("graph_");
    names.into_iter().filter(|name| fixture(name).metadata["mode"] == mode).collect()
}

fn passes(device: &Device) {
    let names = files("gradients");
    assert!(names.len() >= 60, "{}", names.len());
    names.iter().for_each(|name| check_pass(device, name));
}

fn training(device: &Device) {
    let names = files("training");
    assert!(names.len() >= 7, "{}", names.len());
    names.iter().for_each(|name| check_training(device, name));
}

on_both!(passes, training);
