//! Stacks of layers: gradients of whole networks in f64 against central differences of their own loss, in the very plan that
//! trains, and sequences of different lengths against each sequence alone.

mod common;

use common::differences::Losses;
use common::stacks::{INPUT, stacks, unused};
use common::{Draw, close};
use ndarray::{Array2, Array3, Axis, s};
use wgpu_lstm::network::{Batch, Node, Purpose, Source, network};
use wgpu_lstm::plan::{BufferId, Role};
use wgpu_lstm::real::Real;
use wgpu_lstm::{
    Activation, Add, Capabilities, Cell, Dense, Device, Dropout, Fit, Gru, Inputs, Layer, Loss, Lstm, Merge, Optimiser,
    Pool, Sequential, Update,
};

/// Layers with their names and inputs.
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

/// Columns of gates that a cell does not have: they are 0 and have no gradient.
fn no_parameter(layers: &[Layer], name: &str, at: usize) -> bool {
    let layer = name.strip_prefix("layer").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    layer.is_some_and(|k| unused(&layers[k], name, at))
}

fn gradients_of(nodes: &[Node], ragged: bool, limit: u64) {
    let layers: Vec<Layer> = nodes.iter().map(|node| node.layer.clone()).collect();
    let what = format!("{layers:?}, ragged {ragged}, limit {limit}");
    let (batch, steps) = (3, 5);
    let update = Update::new(Optimiser::sgd(0.1, 0.0));
    let purpose = Purpose::Train { loss: &Loss::MeanSquaredError.into(), update: &update, weighted: false };
    let capabilities = Capabilities { max_binding_bytes: limit, ..Capabilities::default() };
    let network = network(nodes, Batch::new(batch, steps).ragged(ragged), purpose, &capabilities).expect(&what);
    let words = network.key_and_lengths();
    let losses = Losses::new(network.plan, network.loss.unwrap());
    let (machine, plan) = (&losses.machine, &losses.plan);
    let mut draw = Draw::new(11);
    let mut weights = Vec::new();
    for (k, buffer) in plan.buffers.iter().enumerate() {
        if !matches!(buffer.role, Role::Input | Role::Weight) {
            continue;
        }
        let mut values: Vec<f64> = draw.vec(buffer.len as usize).into_iter().map(|value| 0.8 * value as f64).collect();
        if buffer.name.starts_with('x') && what.contains("Embedding") {
            values.iter_mut().for_each(|value| *value = (value.abs() * 4.0).floor());
        }
        if Some(BufferId(k)) == words {
            let words = [7, 1, 5, 0, 3];
            values = words.map(f64::of_word).to_vec();
        }
        values
            .iter_mut()
            .enumerate()
            .filter(|(at, _)| no_parameter(&layers, &buffer.name, *at))
            .for_each(|(_, v)| *v = 0.0);
        machine.write((BufferId(k), 0), &values);
        if buffer.role == Role::Weight {
            weights.push(BufferId(k));
        }
    }
    for id in weights {
        let name = &plan.buffers[id.0].name;
        // Without one, it is a bias that is not there.
        let Some(given) = losses.gradient(id) else { continue };
        let elements = (0..given.len()).step_by(1 + given.len() / 40);
        let (none, held): (Vec<_>, Vec<_>) = elements.partition(|&at| no_parameter(&layers, name, at));
        none.into_iter().for_each(|at| assert_eq!(given[at], 0.0, "{what}: {name}[{at}]"));
        losses.hold(&what, id, &given, held.into_iter(), 1e-9);
    }
}

#[test]
fn gradients_of_stacks() {
    for ragged in [false, true] {
        for layers in stacks() {
            let projected =
                layers.iter().any(|layer| matches!(layer, Layer::Lstm(lstm) if lstm.width() < lstm.hidden()));
            if ragged && projected {
                continue; // refused, by name
            }
            let nodes = stack(layers);
            gradients_of(&nodes, ragged, 1 << 27);
            gradients_of(&nodes, ragged, 1100); // time is split
        }
    }
}

/// Nodes that read several others, and outputs that several read: their gradients add up.
fn branches() -> Vec<Node> {
    let node = |k: usize, input, layer: Layer, sources: &[Source]| Node {
        inputs: vec![input; sources.len()],
        sources: sources.to_vec(),
        ..Node::new(format!("layer{k}"), input, layer)
    };
    let dense = |units| Dense::new(units).activation(Activation::Tanh);
    vec![
        node(0, INPUT, dense(4).into(), &[Source::Input(0)]),
        node(1, 4, Lstm::new(4).return_sequences(true).into(), &[Source::Previous]),
        node(2, 4, Add::new(2).into(), &[Source::Node(0), Source::Node(1)]),
        node(
            3,
            4,
            Gru::new(4).return_sequences(true).bidirectional(true).merge(Merge::Sum).into(),
            &[Source::Previous],
        ),
        node(4, INPUT, dense(4).into(), &[Source::Input(0)]),
        // One of them twice
        node(5, 4, Add::new(5).into(), &[2, 3, 4, 0, 4].map(Source::Node)),
        node(6, 4, Activation::Relu.into(), &[Source::Previous]),
        node(7, 4, Dense::new(2).into(), &[Source::Node(6)]),
    ]
}

#[test]
fn gradients_of_branches_add_up() {
    for ragged in [false, true] {
        gradients_of(&branches(), ragged, 1 << 27);
        gradients_of(&branches(), ragged, 1100); // time is split
    }
}

#[test]
fn networks_out_of_order_are_refused() {
    let refused = |change: fn(&mut Vec<Node>), says: &str| {
        let mut nodes = branches();
        change(&mut nodes);
        let error = network(&nodes, Batch::new(2, 3), Purpose::Predict, &Capabilities::default()).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    };
    refused(|nodes| nodes[1].sources = vec![Source::Node(3)], "layer1 reads node 3, which does not come before it");
    refused(|nodes| nodes[2].sources.truncate(1), "layer2 reads 1 tensors; its layer takes 2");
    refused(
        |nodes| nodes[1].layer = Lstm::new(3).return_sequences(true).into(),
        "layer2 takes 4 features, but layer1 has 3",
    );
    refused(|nodes| nodes[1].layer = Lstm::new(4).into(), "one is a sequence and the other a vector");
    refused(|nodes| nodes[7].sources = vec![Source::Node(5)], "no node reads the output of layer6");
}

fn ragged_batches(device: &Device) {
    let lengths = [4, 0, 6, 1, 3];
    let mut draw = Draw::new(3);
    let x = draw.array3((lengths.len(), 6, INPUT));
    for layers in stacks().into_iter().take(8) {
        let what = format!("{layers:?}");
        let model = layers.into_iter().fold(Sequential::new(INPUT), |model, layer| model.add(layer));
        let model = model.build(device, 5).unwrap();
        let together = model.predict(Inputs::from(x.view()).lengths(&lengths)).unwrap();
        for (row, &length) in lengths.iter().enumerate().filter(|&(_, &length)| length > 0) {
            let alone = model.predict(x.slice(s![row..row + 1, ..length, ..])).unwrap();
            let own = together.index_axis(Axis(0), row);
            let own = if own.ndim() == 2 { own.slice_axis(Axis(0), (0..length).into()) } else { own };
            close(&what, own.iter(), alone.iter(), 2e-6, 2e-6);
        }
    }
}

/// Padding changes nothing, and a loss over sequences is that of their steps.
fn padding_changes_nothing(device: &Device) {
    let (lengths, steps) = (vec![4, 2, 6, 1, 5, 3], 6);
    let mut draw = Draw::new(4);
    let (x, y) = (draw.array3((6, steps, INPUT)), draw.array3((6, steps, 2)));
    let (mut other_x, mut other_y) = (x.clone(), y.clone());
    for (row, &length) in lengths.iter().enumerate() {
        other_x.slice_mut(s![row, length.., ..]).fill(9.0);
        other_y.slice_mut(s![row, length.., ..]).fill(-7.0);
    }
    let trained = |x: &Array3<f32>, y: &Array3<f32>| {
        let layers = Sequential::new(INPUT).add(Lstm::new(5).bidirectional(true).return_sequences(true));
        let mut model = layers.add(Dense::new(2)).build(device, 1).unwrap();
        model.compile(Loss::MeanSquaredError, Optimiser::adam(0.01)).unwrap();
        let fit = Fit::new().epochs(3).batch_size(4).lengths(lengths.clone()).seed(2);
        let history = model.fit(x.view(), y.view(), fit).unwrap();
        let loss = model.evaluate(Inputs::from(x.view()).lengths(&lengths), y.view()).unwrap();
        (model, history.loss, loss)
    };
    let ((model, losses, loss), (other, other_losses, other_loss)) = (trained(&x, &y), trained(&other_x, &other_y));
    assert_eq!((losses, loss), (other_losses, other_loss));
    assert_eq!(model.parameters().unwrap(), other.parameters().unwrap());
    let (mut sum, mut terms) = (0.0, 0);
    for (row, &length) in lengths.iter().enumerate() {
        let part = s![row..row + 1, ..length, ..];
        sum += model.evaluate(x.slice(part), y.slice(part)).unwrap() * length as f32;
        terms += length;
    }
    assert!((sum / terms as f32 - loss).abs() < 1e-5, "{loss}, step by step {}", sum / terms as f32);
}

on_both!(ragged_batches, padding_changes_nothing);

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let mut model = Sequential::new(2).add(Lstm::new(3)).add(Dense::new(1)).build(&Device::cpu(), 0).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(0.01)).unwrap();
    let (x, y) = (Array3::zeros((2, 4, 2)), Array2::zeros((2, 1)));
    let fit = |lengths: Vec<usize>| Fit::new().lengths(lengths);
    let error = model.fit(x.view(), y.view(), fit(vec![4])).unwrap_err().to_string();
    assert!(error.contains("1 lengths") && error.contains("B = 2"), "{error}");
    let error = model.fit(x.view(), y.view(), fit(vec![4, 5])).unwrap_err().to_string();
    assert!(error.contains("sequence 1 is 5") && error.contains("T = 4"), "{error}");
    assert!(
        model.predict(Inputs::from(x.view()).lengths(&[1, 9])).is_err()
            && model.evaluate(Inputs::from(x.view()).lengths(&[9, 9]), y.view()).is_err()
    );
}

#[test]
fn options_that_exclude_each_other_are_refused() {
    let refused = |lstm: Lstm| lstm.build(&Device::cpu(), 3, 0).unwrap_err().to_string();
    let lstm = || Lstm::new(4);
    for (lstm, wanted) in [
        (lstm().projection(4), "below the 4 hidden units"),
        (lstm().projection(0), "at least 1"),
        (lstm().projection(2).zoneout(0.1, 0.0), "excludes zoneout"),
        (lstm().cell(Cell::Article).peepholes(true), "article cell has no peepholes"),
        (Lstm::from(Gru::new(4)).cell_clip(1.0), "gru cell has no"),
        (Lstm::from(Gru::new(4).reset_after(false)).zoneout(0.1, 0.1), "gru_reset_before cell has no"),
        (lstm().layer_norm(true).projection(2), "exclude each other"),
        (lstm().clip(0.0), "above 0"),
        (lstm().cell_clip(f32::NAN), "above 0"),
        (lstm().recurrent_dropout(1.0), "below 1"),
        (lstm().zoneout(-0.1, 0.0), "at least 0"),
        (lstm().dropout(0.5), "between layers"),
        (lstm().reverse(true).bidirectional(true), "exclude each other"),
        (lstm().go_backwards(true).layers(2), "one layer"),
        (lstm().merge(Merge::Sum), "if there are two"),
        (lstm().gate_activation(Activation::Elu { alpha: -1.0 }), "at least 0"),
        (lstm().gate_activation(Activation::Softmax), "the gate activation is Softmax"),
        (lstm().candidate_activation(Activation::LogSoftmax), "the candidate activation is LogSoftmax"),
        (lstm().output_activation(Activation::Softmax), "only a Dense layer can have it"),
        (Lstm::from(Gru::new(4)).activation(Activation::Softmax), "only a Dense layer can have it"),
    ] {
        let error = refused(lstm);
        assert!(error.contains(wanted), "{error}");
    }
    let error = Sequential::new(3).add(Dropout::new(1.5)).build(&Device::cpu(), 0).unwrap_err().to_string();
    assert!(error.contains("below 1"), "{error}");
    let error = Sequential::new(3).add(Lstm::new(2)).add(Pool::Max).build(&Device::cpu(), 0).unwrap_err().to_string();
    assert!(error.contains("needs a sequence"), "{error}");
}
