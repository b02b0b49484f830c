//! Training in segments of time: the same gradients as training that keeps everything, from memory that grows with √T.

mod common;

use common::{Draw, close};
use ndarray::Array3;
use std::collections::BTreeMap;
use std::sync::Arc;
use wgpu_lstm::Machine;
use wgpu_lstm::network::{Batch, NetworkPlan, Node, Purpose, network};
use wgpu_lstm::plan::{BufferId, Plan, Role};
use wgpu_lstm::real::Real;
use wgpu_lstm::{
    Activation, Capabilities, Dense, Device, Dropout, Embedding, Fit, Gru, IndRnn, Layer, LayerNorm, Loss, Lstm,
    MinLstm, Model, Optimiser, Pool, Reset, Rnn, SLstm, Sequential, TimeCheckpoints, Update,
};

const INPUT: usize = 3;

fn stack(layers: Vec<Layer>) -> Vec<Node> {
    let mut input = if let Layer::Embedding(_) = layers[0] { 1 } else { INPUT };
    let mut plans = Vec::new();
    for (k, layer) in layers.into_iter().enumerate() {
        let output = layer.output(input);
        plans.push(Node::new(format!("layer{k}"), input, layer));
        input = output;
    }
    plans
}

/// Models that return sequences and models that end them, with everything that segments must get right.
fn stacks() -> Vec<Vec<Layer>> {
    let lstm = || Lstm::new(4).return_sequences(true);
    let dropping = || lstm().layers(2).dropout(0.3).input_dropout(0.2).recurrent_dropout(0.4).weight_dropout(0.3);
    vec![
        vec![lstm().into(), Dense::new(2).activation(Activation::Tanh).into()],
        vec![Lstm::new(4).into()],
        vec![Lstm::new(4).layers(3).into(), Dropout::new(0.4).into(), Dense::new(2).into()],
        vec![
            dropping().into(),
            Dropout::new(0.5).into(),
            Gru::new(3).return_sequences(true).into(),
            Dense::new(2).into(),
        ],
        vec![dropping().zoneout(0.2, 0.3).into(), LayerNorm::new().into(), Lstm::new(3).into(), Dense::new(2).into()],
        vec![Embedding::new(4, 3).into(), lstm().into(), LayerNorm::new().into(), Dense::new(2).into()],
        vec![
            Dense::new(5).activation(Activation::Tanh).into(),
            Lstm::new(5).peepholes(true).into(),
            LayerNorm::new().into(),
        ],
        vec![Lstm::new(6).projection(3).layers(2).return_sequences(true).into(), Dense::new(2).into()],
        vec![Lstm::new(6).projection(3).weight_dropout(0.3).into(), Dense::new(2).into()],
        vec![lstm().layers(2).layer_norm(true).recurrent_dropout(0.3).zoneout(0.2, 0.3).into(), Dense::new(2).into()],
        vec![Lstm::new(4).layer_norm(true).weight_dropout(0.3).into(), Dense::new(2).into()],
        vec![Gru::new(4).layers(2).reset_after(false).weight_dropout(0.3).recurrent_dropout(0.2).into()],
        vec![Gru::new(4).weight_dropout(0.3).into(), Dense::new(2).into()],
        vec![SLstm::new(4).heads(2).layers(2).recurrent_dropout(0.2).return_sequences(true).into()],
        vec![IndRnn::new(4).layers(2).into(), Dense::new(2).into()],
        vec![MinLstm::new(4).layers(2).return_sequences(true).into(), Rnn::new(4).heads(2).into()],
    ]
}

fn training(layers: &[Node], sizes: Batch, weighted: bool, capabilities: &Capabilities) -> NetworkPlan {
    let update = Update::new(Optimiser::sgd(0.1, 0.0));
    let purpose = Purpose::Train { loss: &Loss::MeanSquaredError.into(), update: &update, weighted };
    network(layers, sizes, purpose, capabilities).unwrap()
}

/// Numbers that depend on a buffer's name only.
fn numbers(name: &str, len: u64, of_embedding: bool) -> Vec<f64> {
    let seed = name.bytes().fold(7u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte as u64));
    let values = Draw::new(seed).vec(len as usize).into_iter().map(|value| 0.8 * value as f64);
    match name {
        "words" => [7, 1, 11, 0, 4].map(f64::of_word).to_vec(),
        "x" if of_embedding => values.map(|value| (value.abs() * 4.0).floor()).collect(),
        _ => values.collect(),
    }
}

/// Everything that a plan makes before the optimiser, and what its states are then, by name.
fn results(layers: &[Node], sizes: Batch, weighted: bool) -> (BTreeMap<String, Vec<f64>>, Arc<Plan>) {
    let network = training(layers, sizes, weighted, &Capabilities::default());
    let plan = Arc::new(network.plan);
    let end = plan.commands.iter().position(|command| plan.sections[command.section].starts_with("optimiser")).unwrap();
    let machine = Machine::<f64>::new(plan.clone(), |_| None).unwrap();
    let ids = || (0..plan.buffers.len()).map(BufferId);
    for id in ids() {
        let buffer = &plan.buffers[id.0];
        if matches!(buffer.role, Role::Input | Role::Weight | Role::State) {
            let of_embedding = matches!(layers[0].layer, Layer::Embedding(_));
            machine.write((id, 0), &numbers(&buffer.name, buffer.len, of_embedding));
        }
    }
    machine.run(0..end).unwrap();
    let wanted = |role: Role| matches!(role, Role::Gradient | Role::Output | Role::State);
    let kept = ids().filter(|id| wanted(plan.buffers[id.0].role));
    let read = |id: BufferId| (plan.buffers[id.0].name.clone(), machine.read((id, 0), plan.buffers[id.0].len));
    (kept.map(read).collect(), plan.clone())
}

/// In f64, with all random bits: loss, gradients and final states are those of the plan that keeps everything, up to the order of
/// sums.
#[test]
fn gradients_are_those_of_the_plan_that_keeps_everything() {
    let steps = 11;
    for layers in stacks() {
        let what = format!("{layers:?}");
        let layers = stack(layers);
        for (ragged, stateful) in [(false, false), (true, false), (true, true)] {
            let sizes = Batch::new(3, steps).ragged(ragged).stateful(stateful);
            let (expected, plain) = results(&layers, sizes.clone(), ragged);
            for segment in [1, 3, 4, 10, 11, 50] {
                let (given, plan) = results(&layers, sizes.clone().segment(Some(segment)), ragged);
                let what = format!("{what}, ragged {ragged}, stateful {stateful}, segments of {segment}");
                assert_eq!(given.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}");
                let mut moved = 0.0f64;
                for (name, expected) in &expected {
                    for (at, (g, e)) in given[name].iter().zip(expected).enumerate() {
                        assert!((g - e).abs() <= 1e-13 + 1e-11 * e.abs(), "{what}: {name}[{at}] is {g}, expected {e}");
                        moved += e.abs();
                    }
                }
                assert!(moved > 0.0);
                let twice = plan.sections.iter().any(|section| section.ends_with("forward again"));
                assert_eq!(twice, segment < steps, "{what}");
                assert_eq!(plan.to_string().contains("gone through a second time"), segment < steps, "{plan}");
                if segment >= steps {
                    assert_eq!(plan.commands.len(), plain.commands.len());
                }
            }
        }
    }
}

/// On a device that cannot bind a segment, segments are shorter; inputs are split between segments.
#[test]
fn small_devices_get_shorter_segments() {
    let layers = stack(vec![Lstm::new(4).return_sequences(true).into(), Dense::new(2).into()]);
    let (expected, _) = results(&layers, Batch::new(3, 11), false);
    for max_binding_bytes in [700, 900, 1300] {
        let small = Capabilities { max_binding_bytes, ..Capabilities::default() };
        let network = training(&layers, Batch::new(3, 11).segment(Some(8)), false, &small);
        assert!(network.x().chunks.len() > 1);
        let plan = Arc::new(network.plan.clone());
        let machine = Machine::<f64>::new(plan.clone(), |_| None).unwrap();
        for (k, buffer) in plan.buffers.iter().enumerate().filter(|(_, buffer)| buffer.role == Role::Weight) {
            machine.write((BufferId(k), 0), &numbers(&buffer.name, buffer.len, false));
        }
        for (sequence, name) in [(network.x(), "x"), (network.target().unwrap(), "target")] {
            let all = numbers(name, 11 * sequence.step as u64, false);
            for (t, step) in all.chunks(sequence.step as usize).enumerate() {
                let (buffer, at) = sequence.at(t as u32);
                machine.write((buffer, at as u64), step);
            }
        }
        let end = plan.commands.iter().position(|command| plan.sections[command.section].starts_with("optimiser"));
        machine.run(0..end.unwrap()).unwrap();
        for (name, expected) in &expected {
            let given = machine.read((plan.find(name).unwrap(), 0), expected.len() as u64);
            for (g, e) in given.iter().zip(expected) {
                assert!((g - e).abs() <= 1e-13 + 1e-11 * e.abs(), "{name}: {g}, expected {e}");
            }
        }
    }
}

/// Gradients against central differences of the plan's own loss.
#[test]
fn gradients_are_differences_of_the_loss() {
    let layers = stack(vec![
        Lstm::new(3).layers(2).dropout(0.3).return_sequences(true).into(),
        Lstm::new(4).recurrent_dropout(0.2).into(),
        Dense::new(2).into(),
    ]);
    let network = training(&layers, Batch::new(3, 11).ragged(true).segment(Some(4)), false, &Capabilities::default());
    let plan = Arc::new(network.plan);
    let end = plan.commands.iter().position(|command| plan.sections[command.section].starts_with("optimiser")).unwrap();
    let machine = Machine::<f64>::new(plan.clone(), |_| None).unwrap();
    let mut weights = Vec::new();
    for (k, buffer) in plan.buffers.iter().enumerate() {
        let values = numbers(&buffer.name, buffer.len, false);
        if matches!(buffer.role, Role::Input | Role::Weight) {
            machine.write((BufferId(k), 0), &values);
        }
        if buffer.role == Role::Weight {
            weights.push((BufferId(k), values));
        }
    }
    let run = || {
        machine.run(0..end).unwrap();
        machine.read((network.loss.unwrap(), 0), 1)[0]
    };
    for (id, values) in weights {
        let name = &plan.buffers[id.0].name;
        run();
        let given = machine.read((plan.find(&format!("grad {name}")).unwrap(), 0), values.len() as u64);
        for at in (0..values.len()).step_by(1 + values.len() / 20) {
            let moved = |by: f64| {
                machine.write((id, at as u64), &[values[at] + by]);
                run()
            };
            let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            machine.write((id, at as u64), &[values[at]]);
            let difference = (given[at] - expected).abs();
            // 1e-9 absolute: the rounding of a difference over 2e-6
            assert!(difference <= 1e-9 + 1e-6 * expected.abs(), "{name}[{at}] is {}, expected {expected}", given[at]);
        }
    }
}

/// Scratch grows with √T, and the work by no more than one pass forward.
#[test]
fn memory_grows_with_the_square_root() {
    let layers = stack(vec![Lstm::new(16).layers(2).into(), Dense::new(2).into()]);
    let sizes = |steps: usize, segmented: bool| {
        let segment = segmented.then(|| (steps as f64).sqrt().ceil() as usize);
        let plan = training(&layers, Batch::new(8, steps).segment(segment), false, &Capabilities::default()).plan;
        let scratch = plan.buffers.iter().filter(|buffer| buffer.role == Role::Scratch);
        let longest = plan.buffers.iter().filter(|buffer| buffer.name == "partial sums").map(|buffer| buffer.bytes());
        (scratch.map(|buffer| buffer.bytes()).sum::<u64>() - longest.sum::<u64>(), plan.flops())
    };
    // Linear in √T, to the byte: from √T = 16 to 32 half as much is added as from 32 to 64.
    let [(small, _), (middle, _), (large, work)] = [256, 1024, 4096].map(|steps| sizes(steps, true));
    assert_eq!(large - middle, 2 * (middle - small));
    assert!(sizes(64, true).0 < small);
    let (plain, plain_work) = sizes(4096, false);
    assert!(large * 20 < plain, "{large} bytes in segments, {plain} without");
    let forward =
        network(&layers, Batch::new(8, 4096), Purpose::Predict, &Capabilities::default()).unwrap().plan.flops();
    let added = work - plain_work;
    // Beside the pass forward, each border between segments has a product with Rᵀ in each layer, and Rᵀ is made anew.
    assert!(added < forward + forward / 10, "{added} operations are added, a pass forward has {forward}");
}

fn data() -> (Array3<f32>, Array3<f32>) {
    let mut draw = Draw::new(2);
    (draw.array3((6, 23, INPUT)), draw.array3((6, 23, 2)))
}

fn fresh(device: &Device, checkpoints: TimeCheckpoints) -> Model {
    let lstm = Lstm::new(5).layers(2).dropout(0.2).recurrent_dropout(0.2).return_sequences(true);
    let layers = Sequential::new(INPUT).add(lstm).add(Dropout::new(0.2)).add(Dense::new(2));
    let mut model = layers.build(device, 1).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::sgd(0.2, 0.9)).unwrap();
    model.checkpoint_time(checkpoints).unwrap();
    model
}

const LENGTHS: [usize; 6] = [23, 4, 17, 0, 9, 20];

/// The same training on a device, up to rounding: 1e-5, as for ten steps of PyTorch.
fn training_is_the_same(device: &Device) {
    let (x, y) = data();
    for (window, ragged) in [(None, false), (None, true), (Some(13), true)] {
        let train = |checkpoints| {
            let mut model = fresh(device, checkpoints);
            let mut fit = Fit::new().epochs(3).batch_size(4).seed(4);
            if let Some(window) = window {
                fit = fit.truncated(window);
            }
            if ragged {
                fit = fit.lengths(LENGTHS.to_vec());
            }
            let history = model.fit(x.view(), y.view(), fit).unwrap();
            let parameters: Vec<f32> = model.parameters().unwrap().values().flatten().copied().collect();
            [history.loss, parameters].concat()
        };
        let expected = train(TimeCheckpoints::Off);
        for checkpoints in [TimeCheckpoints::SquareRoot, TimeCheckpoints::Every(7)] {
            let what = format!("{checkpoints:?}, windows {window:?}, ragged {ragged}");
            close(&what, &train(checkpoints), &expected, 1e-5, 1e-5);
        }
        assert_eq!(train(TimeCheckpoints::Every(23)), expected, "one segment is plain training");
    }
}

/// Checkpoints of time are saved with the training, so that a resumed run has the same bits.
fn resumed_with_segments(device: &Device) {
    let (x, y) = data();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.safetensors");
    let fit = || Fit::new().batch_size(3).shuffle(false).stateful(Reset::ByHand);
    let mut model = fresh(device, TimeCheckpoints::Every(6));
    model.fit(x.view(), y.view(), fit().epochs(1)).unwrap();
    model.save_training(&path).unwrap();
    let mut again = Model::load_training(&path, device).unwrap();
    for model in [&mut model, &mut again] {
        assert!(model.training_plan(3, 23).unwrap().strategy.contains("4 segments of at most 6 steps"));
        model.fit(x.view(), y.view(), fit().epochs(3).resume(true)).unwrap();
    }
    assert_eq!(model.parameters().unwrap(), again.parameters().unwrap());
}

on_both!(training_is_the_same, resumed_with_segments);

#[test]
fn what_cannot_be_cut_is_refused() {
    let device = Device::cpu();
    let lstm = || Lstm::new(3).return_sequences(true);
    let refused = |layers: Sequential, wanted: &str| {
        let mut model = layers.build(&device, 0).unwrap();
        model.compile(Loss::MeanSquaredError, Optimiser::adam(0.1)).unwrap();
        let error = model.checkpoint_time(TimeCheckpoints::SquareRoot).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
        model.checkpoint_time(TimeCheckpoints::Off).unwrap();
    };
    let model = || Sequential::new(INPUT);
    refused(model().add(lstm().bidirectional(true)), "lstm is bidirectional, which needs the whole sequence");
    refused(model().add(lstm()).add(lstm().reverse(true)), "lstm_1 runs backwards");
    refused(model().add(lstm().go_backwards(true)), "runs backwards");
    refused(model().add(lstm()).add(Pool::Max), "pool pools over time");
    refused(model().add(Dense::new(2)), "with a recurrent layer; this one has none");
    let refused = |checkpoints, mut model: Model| model.checkpoint_time(checkpoints).unwrap_err().to_string();
    let error = refused(TimeCheckpoints::Every(0), fresh(&device, TimeCheckpoints::Off));
    assert!(error.contains("every 0 steps"), "{error}");
    let error = refused(TimeCheckpoints::SquareRoot, model().add(lstm()).build(&device, 0).unwrap());
    assert!(error.contains("compile"), "{error}");
    let layers = stack(vec![lstm().into()]);
    let sizes = Batch::new(2, 9).segment(Some(3));
    let error = network(&layers, sizes, Purpose::Predict, &Capabilities::default()).unwrap_err().to_string();
    assert!(error.contains("training only"), "{error}");
}
