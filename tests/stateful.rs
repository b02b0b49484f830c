//! Training that carries states: truncated backpropagation through time, and batches that go on from one another.
//!
//! Files by PyTorch and Keras (tests/fixtures/make_stateful.py, make_stateful_keras.py); gradients of a window in f64 against central differences in which
//! the initial state is a constant; a window of all steps against plain training, bit for bit.

mod common;

use common::{Draw, Fixture, close, fixture, fixture_names};
use ndarray::{Array1, Array2, Array3, Axis, Ix2, concatenate, s};
use std::sync::Arc;
use wgpu_lstm::Machine;
use wgpu_lstm::network::{Batch, Node, Purpose, network};
use wgpu_lstm::plan::Role;
use wgpu_lstm::real::Real;
use wgpu_lstm::{
    Bias, Callback, Capabilities, Checkpoint, Dense, Device, Dropout, EpochEvent, Evaluate, Fit, Flow, Gru, Loss, Lstm,
    Model, Optimiser, Pool, Reset, Schedule, Sequential, StepEvent, Update,
};

/// The model that a file describes, with the file's initial parameters, compiled.
fn model_of(fixture: &Fixture, bias: Bias, device: &Device) -> Model {
    let (hidden, layers, whole) = (fixture.size("H"), fixture.size("L"), fixture.metadata["whole"] == "1");
    let model = Sequential::new(fixture.size("I"));
    let model = match fixture.metadata["kind"].as_str() {
        "gru" => model.add(Gru::new(hidden).layers(layers).return_sequences(whole)),
        _ => model.add(Lstm::new(hidden).layers(layers).return_sequences(whole).bias(bias)),
    };
    let mut model = model.add(Dense::new(fixture.size("F"))).build(device, 0).unwrap();
    model.set_parameters(fixture.under("init.")).unwrap();
    let lr = fixture.number("lr");
    let adam = fixture.metadata.get("optimiser").is_some_and(|name| name == "adam");
    model.compile(Loss::MeanSquaredError, if adam { Optimiser::adam(lr) } else { Optimiser::sgd(lr, 0.0) }).unwrap();
    model
}

/// Tolerance: 1e-5, as for ten plain steps of training (`tests/pytorch.rs`).
fn trained_as(name: &str, fixture: &Fixture, model: &Model, losses: &[f32]) {
    close(&format!("{name}: losses"), losses, &fixture.tensors["losses"], 1e-5, 1e-5);
    let expected = fixture.under("final.");
    let given = model.parameters().unwrap();
    assert_eq!(given.len(), expected.len());
    for (parameter, values) in &given {
        close(&format!("{name}: {parameter}"), values, &expected[parameter], 1e-5, 1e-5);
    }
}

fn windows_of_pytorch(device: &Device) {
    for name in fixture_names("stateful_truncated_") {
        let fixture = fixture(&name);
        let mut model = model_of(&fixture, Bias::Double, device);
        let (x, y) = (fixture.array3("x"), fixture.array3("y"));
        let lengths: Option<Vec<usize>> =
            fixture.tensors.get("lengths").map(|all| all.iter().map(|&length| length as usize).collect());
        let mut fit = Fit::new().epochs(fixture.size("E")).batch_size(fixture.size("B")).shuffle(false);
        if let Some(lengths) = &lengths {
            fit = fit.lengths(lengths.clone());
        }
        if let Some(weights) = fixture.tensors.get("weights") {
            fit = fit.step_weights(weights.clone().into_dimensionality::<Ix2>().unwrap());
        }
        let history = model.fit(x.view(), y.view(), fit.truncated(fixture.size("K"))).unwrap();
        trained_as(&name, &fixture, &model, &history.loss);
        let prediction = model.predict(x.view()).unwrap();
        for (row, expected) in fixture.tensors["prediction"].outer_iter().enumerate() {
            let there = 0..lengths.as_ref().map_or(x.dim().1, |lengths| lengths[row]);
            let (given, expected) =
                (prediction.slice(s![row, there.clone(), ..]), expected.slice_axis(Axis(0), there.into()));
            close(&format!("{name}: prediction {row}"), given.iter(), expected.iter(), 1e-5, 1e-5);
        }
    }
}

fn batches_of_keras(device: &Device) {
    for (name, reset) in [("each_epoch", Reset::EachEpoch), ("by_hand", Reset::ByHand)] {
        let fixture = fixture(&format!("stateful_keras_{name}.safetensors"));
        let mut model = model_of(&fixture, Bias::Single, device);
        let (x, y) = (fixture.array3("x"), &fixture.tensors["y"]);
        let fit = || Fit::new().batch_size(fixture.size("B")).shuffle(false).stateful(reset);
        // Three epochs in two fits: states that are not reset go on from fit to fit.
        let mut losses = model.fit(x.view(), y.view(), fit().epochs(1)).unwrap().loss;
        losses.extend(model.fit(x.view(), y.view(), fit().epochs(fixture.size("E") - 1)).unwrap().loss);
        trained_as(name, &fixture, &model, &losses);
        let evaluated = model
            .evaluate_with(x.view(), y.view(), Evaluate::new().batch_size(fixture.size("B")).stateful(true))
            .unwrap();
        close(name, &[evaluated], &fixture.tensors["evaluated"], 1e-5, 1e-5);
        if reset == Reset::ByHand {
            // From zero states, the next epoch is another one.
            let start = model.parameters().unwrap();
            model.set_learning_rate(0.0).unwrap();
            let on = model.fit(x.view(), y.view(), fit()).unwrap().loss[0];
            model.reset_states().unwrap();
            let anew = model.fit(x.view(), y.view(), fit()).unwrap().loss[0];
            assert_ne!(on, anew);
            assert!((anew - evaluated).abs() < 1e-6, "{anew} from zero states, {evaluated} evaluated so");
            assert_eq!(start, model.parameters().unwrap());
        }
    }
}

const LENGTHS: [usize; 5] = [9, 4, 0, 7, 2];

fn data() -> (Array3<f32>, Array3<f32>) {
    let mut draw = Draw::new(12);
    (draw.array3((5, 9, 3)), draw.array3((5, 9, 2)))
}

fn dropping(device: &Device) -> Model {
    let lstm = Lstm::new(4).layers(2).dropout(0.3).input_dropout(0.1).recurrent_dropout(0.2).zoneout(0.1, 0.2);
    let model = Sequential::new(3).add(lstm.weight_dropout(0.1).return_sequences(true)).add(Dropout::new(0.2));
    let mut model = model.add(Gru::new(3).return_sequences(true)).add(Dense::new(2)).build(device, 1).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(0.01)).unwrap();
    model
}

/// One window of all steps is plain training.
fn a_window_of_all_steps(device: &Device) {
    let (x, y) = data();
    for ragged in [false, true] {
        let train = |fit: Fit| {
            let fit = fit.epochs(3).batch_size(2).seed(3).schedule(Schedule::exponential(0.9).per_step());
            let fit = if ragged { fit.lengths(LENGTHS.to_vec()) } else { fit };
            let mut model = dropping(device);
            let history = model.fit(x.view(), y.view(), fit.validation_split(0.2)).unwrap();
            (history.loss, history.validation_loss, history.steps, model.parameters().unwrap())
        };
        let plain = train(Fit::new());
        assert_eq!(plain, train(Fit::new().truncated(9)));
        assert_eq!(plain, train(Fit::new().truncated(usize::MAX)));
        assert_ne!(plain.0, train(Fit::new().truncated(4)).0);
    }
}

/// A run that is stopped and resumed ends with the same bits, also where states go on from epoch to epoch.
fn stopped_and_resumed(device: &Device) {
    let (x, y) = data();
    let (x, y) = (x.slice(s![..4, .., ..]), y.slice(s![..4, .., ..]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stopped.safetensors");
    let fit = |stateful: Option<Reset>| {
        let fit = Fit::new().batch_size(2).seed(5).truncated(4).lengths(LENGTHS[..4].to_vec());
        let fit =
            fit.schedule(Schedule::cosine(30).warmup(3, 0.1).per_step()).validation_data(x.to_owned(), y.to_owned());
        match stateful {
            Some(reset) => fit.stateful(reset).shuffle(false),
            None => fit,
        }
    };
    let mut ends = Vec::new();
    for stateful in [None, Some(Reset::EachEpoch), Some(Reset::ByHand)] {
        let mut whole = dropping(device);
        let history = whole.fit(x, y, fit(stateful).epochs(5)).unwrap();
        let mut stopped = dropping(device);
        let checkpoint = Checkpoint::every_epoch(&path).training(true);
        stopped.fit(x, y, fit(stateful).epochs(2).callback(checkpoint)).unwrap();
        drop(stopped);
        let mut resumed = Model::load_training(&path, device).unwrap();
        let rest = resumed.fit(x, y, fit(stateful).epochs(5).resume(true)).unwrap();
        assert_eq!(history.loss[2..], rest.loss, "{stateful:?}");
        assert_eq!(history.validation_loss[2..], rest.validation_loss, "{stateful:?}");
        assert_eq!(whole.parameters().unwrap(), resumed.parameters().unwrap(), "{stateful:?}");
        assert!(Model::load(&path, device).is_ok());
        ends.push(history.loss);
    }
    assert!(ends[0] != ends[1] && ends[1] != ends[2], "the three ways of carrying states differ");
}

/// Batches that go on from one another, evaluated, are the sequences that they were cut from.
fn evaluated_in_parts(device: &Device) {
    let mut draw = Draw::new(8);
    let (x, y) = (draw.array3((2, 12, 3)), draw.array3((2, 12, 2)));
    let cut = |all: &Array3<f32>| {
        let parts: Vec<_> = (0..3).map(|part| all.slice(s![.., 4 * part..4 * part + 4, ..])).collect();
        concatenate(Axis(0), &parts).unwrap()
    };
    let model = dropping(device);
    let whole = model.evaluate(x.view(), y.view()).unwrap();
    let parts =
        model.evaluate_with(cut(&x).view(), cut(&y).view(), Evaluate::new().batch_size(2).stateful(true)).unwrap();
    assert!((whole - parts).abs() < 1e-6, "{whole} as a whole, {parts} in parts");
    assert!((model.evaluate(cut(&x).view(), cut(&y).view()).unwrap() - whole).abs() > 1e-4);
    // Training through the parts, with a rate of 0 and nothing dropped, has the same loss and leaves the same states.
    let layers = Sequential::new(3).add(Lstm::new(4).layers(2).return_sequences(true)).add(Dense::new(2));
    let mut model = layers.build(device, 2).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::sgd(0.0, 0.0)).unwrap();
    let whole = model.evaluate(x.view(), y.view()).unwrap();
    let stateful = Fit::new().batch_size(2).shuffle(false).stateful(Reset::EachEpoch).validation_data(cut(&x), cut(&y));
    let history = model.fit(cut(&x).view(), cut(&y).view(), stateful.epochs(2)).unwrap();
    let windows = model.fit(x.view(), y.view(), Fit::new().truncated(5)).unwrap();
    for loss in [&history.loss[..], &history.validation_loss, &windows.loss].concat() {
        assert!((loss - whole).abs() < 1e-6, "{whole} as a whole, {loss} in parts");
    }
}

on_both!(windows_of_pytorch, batches_of_keras, a_window_of_all_steps, stopped_and_resumed, evaluated_in_parts);

/// Gradients of a window in f64: those of its loss with the states before it as constants.
#[test]
fn gradients_of_a_window() {
    let layers = [
        Node::new("lstm", 3, Lstm::new(4).layers(2).return_sequences(true)),
        Node::new("peeping", 4, Lstm::new(3).peepholes(true).return_sequences(true)),
        Node::new("dense", 3, Dense::new(2)),
    ];
    let update = Update::new(Optimiser::sgd(0.1, 0.0));
    let purpose = Purpose::Train { loss: &Loss::MeanSquaredError.into(), update: &update, weighted: false };
    for (ragged, max_binding_bytes) in [(false, 1 << 27), (true, 1 << 27), (true, 700)] {
        let what = format!("ragged {ragged}, bindings of {max_binding_bytes} bytes");
        let sizes = Batch::new(2, 5).ragged(ragged).stateful(true);
        let network = network(&layers, sizes, purpose, &Capabilities { max_binding_bytes, ..Capabilities::default() });
        let network = network.unwrap();
        let words = network.key_and_lengths();
        let plan = Arc::new(network.plan);
        let end = plan.commands.iter().position(|command| plan.sections[command.section].starts_with("optimiser"));
        let machine = Machine::<f64>::new(plan.clone(), |_| None).unwrap();
        let mut draw = Draw::new(11);
        let mut numbers = |n: u64| draw.vec(n as usize).into_iter().map(|v| 0.8 * v as f64).collect::<Vec<f64>>();
        let (mut weights, mut states) = (Vec::new(), Vec::new());
        for id in (0..plan.buffers.len()).map(wgpu_lstm::plan::BufferId) {
            let buffer = &plan.buffers[id.0];
            let values = numbers(buffer.len);
            match buffer.role {
                _ if Some(id) == words => machine.write((id, 0), &[7, 1, 2, 5].map(f64::of_word)),
                Role::Input => machine.write((id, 0), &values),
                Role::Weight => {
                    machine.write((id, 0), &values);
                    weights.push((id, values));
                }
                Role::State => states.push((id, values)),
                _ => {}
            }
        }
        assert_eq!(states.len(), 6, "h and c of three layers");
        let run = || {
            states.iter().for_each(|(id, values)| machine.write((*id, 0), values));
            machine.run(0..end.unwrap()).unwrap();
            machine.read((network.loss.unwrap(), 0), 1)[0]
        };
        run();
        for (id, values) in &states {
            assert_ne!(&machine.read((*id, 0), values.len() as u64), values, "{what}: the final states are left");
        }
        for (id, values) in &weights {
            let name = &plan.buffers[id.0].name;
            let gradient = plan.find(&format!("grad {name}")).unwrap();
            run();
            let given = machine.read((gradient, 0), values.len() as u64);
            for at in (0..values.len()).step_by(1 + values.len() / 40) {
                let moved = |by: f64| {
                    machine.write((*id, at as u64), &[values[at] + by]);
                    run()
                };
                let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                machine.write((*id, at as u64), &[values[at]]);
                // 1e-9 absolute: the rounding of a difference over 2e-6
                assert!(
                    (given[at] - expected).abs() <= 1e-9 + 1e-6 * expected.abs(),
                    "{what}: gradient of {name}[{at}] is {}, expected {expected}",
                    given[at]
                );
            }
        }
    }
}

#[derive(Default)]
struct Steps(Vec<(usize, usize)>, usize);

impl Callback for &mut Steps {
    fn on_steps(&mut self, event: &StepEvent, _: &mut Model) -> wgpu_lstm::Result<Flow> {
        self.0.push((event.step, event.steps));
        Ok(Flow::Continue)
    }

    fn on_epoch(&mut self, event: &EpochEvent, _: &mut Model) -> wgpu_lstm::Result<Flow> {
        self.1 = event.steps;
        Ok(Flow::Continue)
    }
}

/// Steps are counted by windows that some sequence reaches, and a schedule advances by them.
#[test]
fn steps_are_windows() {
    let (x, y) = data();
    let mut model = dropping(&Device::cpu());
    let mut steps = Steps::default();
    let fit = Fit::new().batch_size(2).shuffle(false).truncated(3).lengths(LENGTHS.to_vec()).callback(&mut steps);
    let history = model.fit(x.view(), y.view(), fit.schedule(Schedule::step(1, 0.5).per_step())).unwrap();
    // Batches of up to 9, 7 and 2 steps
    assert_eq!(history.steps, 3 + 3 + 1);
    assert_eq!((&steps.0[..], steps.1), (&[(7, 7)][..], 7));
    assert_eq!(model.learning_rate().unwrap(), 0.01 * 0.5f64.powi(7));
}

#[test]
fn what_cannot_be_carried_is_refused() {
    let device = Device::cpu();
    let compiled = |layers: Sequential| {
        let mut model = layers.build(&device, 0).unwrap();
        model.compile(Loss::MeanSquaredError, Optimiser::adam(0.01)).unwrap();
        model
    };
    let lstm = || Lstm::new(3).return_sequences(true);
    let says = |model: &mut Model, fit: Fit, parts: &[&str]| {
        let y = Array3::<f32>::zeros((
            4,
            if model.predict(Array3::zeros((1, 2, 2)).view()).unwrap().ndim() == 2 { 1 } else { 6 },
            1,
        ));
        let before = model.parameters().unwrap();
        let error = model.fit(Array3::zeros((4, 6, 2)).view(), y.view(), fit).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        assert_eq!(before, model.parameters().unwrap());
    };
    let stateful = || Fit::new().batch_size(2).shuffle(false).stateful(Reset::EachEpoch);
    let mut whole = compiled(Sequential::new(2).add(lstm()).add(Dense::new(1)));
    says(&mut whole, Fit::new().truncated(0), &["windows of 0 steps", "at least 1"]);
    says(&mut whole, stateful().shuffle(true), &["shuffle(false)"]);
    says(&mut whole, stateful().batch_size(3), &["4 sequences", "batches of 3"]);
    says(&mut whole, stateful().batch_size(0), &["batch size is 0"]);
    let validation = (Array3::zeros((3, 6, 2)), Array3::zeros((3, 6, 1)));
    says(&mut whole, stateful().validation_data(validation.0, validation.1), &["validation x", "3 sequences"]);
    says(&mut whole, stateful().validation_split(0.25), &["x has 3 sequences"]);
    for batch in [0, 3] {
        let (x, y) = (Array3::zeros((4, 6, 2)), Array3::<f32>::zeros((4, 6, 1)));
        assert!(whole.evaluate_with(x.view(), y.view(), Evaluate::new().batch_size(batch).stateful(true)).is_err());
    }
    let mut last = compiled(Sequential::new(2).add(Lstm::new(3)).add(Dense::new(1)));
    says(&mut last, Fit::new().truncated(2), &["output at every step", "return_sequences(true)"]);
    let mut pooled = compiled(Sequential::new(2).add(lstm()).add(Pool::Mean).add(Dense::new(1)));
    says(&mut pooled, stateful(), &["pool pools over time", "whole sequence"]);
    let both = lstm().bidirectional(true);
    for (layer, wanted) in
        [(both, "lstm is bidirectional"), (lstm().reverse(true), "runs backwards"), (lstm().go_backwards(true), "runs")]
    {
        let mut model = compiled(Sequential::new(2).add(layer).add(Dense::new(1)));
        says(&mut model, Fit::new().truncated(2), &[wanted, "whole sequence"]);
        says(&mut model, stateful(), &[wanted, "whole sequence"]);
    }
    let mut dense = compiled(Sequential::new(2).add(Dense::new(1)));
    says(&mut dense, Fit::new().truncated(2), &["no recurrent layer"]);
    let (x, y) = (Array3::zeros((4, 6, 2)), Array2::<f32>::zeros((4, 1)));
    let fit = stateful().sample_weights(Array1::ones(4)).lengths(vec![6, 0, 2, 3]);
    assert!(last.fit(x.view(), y.view(), fit).is_ok(), "a model that ends its sequences may be stateful");
    let mut uncompiled = Sequential::new(2).add(lstm()).build(&device, 0).unwrap();
    assert!(uncompiled.reset_states().unwrap_err().to_string().contains("compile"));
}

/// A file whose states are not the model's is refused.
#[test]
fn states_that_do_not_fit_are_refused() {
    let (x, y) = data();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut model = dropping(&Device::cpu());
    model.fit(x.view(), y.view(), Fit::new().batch_size(5).truncated(4)).unwrap();
    model.save_training(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for (old, new) in
        [("state.5 lstm.l0.h state", "state.4 lstm.l0.h state"), ("state.5 lstm.l0.h", "state.5 lstm.l7.h")]
    {
        let at = bytes.windows(old.len()).position(|window| window == old.as_bytes()).unwrap();
        let mut forged = bytes.clone();
        forged[at..at + old.len()].copy_from_slice(new.as_bytes());
        std::fs::write(&path, forged).unwrap();
        let error = Model::load_training(&path, &Device::cpu()).unwrap_err().to_string();
        assert!(error.contains("state"), "{error}");
    }
}
