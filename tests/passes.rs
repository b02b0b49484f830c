//! Passes with their tape on the device, steps and fits by losses of one's own, hidden states, bare layers: against the bare LSTM's
//! gradients, equations in f64, central differences of the f32 forward pass, and fits by the crate's own losses.

mod common;

use common::{Draw, close};
use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis, array, s};
use std::collections::BTreeMap;
use wgpu_lstm::{
    Add, BatchNorm, Capabilities, Clip, Conv1d, Dense, Device, Dropout, Embedding, Error, Fit, Gru, Inputs, LayerNorm,
    Loss, Losses, Lstm, Model, NamedArrays, Network, Optimiser, PassOptions, Regulariser, Sequential, Update,
};

fn array2(draw: &mut Draw, shape: (usize, usize)) -> Array2<f32> {
    draw.array3((shape.0, shape.1, 1)).index_axis_move(Axis(2), 0)
}

/// A model of an LSTM with sequences and a dense layer.
fn model(device: &Device) -> Model {
    let lstm = Lstm::new(4).layers(2).return_sequences(true);
    Sequential::new(3).add(lstm).add(Dense::new(2)).build(device, 5).unwrap()
}

/// Gradients of inputs, initial states and parameters are those of the bare LSTM below a dense layer that is written here.
fn gradients_are_those_of_the_bare_lstm(device: &Device) {
    let (model, mut draw) = (model(device), Draw::new(3));
    let parameters = model.parameters().unwrap();
    let own = parameters.iter().filter_map(|(name, array)| Some((name.strip_prefix("lstm.")?.into(), array.clone())));
    let lstm = Lstm::new(4).layers(2).build_with(device, 3, own.collect()).unwrap();
    let (x, dy) = (draw.array3((5, 6, 3)), draw.array3((5, 6, 2)));
    let states = [draw.array3((2, 5, 4)), draw.array3((2, 5, 4))];
    let initial = wgpu_lstm::LstmState { h: states[0].clone(), c: states[1].clone() };
    let mut options = PassOptions::new();
    for (layer, kind, state) in [(0, "h", 0), (1, "h", 0), (0, "c", 1), (1, "c", 1)] {
        options = options.initial(format!("lstm.{kind}_l{layer}"), states[state].index_axis(Axis(0), layer).to_owned());
    }
    let weight: ArrayView2<f32> = parameters["dense.weight"].view().into_dimensionality().unwrap();

    let pass = model.forward_with(x.view(), &options).unwrap();
    let below = lstm.forward(x.view(), Some(&initial)).unwrap();
    let flat = below.output.view().into_shape_with_order((30, 4)).unwrap();
    let y = flat.dot(&weight.t()) + &parameters["dense.bias"];
    close("output", &pass.output().unwrap(), y.iter().collect::<Vec<_>>(), 1e-6, 1e-6);
    let hidden = pass.hidden_states().unwrap();
    close("hidden", &hidden["lstm"], &below.output, 1e-6, 1e-6);
    let last = pass.final_states().unwrap();
    assert_eq!(last.len(), 4);
    close("final h", &last["lstm.h_l1"], below.state.h.index_axis(Axis(0), 1), 1e-6, 1e-6);
    close("final c", &last["lstm.c_l0"], below.state.c.index_axis(Axis(0), 0), 1e-6, 1e-6);

    let gradients = pass.backward(dy.view()).unwrap();
    let flat_dy = dy.view().into_shape_with_order((30, 2)).unwrap();
    let d_output = flat_dy.dot(&weight).into_shape_with_order((5, 6, 4)).unwrap();
    let expected = lstm.gradients(x.view(), Some(&initial), d_output.view(), None).unwrap();
    close("dx", &gradients.inputs["x"], &expected.x, 1e-5, 1e-5);
    for layer in 0..2 {
        let of = |array: &Array3<f32>| array.index_axis(Axis(0), layer).to_owned();
        close("dh", &gradients.initial[&format!("lstm.h_l{layer}")], &of(&expected.initial.h), 1e-5, 1e-5);
        close("dc", &gradients.initial[&format!("lstm.c_l{layer}")], &of(&expected.initial.c), 1e-5, 1e-5);
    }
    assert_eq!(gradients.parameters.len(), parameters.len());
    for (name, gradient) in &expected.parameters {
        close(name, &gradients.parameters[&format!("lstm.{name}")], gradient, 1e-5, 1e-5);
    }
    close("d weight", &gradients.parameters["dense.weight"], &flat_dy.t().dot(&flat), 1e-5, 1e-5);
    close("d bias", &gradients.parameters["dense.bias"], &flat_dy.sum_axis(Axis(0)), 1e-5, 1e-5);
}

/// A graph of two inputs and two outputs, whose decoder begins with the encoder's states.
fn branched(device: &Device) -> Model {
    let mut net = Network::new();
    let (a, b) = (net.input("a", 3), net.input("b", 2));
    let encoder = net.layer(Gru::new(4)).named("encoder").of(a);
    let states = net.states(encoder);
    let decoder = net.layer(Gru::new(4).return_sequences(true)).named("decoder").starts_from(states).of(b);
    let same = net.layer(Dense::new(4)).named("same").of(decoder);
    let sum = net.layer(Add::new(2)).of([decoder, same]);
    let (y, z) = (net.layer(Dense::new(2)).named("y").of(sum), net.layer(Dense::new(1)).named("z").of(encoder));
    net.output("y", y).output("z", z).build(device, 2).unwrap()
}

/// Central differences of Σ output ⊙ d_output, summed in f64. Tolerance: f32 outputs, over a step of 1/64.
fn gradients_of_a_graph_are_central_differences(device: &Device) {
    let (mut model, mut draw) = (branched(device), Draw::new(8));
    let (a, b) = (draw.array3((2, 3, 3)), draw.array3((2, 4, 2)));
    let d: NamedArrays =
        [("y".into(), draw.array3((2, 4, 2)).into_dyn()), ("z".into(), array2(&mut draw, (2, 1)).into_dyn())].into();
    let value = |model: &Model, a: &Array3<f32>| -> f64 {
        let outputs = model.outputs(Inputs::new().add("a", a.view()).add("b", b.view())).unwrap();
        let sum = |name: &str| outputs[name].iter().zip(&d[name]).map(|(&y, &d)| y as f64 * d as f64).sum::<f64>();
        sum("y") + sum("z")
    };
    let pass = model.forward(Inputs::new().add("a", a.view()).add("b", b.view())).unwrap();
    let outputs = pass.outputs().unwrap();
    assert_eq!((outputs["y"].shape(), outputs["z"].shape()), (&[2, 4, 2][..], &[2, 1][..]));
    let gradients = pass.backward_all(&d).unwrap();
    assert_eq!(gradients.inputs.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert!(gradients.initial.contains_key("encoder.h") && !gradients.initial.contains_key("decoder.h"));
    let step = 1.0 / 64.0;
    let near = |what: &str, given: f32, differences: f64| {
        assert!(
            (given as f64 - differences).abs() < 2e-3 * (1.0 + differences.abs()),
            "{what}: {given}, {differences}"
        );
    };
    for index in [[0, 0, 0], [0, 2, 1], [1, 1, 2]] {
        let mut moved = [a.clone(), a.clone()];
        moved[0][index] += step;
        moved[1][index] -= step;
        let difference = (value(&model, &moved[0]) - value(&model, &moved[1])) / (2.0 * step as f64);
        near("a", gradients.inputs["a"][&index[..]], difference);
    }
    let parameters = model.parameters().unwrap();
    for (name, array) in &parameters {
        let at = array.len() / 2;
        let mut moved = |by: f32| {
            let mut parameters = parameters.clone();
            parameters.get_mut(name).unwrap().as_slice_mut().unwrap()[at] += by;
            model.set_parameters(parameters).unwrap();
            value(&model, &a)
        };
        let difference = (moved(step) - moved(-step)) / (2.0 * step as f64);
        near(name, gradients.parameters[name].as_slice().unwrap()[at], difference);
    }
}

/// Ragged sequences: gradients of outputs past the ends count for nothing, and time can be split into chunks.
#[test]
fn ragged_passes_in_chunks_of_time() {
    let small = Capabilities { max_binding_bytes: 1024, ..Device::cpu().capabilities().clone() };
    let mut draw = Draw::new(4);
    let (x, mut dy) = (draw.array3((3, 7, 3)), draw.array3((3, 7, 2)));
    let lengths = [7, 2, 4];
    let build = |device: &Device| {
        let layers = Sequential::new(3).add(Lstm::new(4).return_sequences(true)).add(Dense::new(2));
        layers.build(device, 5).unwrap()
    };
    let run = |model: &Model, x: &Array3<f32>, dy: &Array3<f32>| {
        model.forward(Inputs::from(x.view()).lengths(&lengths[..])).unwrap().backward(dy.view()).unwrap()
    };
    let (whole, cut) = (build(&Device::cpu()), build(&Device::cpu_with(small)));
    let expected = run(&whole, &x, &dy);
    let chunked = run(&cut, &x, &dy);
    for (name, gradient) in &expected.parameters {
        close(name, &chunked.parameters[name], gradient, 1e-5, 1e-5);
    }
    // What is padded has no effect.
    dy.slice_mut(s![1, 2.., ..]).fill(9.0);
    let mut padded = x.clone();
    padded.slice_mut(s![1, 2.., ..]).fill(-5.0);
    assert_eq!(run(&whole, &padded, &dy).parameters, expected.parameters);
    assert!(expected.inputs["x"].slice(s![1, 2.., ..]).iter().all(|&d| d == 0.0));
    // One sequence alone.
    let one = whole.forward(x.slice(s![1..2, ..2, ..])).unwrap();
    let alone = one.backward(dy.slice(s![1..2, ..2, ..])).unwrap();
    close("dx", expected.inputs["x"].slice(s![1..2, ..2, ..]), &alone.inputs["x"], 1e-6, 1e-6);
}

/// The mean squared error, written by hand.
fn squares(outputs: &NamedArrays, targets: &NamedArrays) -> wgpu_lstm::Result<(f32, NamedArrays)> {
    let error = &outputs["y"] - &targets["y"];
    let count = error.len() as f32;
    Ok((error.mapv(|e| e * e).sum() / count, [("y".into(), error.mapv(|e| 2.0 * e / count))].into()))
}

fn updates() -> Vec<Update> {
    let update = || Update::new(Optimiser::adamw(0.02, 0.1));
    vec![
        update(),
        update().clip(Clip::Norm(0.2)).freeze("weight_ih_l0"),
        update().regularise(Regulariser::l2(0.1)).rate("dense", 0.5).decay("bias", wgpu_lstm::WeightDecay::None),
    ]
}

/// Fits by a loss that is written by hand equal those by the crate's, with dropout's masks, clipping, frozen parameters, regularisers,
/// accumulation, and a last batch that is smaller. Tolerance: the hand's loss is rounded elsewhere, over 12 steps of Adam.
fn fits_by_a_loss_of_ones_own(device: &Device) {
    let mut draw = Draw::new(9);
    let (x, y) = (draw.array3((7, 5, 3)), array2(&mut draw, (7, 2)));
    let (vx, vy) = (draw.array3((3, 5, 3)), array2(&mut draw, (3, 2)));
    for (k, update) in updates().into_iter().enumerate() {
        let build = || {
            let layers = Sequential::new(3).add(Lstm::new(4)).add(Dropout::new(0.3)).add(Dense::new(2));
            layers.build(device, 1).unwrap()
        };
        let fit =
            || Fit::new().epochs(4).batch_size(3).seed(2).accumulate(1 + k % 2).validation_data(vx.view(), vy.view());
        let (mut plain, mut own) = (build(), build());
        plain.compile(Loss::MeanSquaredError, update.clone()).unwrap();
        own.compile(Losses::new(), update).unwrap();
        let expected = plain.fit(x.view(), y.view(), fit()).unwrap();
        let history = own.fit_with(x.view(), y.view(), fit(), squares).unwrap();
        assert_eq!(history.steps, expected.steps);
        close("losses", &history.loss, &expected.loss, 1e-5, 1e-5);
        close("validation", &history.validation_loss, &expected.validation_loss, 1e-4, 1e-4);
        for (name, values) in own.parameters().unwrap() {
            close(&format!("{k} {name}"), &values, &plain.parameters().unwrap()[&name], 1e-4, 1e-4);
        }
    }
}

/// Steps by hand equal a fit, and each other on the model's own tensors or on named arrays.
fn steps_by_hand(device: &Device) {
    let mut draw = Draw::new(5);
    let (x, y) = (draw.array3((6, 5, 3)), array2(&mut draw, (6, 2)));
    let build = || Sequential::new(3).add(Lstm::new(4)).add(Dense::new(2)).build(device, 1).unwrap();
    let update = Update::new(Optimiser::adam(0.02)).clip(Clip::Norm(0.5)).freeze("weight_hh");
    let (mut fitted, mut stepped, mut manual) = (build(), build(), build());
    fitted.compile(Loss::MeanSquaredError, update.clone()).unwrap();
    stepped.compile(Losses::new(), update.clone()).unwrap();
    let history = fitted.fit(x.view(), y.view(), Fit::new().epochs(5).shuffle(false)).unwrap();
    let targets = NamedArrays::from([("y".into(), y.clone().into_dyn())]);
    let mut steps = update.begin(device).unwrap();
    let (mut losses, mut parameters) = (Vec::new(), manual.parameters().unwrap());
    for _ in 0..5 {
        losses.push(stepped.step_with(x.view(), |outputs| squares(outputs, &targets)).unwrap());
        let pass = manual.forward(x.view()).unwrap();
        let (_, d) = squares(&pass.outputs().unwrap(), &targets).unwrap();
        let gradients = pass.backward_all(&d).unwrap();
        steps.step(&mut parameters, &gradients.parameters).unwrap();
        manual.set_parameters(parameters.clone()).unwrap();
    }
    close("losses", &losses, &history.loss, 1e-5, 1e-5);
    let expected = fitted.parameters().unwrap();
    for (name, values) in stepped.parameters().unwrap() {
        close(&format!("step_with {name}"), &values, &expected[&name], 1e-4, 1e-4);
        close(&format!("by hand {name}"), &parameters[&name], &expected[&name], 1e-4, 1e-4);
    }
}

/// The layers' outputs are those of models that end there.
fn hidden_states_of_every_layer(device: &Device) {
    let layers = Sequential::new(3).add(Lstm::new(4).return_sequences(true)).add(LayerNorm::new()).add(Lstm::new(5));
    let whole = layers.clone().add(Dense::new(2)).build(device, 3).unwrap();
    let x = Draw::new(2).array3((4, 6, 3));
    let hidden = whole.hidden_states(x.view()).unwrap();
    assert_eq!(hidden.keys().collect::<Vec<_>>(), ["dense", "layer_norm", "lstm", "lstm_1"]);
    let mut parameters = whole.parameters().unwrap();
    parameters.retain(|name, _| !name.starts_with("dense"));
    let below = layers.build_with(device, parameters.clone()).unwrap();
    close("lstm_1", &hidden["lstm_1"], &below.predict(x.view()).unwrap(), 0.0, 0.0);
    parameters.retain(|name, _| name.starts_with("lstm."));
    let first = Sequential::new(3).add(Lstm::new(4).return_sequences(true)).build_with(device, parameters).unwrap();
    close("lstm", &hidden["lstm"], &first.predict(x.view()).unwrap(), 0.0, 0.0);
    close("dense", &hidden["dense"], &whole.predict(x.view()).unwrap(), 0.0, 0.0);
}

/// Bare layers against their equations.
fn bare_layers(device: &Device) {
    let mut draw = Draw::new(6);
    let (x, dy) = (array2(&mut draw, (4, 3)), array2(&mut draw, (4, 2)));
    let dense = Dense::new(2).build(device, 3, 1).unwrap();
    let parameters = dense.parameters().unwrap();
    let weight: ArrayView2<f32> = parameters["weight"].view().into_dimensionality().unwrap();
    close("y", &dense.forward(x.view()).unwrap(), &(x.dot(&weight.t()) + &parameters["bias"]), 1e-6, 1e-6);
    let gradients = dense.gradients(x.view(), dy.view()).unwrap();
    assert_eq!(gradients.x.as_ref().unwrap().shape(), [4, 3]);
    close("dx", gradients.x.as_ref().unwrap(), &dy.dot(&weight), 1e-6, 1e-6);
    close("dw", &gradients.parameters["weight"], &dy.t().dot(&x), 1e-6, 1e-6);
    close("db", &gradients.parameters["bias"], &dy.sum_axis(Axis(0)), 1e-6, 1e-6);
    let sequences = draw.array3((2, 5, 3));
    assert_eq!(dense.forward(sequences.view()).unwrap().shape(), [2, 5, 2]);

    let mut norm = LayerNorm::new().build(device, 3).unwrap();
    let given = |values: [f32; 3]| ndarray::arr1(&values).into_dyn();
    norm.set_parameters([("weight".into(), given([1.0, 2.0, -1.0])), ("bias".into(), given([0.5, 0.0, 1.0]))].into())
        .unwrap();
    let y = norm.forward(x.view()).unwrap();
    for (row, y) in x.outer_iter().zip(y.outer_iter()) {
        let row: Vec<f64> = row.iter().map(|&x| x as f64).collect();
        let mean = row.iter().sum::<f64>() / 3.0;
        let deviation = (row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 3.0 + 1e-5).sqrt();
        let expected: Vec<f32> = row
            .iter()
            .zip([(1.0, 0.5), (2.0, 0.0), (-1.0, 1.0)])
            .map(|(x, (w, b))| ((x - mean) / deviation * w + b) as f32)
            .collect();
        close("norm", &y, &expected, 1e-5, 1e-5);
    }
    let d = array2(&mut draw, (4, 3));
    let gradients = norm.gradients(x.view(), d.view()).unwrap();
    close("norm db", &gradients.parameters["bias"], &d.sum_axis(Axis(0)), 1e-5, 1e-5);

    let table = Embedding::new(6, 2).build(device, 1).unwrap();
    let rows = table.parameters().unwrap()["weight"].clone();
    let tokens = array![[0.0, 5.0, 5.0], [2.0, 0.0, 1.0]];
    let y = table.forward(tokens.view()).unwrap();
    let d = draw.array3((2, 3, 2));
    let gradients = table.gradients(tokens.view(), d.view()).unwrap();
    let mut expected = ArrayD::<f32>::zeros(rows.raw_dim());
    for ((n, t), &token) in tokens.indexed_iter() {
        assert_eq!(y.slice(s![n, t, ..]), rows.slice(s![token as usize, ..]));
        let mut row = expected.slice_mut(s![token as usize, ..]);
        row += &d.slice(s![n, t, ..]);
    }
    close("d table", &gradients.parameters["weight"], &expected, 1e-6, 1e-6);
    assert!(gradients.x.is_none());
}

on_both!(
    gradients_are_those_of_the_bare_lstm,
    gradients_of_a_graph_are_central_differences,
    fits_by_a_loss_of_ones_own,
    steps_by_hand,
    hidden_states_of_every_layer,
    bare_layers,
);

#[track_caller]
fn says<T>(result: Result<T, Error>, parts: &[&str]) {
    let text = match result {
        Ok(_) => panic!("no error; expected one that says {parts:?}"),
        Err(error) => error.to_string(),
    };
    for part in parts {
        assert!(text.contains(part), "\"{part}\" is missing in: {text}");
    }
}

#[test]
fn bad_passes_are_refused() {
    let device = Device::cpu();
    let (mut model, x) = (model(&device), Draw::new(1).array3((2, 4, 3)));
    says(model.forward(x.slice(s![.., .., ..2])), &["2 features", "3"]);
    let with = |name: &str, state: Array2<f32>| PassOptions::new().initial(name, state);
    says(model.forward_with(x.view(), &with("lstm.h", Array2::zeros((2, 4)))), &["lstm.h", "lstm.h_l0"]);
    says(model.forward_with(x.view(), &with("lstm.h_l0", Array2::zeros((2, 3)))), &["lstm.h_l0", "(2, 3)", "(2, 4)"]);
    let nan = Array2::from_elem((2, 4), f32::NAN);
    says(model.forward_with(x.view(), &with("lstm.c_l1", nan)), &["lstm.c_l1", "NaN"]);
    let pass = || model.forward(x.view()).unwrap();
    says(pass().backward(Array3::zeros((2, 4, 3)).view()), &["output \"y\"", "[2, 4, 3]", "(2, 4, 2)"]);
    says(pass().backward(Array3::from_elem((2, 4, 2), f32::NAN).view()), &["output \"y\"", "NaN"]);
    says(pass().backward_all(&BTreeMap::from([("z".into(), ArrayD::zeros(vec![1]))])), &["\"z\"", "outputs are y"]);
    let graph = branched(&device);
    let inputs = Inputs::new().add("a", x.view()).add("b", x.slice(s![.., .., ..2]));
    says(graph.forward(inputs).unwrap().output(), &["outputs y, z", "backward_all"]);

    let step = |model: &mut Model, loss: f32, d: ArrayD<f32>| {
        model.step_with(x.view(), |_| Ok((loss, NamedArrays::from([("y".into(), d)]))))
    };
    let zeros = || ArrayD::zeros(vec![2, 4, 2]);
    says(step(&mut model, 1.0, zeros()), &["call compile first"]);
    model.compile(Losses::new(), Optimiser::adam(0.1)).unwrap();
    let before = model.parameters().unwrap();
    says(step(&mut model, f32::NAN, zeros()), &["the loss", "NaN"]);
    says(step(&mut model, 1.0, ArrayD::zeros(vec![2, 4])), &["output \"y\"", "[2, 4]"]);
    says(model.step_with(x.view(), |_| Err(Error::Config("stop here".into()))), &["stop here"]);
    says(model.fit(x.view(), Array3::zeros((2, 4, 2)).view(), Fit::new()), &["no output has a loss"]);
    assert_eq!(model.parameters().unwrap(), before, "no step was taken");
    let fit = |model: &mut Model, y: Array3<f32>, fit: Fit<'_>| model.fit_with(x.view(), y.view(), fit, squares);
    says(fit(&mut model, Array3::zeros((3, 4, 2)), Fit::new()), &["\"y\"", "[3, 4, 2]", "2 sequences"]);
    says(fit(&mut model, Array3::zeros((2, 4, 2)), Fit::new().truncated(2)), &["truncated", "loss of one's own"]);
    says(fit(&mut model, Array3::zeros((2, 4, 2)), Fit::new().accumulate(0)), &["accumulate", "at least 1"]);
    assert!(fit(&mut model, Array3::zeros((2, 4, 2)), Fit::new()).is_ok());
}

/// A pass normalises by the batch and leaves the model as it is; convolutions need no states.
#[test]
fn passes_leave_running_statistics() {
    let layers = Sequential::new(3).add(Conv1d::new(4, 2)).add(BatchNorm::new()).add(Lstm::new(3)).add(Dense::new(1));
    let mut model = layers.build(&Device::cpu(), 1).unwrap();
    let (before, x) = (model.parameters().unwrap(), Draw::new(1).array3((5, 6, 3)));
    let pass = model.forward(x.view()).unwrap();
    assert_eq!(pass.final_states().unwrap().keys().collect::<Vec<_>>(), ["lstm.c", "lstm.h"]);
    let normed = &pass.hidden_states().unwrap()["batch_norm"];
    let mean = normed.mean().unwrap();
    assert!(mean.abs() < 1e-5, "{mean}");
    let gradients = pass.backward(Array2::ones((5, 1)).view()).unwrap();
    assert!(!gradients.parameters.keys().any(|name| name.contains("running")), "{:?}", gradients.parameters.keys());
    assert_eq!(gradients.inputs["x"].shape(), [5, 6, 3]);
    assert_eq!(model.parameters().unwrap(), before);
    // A training step moves them.
    model.compile(Losses::new(), Optimiser::adam(0.1)).unwrap();
    model.step_with(x.view(), |y| Ok((1.0, NamedArrays::from([("y".into(), y["y"].clone())])))).unwrap();
    let after = model.parameters().unwrap();
    assert!(after.iter().all(|(name, values)| name.ends_with("conv1d.bias") || *values != before[name]));
}

/// A model can be used by several passes at once, each with its own tape.
#[test]
fn passes_at_the_same_time() {
    let model = model(&Device::cpu());
    let mut draw = Draw::new(7);
    let (a, b, dy) = (draw.array3((2, 4, 3)), draw.array3((2, 4, 3)), draw.array3((2, 4, 2)));
    let alone = |x: &Array3<f32>| model.forward(x.view()).unwrap().backward(dy.view()).unwrap();
    let expected = (alone(&a), alone(&b));
    let (first, second) = (model.forward(a.view()).unwrap(), model.forward(b.view()).unwrap());
    assert_eq!(first.backward(dy.view()).unwrap(), expected.0);
    assert_eq!(second.backward(dy.view()).unwrap(), expected.1);
}
