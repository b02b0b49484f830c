//! Gradient accumulation: a step of several batches is that of one as large, with weights, lengths, windows, segments of time, several
//! outputs, and a run that is resumed. Targets that are missing.

mod common;

use common::{Draw, close};
use ndarray::{Array1, Array3, ArrayViewD, Axis, s};
use wgpu_lstm::{
    Add, Attention, AttentionPool, Clip, Conv1d, Dense, Device, Embedding, Fit, Inputs, LayerNorm, Loss, Losses, Lstm,
    Model, Network, Optimiser, Padding, Regulariser, Schedule, Sequential, Targets, TimeCheckpoints, Update, metrics,
};

/// Tolerance of parameters after 12 steps: gradients are summed in another order. Adam divides by roots of squares, so small ones count.
const CLOSE: f32 = 1e-4;

fn agree(what: &str, one: &Model, other: &Model) {
    let expected = other.parameters().unwrap();
    for (name, values) in one.parameters().unwrap() {
        close(&format!("{what}: {name}"), &values, &expected[&name], CLOSE, CLOSE);
    }
}

fn update() -> Update {
    Update::new(Optimiser::adam(0.02)).clip(Clip::Norm(0.3)).regularise(Regulariser::l2(0.01)).freeze("dense.bias")
}

fn sequences(device: &Device) -> Model {
    let layers = Sequential::new(3).add(LayerNorm::new()).add(Lstm::new(4).return_sequences(true)).add(Dense::new(2));
    let mut model = layers.build(device, 4).unwrap();
    model.compile(Loss::MeanSquaredError, update()).unwrap();
    model
}

type Case = (&'static str, fn() -> Fit<'static>);

/// 11 sequences: batches of 4 are 4, 4 and 3; batches of 2 in pairs are the same, up to the last pair of 2 and 1.
const CASES: [Case; 5] = [
    ("plain", Fit::new),
    ("ragged", || Fit::new().lengths(vec![6, 1, 3, 6, 2, 5, 4, 6, 1, 2, 6])),
    ("weighted", || Fit::new().sample_weights(Array1::from_iter((0..11).map(|n| n as f32 / 4.0)))),
    ("unshuffled", || Fit::new().shuffle(false)),
    ("schedule by steps", || Fit::new().schedule(Schedule::cosine(20).per_step())),
];

fn steps_of_several_batches_are_those_of_one(device: &Device) {
    let mut draw = Draw::new(1);
    let (x, y) = (draw.array3((11, 6, 3)), draw.array3((11, 6, 2)));
    for (name, fit) in CASES {
        let fit = || fit().epochs(4).seed(3);
        let (mut large, mut small) = (sequences(device), sequences(device));
        let expected = large.fit(x.view(), y.view(), fit().batch_size(4)).unwrap();
        let history = small.fit(x.view(), y.view(), fit().batch_size(2).accumulate(2)).unwrap();
        assert_eq!((history.steps, &history.learning_rate), (expected.steps, &expected.learning_rate), "{name}");
        close(name, &history.loss, &expected.loss, 1e-5, 1e-5);
        agree(name, &small, &large);
        // And on without.
        large.fit(x.view(), y.view(), fit().batch_size(4)).unwrap();
        small.fit(x.view(), y.view(), fit().batch_size(4)).unwrap();
        agree(&format!("{name}, then plain"), &small, &large);
    }
}

/// Segments of time add up gradients of their own.
fn segments_of_time(device: &Device) {
    let mut draw = Draw::new(2);
    let (x, y) = (draw.array3((8, 9, 3)), draw.array3((8, 9, 2)));
    let (mut large, mut small) = (sequences(device), sequences(device));
    small.checkpoint_time(TimeCheckpoints::Every(4)).unwrap();
    large.fit(x.view(), y.view(), Fit::new().epochs(4).batch_size(8)).unwrap();
    small.fit(x.view(), y.view(), Fit::new().epochs(4).batch_size(3).accumulate(3)).unwrap();
    agree("segments", &small, &large);
}

/// Several outputs, an embedding, and weights that two nodes share.
fn networks(device: &Device) {
    let mut net = Network::new();
    let tokens = net.tokens("tokens");
    let embedded = net.layer(Embedding::new(7, 3)).of(tokens);
    let first = net.layer(Lstm::new(3).return_sequences(true)).of(embedded);
    let second = net.again(first).of(first);
    let last = net.layer(Lstm::new(4)).named("last").of(second);
    let (a, b) = (net.layer(Dense::new(2)).named("a").of(last), net.layer(Dense::new(1)).named("b").of(last));
    net.output("a", a).output("b", b);
    let build = || {
        let mut model = net.build(device, 3).unwrap();
        let losses = Losses::new().output("a", Loss::MeanSquaredError).weighted("b", Loss::MeanAbsoluteError, 0.3);
        model.compile(losses, Optimiser::adam(0.02)).unwrap();
        model
    };
    let mut draw = Draw::new(3);
    let tokens = Array3::from_shape_fn((9, 5, 1), |_| draw.below(7) as f32);
    let (ya, yb) =
        (draw.array3((9, 1, 2)).index_axis_move(Axis(1), 0), draw.array3((9, 1, 1)).index_axis_move(Axis(1), 0));
    let targets = || Targets::new().add("a", ya.view()).add("b", yb.view());
    let (mut large, mut small) = (build(), build());
    let expected = large.fit(tokens.view(), targets(), Fit::new().epochs(4).batch_size(6)).unwrap();
    let history = small.fit(tokens.view(), targets(), Fit::new().epochs(4).batch_size(2).accumulate(3)).unwrap();
    close("losses", &history.loss, &expected.loss, 1e-5, 1e-5);
    agree("network", &small, &large);
}

/// Convolution and attention add to their gradients, too.
fn convolution_and_attention(device: &Device) {
    let mut net = Network::new();
    let x = net.input("x", 3);
    let taps = net.layer(Conv1d::new(4, 3).padding(Padding::Causal)).of(x);
    let states = net.layer(Lstm::new(4).return_sequences(true)).of(taps);
    let context = net.layer(Attention::additive()).of([states, taps]);
    let sum = net.layer(Add::new(2)).of([states, context]);
    let pooled = net.layer(AttentionPool::new()).of(sum);
    let y = net.layer(Dense::new(2)).of(pooled);
    net.output("y", y);
    let build = || {
        let mut model = net.build(device, 3).unwrap();
        model.compile(Loss::MeanSquaredError, Optimiser::adam(0.02)).unwrap();
        model
    };
    let mut draw = Draw::new(8);
    let (x, y) = (draw.array3((6, 5, 3)), draw.array3((6, 1, 2)).index_axis_move(Axis(1), 0));
    let (mut large, mut small) = (build(), build());
    large.fit(x.view(), y.view(), Fit::new().epochs(4).batch_size(6)).unwrap();
    small.fit(x.view(), y.view(), Fit::new().epochs(4).batch_size(2).accumulate(3)).unwrap();
    agree("convolution and attention", &small, &large);
}

/// Rows whose targets are missing count for nothing: as if sequences without them were not there, or as weights of 0.
fn missing_targets(device: &Device) {
    let mut draw = Draw::new(9);
    let (x, mut y) = (draw.array3((7, 5, 3)), draw.array3((7, 5, 2)));
    for n in [1, 4] {
        y.slice_mut(s![n, .., ..]).fill(f32::NAN);
    }
    let there = [0, 2, 3, 5, 6];
    let (tx, ty) = (x.select(Axis(0), &there), y.select(Axis(0), &there));
    // In order, so that batches hold the same sequences.
    let (mut all, mut some, mut small) = (sequences(device), sequences(device), sequences(device));
    let fit = || Fit::new().epochs(3).batch_size(7).shuffle(false).missing_targets(true);
    let mae = |p: ArrayViewD<'_, f32>, t: ArrayViewD<'_, f32>| metrics::mae(p, t);
    let history = all.fit(x.view(), y.view(), fit().metric("mae", mae)).unwrap();
    let expected = some.fit(tx.view(), ty.view(), fit()).unwrap();
    close("losses", &history.loss, &expected.loss, 1e-6, 1e-6);
    agree("missing sequences", &all, &some);
    let score = metrics::mae(some.predict(tx.view()).unwrap().view(), ty.view()).unwrap();
    assert!((history.metrics["mae"][2] - score).abs() < 1e-4);
    small.fit(x.view(), y.view(), fit().batch_size(3).accumulate(3)).unwrap();
    agree("missing sequences in parts", &small, &some);
    // Single steps, with lengths and weights; evaluation leaves them out, too.
    let missing = [(0, 2), (3, 0), (3, 4), (6, 1)];
    let mut holes = draw.array3((7, 5, 2));
    let whole = holes.clone();
    missing.iter().for_each(|&(n, t)| holes.slice_mut(s![n, t, ..]).fill(f32::NAN));
    let prediction = all.predict(x.view()).unwrap();
    let lengths = [5, 5, 3, 4, 5, 1, 2];
    let (mut sum, mut terms) = (0.0, 0.0);
    for (n, &length) in lengths.iter().enumerate() {
        for t in (0..length).filter(|&t| !missing.contains(&(n, t))) {
            for f in 0..2 {
                sum += (prediction[[n, t, f]] as f64 - whole[[n, t, f]] as f64).powi(2);
                terms += 1.0;
            }
        }
    }
    let inputs = Inputs::from(x.view()).lengths(&lengths[..]);
    let loss = all.evaluate(inputs, Targets::from(holes.view()).missing(true)).unwrap();
    assert!((loss as f64 - sum / terms).abs() < 1e-5 * (1.0 + loss as f64), "{loss}, {}", sum / terms);
    let validated = fit().validation_data(Inputs::from(x.view()).lengths(&lengths[..]), holes.view());
    let validation = sequences(device).fit(tx.view(), ty.view(), validated.epochs(1)).unwrap().validation_loss;
    assert!(validation[0].is_finite());
    holes[[2, 1, 0]] = f32::NAN;
    let error = all.fit(x.view(), holes.view(), fit()).unwrap_err().to_string();
    assert!(error.contains("other features at this step") && error.contains("[2, 1, 0]"), "{error}");
    assert!(all.fit(x.view(), y.view(), Fit::new()).unwrap_err().to_string().contains("NaN"));
}

/// Batches of an iterator, of different sizes.
fn batches_of_an_iterator(device: &Device) {
    let mut draw = Draw::new(4);
    let (x, y) = (draw.array3((6, 4, 3)), draw.array3((6, 4, 2)));
    let part = |rows: std::ops::Range<usize>| {
        let of = |all: &Array3<f32>| all.slice_axis(Axis(0), rows.clone().into()).to_owned();
        (of(&x), of(&y))
    };
    let parts = [part(0..1), part(1..4), part(4..6)];
    let (mut large, mut small) = (sequences(device), sequences(device));
    large.fit(x.view(), y.view(), Fit::new().epochs(3).batch_size(6).shuffle(false)).unwrap();
    let history = small
        .fit_batches(
            |_| {
                let owned: Vec<_> = parts.iter().map(|(x, y)| Ok((x.clone().into(), y.clone().into()))).collect();
                owned.into_iter()
            },
            Fit::new().epochs(3).accumulate(3),
        )
        .unwrap();
    assert_eq!(history.steps, 3);
    agree("iterator", &small, &large);
}

on_both!(
    steps_of_several_batches_are_those_of_one,
    segments_of_time,
    networks,
    convolution_and_attention,
    missing_targets,
    batches_of_an_iterator,
);

/// A run that is stopped and goes on, and clones in between.
#[test]
fn runs_are_resumed() {
    let mut draw = Draw::new(5);
    let (x, y) = (draw.array3((7, 4, 3)), draw.array3((7, 4, 2)));
    let fit = |epochs| Fit::new().epochs(epochs).batch_size(2).accumulate(2);
    let (mut whole, mut stopped) = (sequences(&Device::cpu()), sequences(&Device::cpu()));
    whole.fit(x.view(), y.view(), fit(4)).unwrap();
    stopped.fit(x.view(), y.view(), fit(2)).unwrap();
    let clone = stopped.clone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.safetensors");
    stopped.save_training(&path).unwrap();
    for mut model in [Model::load_training(&path, &Device::cpu()).unwrap(), stopped, clone] {
        model.fit(x.view(), y.view(), fit(4).resume(true)).unwrap();
        assert_eq!(model.parameters().unwrap(), whole.parameters().unwrap());
    }
    let mut other = Model::load_training(&path, &Device::cpu()).unwrap();
    let error = other.fit(x.view(), y.view(), Fit::new().epochs(4).batch_size(2).resume(true)).unwrap_err().to_string();
    assert!(error.contains("accumulate 2 in the run, 1 in this fit"), "{error}");
}

/// One batch a step is the plain fit, to the bit.
#[test]
fn one_batch_changes_nothing() {
    let (x, y) = (Draw::new(6).array3((5, 4, 3)), Array3::zeros((5, 4, 2)));
    let trained = |fit: Fit<'_>| {
        let mut model = sequences(&Device::cpu());
        model.fit(x.view(), y.view(), fit.batch_size(2)).unwrap();
        model.parameters().unwrap()
    };
    assert_eq!(trained(Fit::new()), trained(Fit::new().accumulate(1)));
}
