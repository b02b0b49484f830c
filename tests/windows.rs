//! Windows of time (convolutions, pooling, padding) and batch normalisation: against equations written here, against files of PyTorch
//! and Keras, their gradients against central differences, and in streams.

mod common;

use common::differences::Losses;
use common::{Draw, Fixture, close, fixture, fixture_names};
use ndarray::{Array1, Array2, Array3, Axis, s};
use serde_json::Value;
use std::collections::BTreeMap;
use wgpu_lstm::network::{Batch, Node, Purpose, network};
use wgpu_lstm::plan::{Buffer, BufferId, Role};
use wgpu_lstm::real::Real;
use wgpu_lstm::schedule::Sequence;
use wgpu_lstm::{
    Activation, BatchNorm, Capabilities, Conv1d, Dense, Device, Fit, Inputs, Layer, Loss, Lstm, Model, Optimiser,
    Padding, Pool, Sequential, Update, WindowPool, ZeroPad,
};

const INPUT: usize = 4;

/// The equations, written from the documentation of PyTorch and Keras: one sequence [T, F] after the other, in f64.
mod equations {
    use super::*;

    pub type Parameters = BTreeMap<String, Array1<f64>>;

    /// Steps in front, and output steps.
    fn padding(settings: &Value, reach: usize, steps: usize) -> (usize, usize) {
        let stride = settings["stride"].as_u64().unwrap() as usize;
        let same = steps.div_ceil(stride);
        match &settings["padding"] {
            Value::String(name) if name == "valid" => (0, (steps - reach) / stride + 1),
            Value::String(name) if name == "causal" => (reach - 1, same),
            Value::String(name) if name == "same" => {
                let whole = (same - 1) * stride + reach;
                (if whole > steps { (whole - steps) / 2 } else { 0 }, same)
            }
            other => {
                let both = other["both"].as_u64().unwrap() as usize;
                (both, (steps + 2 * both - reach) / stride + 1)
            }
        }
    }

    /// Output steps.
    pub fn steps(layer: &Layer, steps: usize) -> usize {
        let settings = serde_json::to_value(layer).unwrap();
        let number = |name: &str| settings[name].as_u64().unwrap() as usize;
        match layer {
            Layer::Conv1d(_) => padding(&settings, (number("size") - 1) * number("dilation") + 1, steps).1,
            Layer::WindowPool(_) => padding(&settings, number("size"), steps).1,
            Layer::ZeroPad(_) => number("left") + steps + number("right"),
            _ => steps,
        }
    }

    pub fn layer(layer: &Layer, parameters: &Parameters, x: &Array2<f64>) -> Array2<f64> {
        let settings = serde_json::to_value(layer).unwrap();
        let number = |name: &str| settings[name].as_u64().unwrap() as usize;
        match layer {
            Layer::Conv1d(_) => {
                let [size, stride, dilation, groups] = ["size", "stride", "dilation", "groups"].map(number);
                let (left, steps) = padding(&settings, (size - 1) * dilation + 1, x.nrows());
                let (filters, own) = (number("filters"), x.ncols() / groups);
                let mut y = Array2::zeros((steps, filters));
                for ((t, o), y) in y.indexed_iter_mut() {
                    *y = parameters.get("bias").map_or(0.0, |bias| bias[o]);
                    for (k, i) in (0..size).flat_map(|k| (0..own).map(move |i| (k, i))) {
                        let time = (t * stride + k * dilation) as i64 - left as i64;
                        if (0..x.nrows() as i64).contains(&time) {
                            let weight = parameters["weight"][(o * own + i) * size + k];
                            *y += weight * x[[time as usize, o / (filters / groups) * own + i]];
                        }
                    }
                    *y = match settings["activation"].as_str().unwrap() {
                        "tanh" => y.tanh(),
                        "relu" => y.max(0.0),
                        _ => *y,
                    };
                }
                y
            }
            Layer::WindowPool(pool) => {
                let [size, stride] = ["size", "stride"].map(number);
                let (left, steps) = padding(&settings, size, x.nrows());
                Array2::from_shape_fn((steps, x.ncols()), |(t, f)| {
                    let times = (0..size).map(|k| (t * stride + k) as i64 - left as i64);
                    let inside = times.filter(|time| (0..x.nrows() as i64).contains(time));
                    let values: Vec<f64> = inside.map(|time| x[[time as usize, f]]).collect();
                    let count = if settings["count_padding"] == true { size } else { values.len() };
                    match pool.is_max() {
                        true => values.into_iter().fold(f64::NEG_INFINITY, f64::max),
                        false => values.iter().sum::<f64>() / count as f64,
                    }
                })
            }
            Layer::ZeroPad(_) => {
                let [left, right] = ["left", "right"].map(number);
                let mut y = Array2::zeros((left + x.nrows() + right, x.ncols()));
                y.slice_mut(s![left..left + x.nrows(), ..]).assign(x);
                y
            }
            Layer::BatchNorm(_) => {
                let of = |name: &str, f: usize| parameters[name][f];
                let epsilon = settings["epsilon"].as_f64().unwrap();
                Array2::from_shape_fn(x.raw_dim(), |(t, f)| {
                    let normal = (x[[t, f]] - of("running_mean", f)) / (of("running_var", f) + epsilon).sqrt();
                    of("weight", f) * normal + of("bias", f)
                })
            }
            other => panic!("no equation of {other:?}"),
        }
    }
}

/// The names that layers have in a sequential model.
fn names(layers: &[Layer]) -> Vec<String> {
    let name = |k: usize| {
        let kind = layers[k].kind();
        match layers[..k].iter().filter(|layer| layer.kind() == kind).count() {
            0 => kind.to_string(),
            before => format!("{kind}_{before}"),
        }
    };
    (0..layers.len()).map(name).collect()
}

/// The parameters of the layer of that name.
fn parameters_of(model: &Model, layer: &str) -> equations::Parameters {
    let own = model.parameters().unwrap().into_iter();
    own.filter_map(|(name, values)| {
        let values = values.iter().map(|&value| value as f64).collect();
        Some((name.strip_prefix(&format!("{layer}."))?.to_string(), values))
    })
    .collect()
}

fn padding(draw: &mut Draw, reach: usize) -> Padding {
    [Padding::Valid, Padding::Same, Padding::Causal, Padding::Both(draw.below(reach + 2))][draw.below(4)]
}

fn random_layer(draw: &mut Draw) -> Layer {
    let (size, stride) = (1 + draw.below(4), 1 + draw.below(3));
    match draw.below(6) {
        0..=2 => {
            let (dilation, groups) = (1 + draw.below(3), [1, 1, 2, 4][draw.below(4)]);
            let activation = [Activation::Linear, Activation::Tanh, Activation::Relu][draw.below(3)];
            let conv = Conv1d::new(4 * (1 + draw.below(2)), size).dilation(dilation).groups(groups);
            let conv = conv.stride(stride).bias(draw.below(2) == 0).activation(activation);
            conv.padding(padding(draw, (size - 1) * dilation + 1)).into()
        }
        3 => {
            let pool = WindowPool::max(size).stride(stride);
            pool.padding([Padding::Valid, Padding::Same, Padding::Causal, Padding::Both(size / 2)][draw.below(4)])
                .into()
        }
        4 => {
            let pool = WindowPool::mean(size).stride(stride).count_padding(draw.below(2) == 0);
            pool.padding([Padding::Valid, Padding::Same, Padding::Causal, Padding::Both(size / 2)][draw.below(4)])
                .into()
        }
        _ => ZeroPad::new(draw.below(3), 1 + draw.below(3)).into(),
    }
}

/// Rows of different lengths in one batch, and each row alone, are what the equations say.
fn layers_equal_equations(device: &Device) {
    let mut draw = Draw::new(5);
    for case in 0..60 {
        let layers = match case {
            0 => vec![BatchNorm::new().into()],
            1 => vec![Conv1d::new(3, 4).padding(Padding::Same).stride(3).into(), BatchNorm::keras().into()],
            2 => vec![Conv1d::new(2, 1).into()],
            3 => vec![Conv1d::new(2, 3).padding(Padding::Both(5)).into()],
            _ => (0..1 + draw.below(2)).map(|_| random_layer(&mut draw)).collect::<Vec<Layer>>(),
        };
        let what = format!("{layers:?}");
        let (lengths, steps) = ([19, 23, 17, 20], 23);
        let x = draw.array3((lengths.len(), steps, INPUT));
        let stack = layers.iter().fold(Sequential::new(INPUT), |stack, layer| stack.add(layer.clone()));
        let mut model = stack.build(device, case).unwrap();
        let numbers = model.parameters().unwrap().into_iter().map(|(name, values)| {
            let positive = name.ends_with("running_var");
            let drawn = values.mapv(|_| draw.next());
            (name, if positive { drawn.mapv(|value| 0.3 + value.abs()) } else { drawn })
        });
        let numbers: BTreeMap<_, _> = numbers.collect();
        model.set_parameters(numbers).unwrap();
        let mut expected: Vec<Array2<f32>> = Vec::new();
        for (row, &length) in lengths.iter().enumerate() {
            let own = x.slice(s![row, ..length, ..]);
            let mut y = own.mapv(f64::from);
            for (layer, name) in layers.iter().zip(names(&layers)) {
                y = equations::layer(layer, &parameters_of(&model, &name), &y);
            }
            let y = y.mapv(|value| value as f32);
            let alone = model.predict(own.insert_axis(Axis(0))).unwrap();
            assert_eq!(alone.shape()[1..], *y.shape(), "{what}");
            close(&format!("{what}, row {row} alone"), alone.iter(), y.iter(), 2e-5, 2e-5);
            expected.push(y);
        }
        let together = model.predict(Inputs::from(x.view()).lengths(&lengths)).unwrap();
        for (row, y) in expected.iter().enumerate() {
            let given = together.index_axis(Axis(0), row);
            let given = given.slice_axis(Axis(0), (0..y.nrows()).into());
            close(&format!("{what}, row {row} of several"), given.iter(), y.iter(), 2e-5, 2e-5);
        }
    }
}

fn causal() -> Sequential {
    let conv = |size, dilation| Conv1d::new(5, size).padding(Padding::Causal).dilation(dilation);
    Sequential::new(INPUT)
        .add(conv(3, 1).activation(Activation::Tanh))
        .add(BatchNorm::new())
        .add(conv(2, 4))
        .add(Conv1d::new(4, 1).activation(Activation::Relu))
        .add(Lstm::new(6).return_sequences(true))
        .add(conv(3, 2).groups(1))
        .add(Dense::new(2))
}

/// Parts of any size give what the whole sequence gives, and a stream begins again after a reset.
fn streams_carry_tails(device: &Device) {
    let model = causal().build(device, 3).unwrap();
    let x = Draw::new(8).array3((3, 20, INPUT));
    let whole = model.predict(x.view()).unwrap();
    let mut stream = model.stream(3).unwrap();
    for parts in [vec![1; 20], vec![20], vec![7, 1, 2, 10], vec![3, 3, 3, 11]] {
        let mut first = 0;
        for part in parts {
            let y = stream.feed(x.slice(s![.., first..first + part, ..])).unwrap();
            let expected = whole.slice_axis(Axis(1), (first..first + part).into());
            close(&format!("steps {first} to {}", first + part), y.iter(), expected.iter(), 2e-6, 2e-6);
            first += part;
        }
        stream.reset_all();
    }
    // One of the streams goes on elsewhere.
    stream.feed(x.slice(s![.., ..9, ..])).unwrap();
    let saved = stream.state(1).unwrap();
    let mut other = model.stream(1).unwrap();
    other.set_state(0, &saved).unwrap();
    let y = other.feed(x.slice(s![1..2, 9.., ..])).unwrap();
    close(
        "moved",
        y.iter(),
        whole.slice_axis(Axis(0), (1..2).into()).slice_axis(Axis(1), (9..).into()).iter(),
        2e-6,
        2e-6,
    );
}

/// Training moves running statistics by the moments of each batch; nothing else does.
fn only_training_moves_running_statistics(device: &Device) {
    let layers = Sequential::new(INPUT).add(BatchNorm::new().momentum(0.3)).add(Pool::Mean).add(Dense::new(2));
    let mut model = layers.build(device, 1).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::sgd(0.1, 0.0)).unwrap();
    let mut draw = Draw::new(2);
    let (x, y) = (draw.array3((6, 5, INPUT)), Array2::from_shape_simple_fn((6, 2), || draw.next()));
    let lengths = vec![5, 3, 1, 4, 2, 5];
    let before = model.parameters().unwrap();
    model.predict(x.view()).unwrap();
    model.evaluate(Inputs::from(x.view()).lengths(&lengths), y.view()).unwrap();
    assert_eq!(before, model.parameters().unwrap());
    model.fit(x.view(), y.view(), Fit::new().batch_size(6).epochs(2).lengths(lengths.clone())).unwrap();
    let after = model.parameters().unwrap();
    let (mut mean, mut variance) = (Array1::<f64>::zeros(INPUT), Array1::<f64>::ones(INPUT));
    let rows: Vec<f64> = (0..6).flat_map(|row| x.slice(s![row, ..lengths[row], ..]).mapv(f64::from)).collect();
    let rows = Array2::from_shape_vec((rows.len() / INPUT, INPUT), rows).unwrap();
    for _ in 0..2 {
        mean = mean * 0.7 + rows.mean_axis(Axis(0)).unwrap() * 0.3;
        variance = variance * 0.7 + rows.var_axis(Axis(0), 1.0) * 0.3;
    }
    for (name, expected) in [("batch_norm.running_mean", mean), ("batch_norm.running_var", variance)] {
        let expected = expected.mapv(|value| value as f32);
        close(name, after[name].iter(), expected.iter(), 1e-6, 1e-6);
    }
    for name in ["batch_norm.weight", "batch_norm.bias", "dense.weight"] {
        assert_ne!(before[name], after[name], "{name}");
    }
}

/// A run that stops and goes on ends with the bits of one that does not, running statistics included; files hold all of it.
fn files_hold_running_statistics(device: &Device) {
    let layers = || {
        let conv = Conv1d::new(6, 3).padding(Padding::Same).groups(2);
        let stack = Sequential::new(INPUT).add(conv).add(BatchNorm::new()).add(Activation::Relu);
        stack.add(WindowPool::max(2)).add(ZeroPad::new(1, 0)).add(Lstm::new(4)).add(Dense::new(2))
    };
    let fresh = || {
        let mut model = layers().build(device, 4).unwrap();
        model.compile(Loss::MeanSquaredError, Optimiser::adam(0.02)).unwrap();
        model
    };
    let mut draw = Draw::new(3);
    let (x, y) = (draw.array3((7, 9, INPUT)), Array2::from_shape_simple_fn((7, 2), || draw.next()));
    let fit = |epochs| Fit::new().epochs(epochs).batch_size(3).seed(8).lengths(vec![9, 5, 2, 7, 9, 3, 4]);
    let (mut whole, mut stopped) = (fresh(), fresh());
    whole.fit(x.view(), y.view(), fit(4)).unwrap();
    stopped.fit(x.view(), y.view(), fit(2)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stopped.safetensors");
    stopped.save_training(&path).unwrap();
    let mut resumed = Model::load_training(&path, device).unwrap();
    assert_eq!(resumed.parameters().unwrap(), stopped.parameters().unwrap());
    resumed.fit(x.view(), y.view(), fit(4).resume(true)).unwrap();
    assert_eq!(resumed.parameters().unwrap(), whole.parameters().unwrap());
    assert_eq!(Model::load(&path, device).unwrap().predict(x.view()).unwrap(), stopped.predict(x.view()).unwrap());
}

/// A plan that trains, in f64, with numbers that depend on names and times only.
struct Training {
    losses: Losses,
    split: bool,
}

fn numbers(name: &str, len: usize) -> Vec<f64> {
    let seed = name.bytes().fold(7u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte as u64));
    let values = Draw::new(seed).vec(len).into_iter().map(|value| 0.8 * value as f64);
    if name.ends_with("running_var") { values.map(|value| 0.3 + value.abs()).collect() } else { values.collect() }
}

impl Training {
    fn new(layers: &[Layer], sizes: Batch, lengths: Option<&[usize]>, limit: u64) -> Option<Training> {
        let (mut nodes, mut input) = (Vec::new(), INPUT);
        for (k, layer) in layers.iter().enumerate() {
            nodes.push(Node::new(format!("layer{k}"), input, layer.clone()));
            input = layer.output(input);
        }
        let update = Update::new(Optimiser::sgd(0.1, 0.0));
        let weighted = lengths.is_some();
        let purpose = Purpose::Train { loss: &Loss::MeanSquaredError.into(), update: &update, weighted };
        let capabilities = Capabilities { max_binding_bytes: limit, ..Capabilities::default() };
        let network = network(&nodes[..], sizes.ragged(weighted), purpose, &capabilities).ok()?;
        let losses = Losses::new(network.plan.clone(), network.loss.unwrap());
        let (machine, plan) = (&losses.machine, &losses.plan);
        let along = |sequence: &Sequence, name: &str| {
            let all = numbers(name, (sequence.steps * sequence.step) as usize);
            for (t, step) in all.chunks(sequence.step as usize).enumerate() {
                let (buffer, at) = sequence.at(t as u32);
                machine.write((buffer, at as u64), step);
            }
        };
        along(network.x(), "x");
        along(network.target().unwrap(), "target");
        let given = |role| matches!(role, Role::Weight | Role::State);
        for (k, buffer) in plan.buffers.iter().enumerate().filter(|(_, buffer)| given(buffer.role)) {
            machine.write((BufferId(k), 0), &numbers(&buffer.name, buffer.len as usize));
        }
        if let Some(lengths) = lengths {
            // Axes are numbered as they are made along the chain.
            let (mut axes, mut current) = (vec![lengths.to_vec()], lengths.to_vec());
            for layer in layers {
                let next: Vec<usize> = current.iter().map(|&length| equations::steps(layer, length)).collect();
                if next != current {
                    axes.push(next.clone());
                }
                current = next;
            }
            for &(axis, id) in &network.words {
                let lengths = axes[axis].iter().map(|&length| f64::of_word(length as u32));
                machine
                    .write((id, 0), &[f64::of_word(7), f64::of_word(1)].into_iter().chain(lengths).collect::<Vec<_>>());
            }
            let y = network.y();
            let on = |t: u32, row: usize| y.steps == 1 || (t as usize) < current[row];
            let all: Vec<bool> =
                (0..y.steps).flat_map(|t| (0..3).map(move |row| (t, row))).map(|(t, row)| on(t, row)).collect();
            let terms = all.iter().filter(|&&on| on).count() as f64 * y.features as f64;
            let weights: Vec<f64> = all.iter().map(|&on| if on { 1.0 / terms } else { 0.0 }).collect();
            machine.write((network.outputs[0].row_weights.unwrap(), 0), &weights);
        }
        Some(Training { losses, split: network.x().chunks.len() > 1 })
    }

    /// Gradients of all weights against central differences.
    fn check(&self, what: &str) {
        let weights = self.losses.plan.buffers.iter().enumerate().filter(|(_, buffer)| buffer.role == Role::Weight);
        for (k, Buffer { name, .. }) in weights {
            let Some(given) = self.losses.gradient(BufferId(k)) else {
                assert!(name.ends_with("bias") || name.contains("running"), "{what}: {name} has no gradient");
                continue;
            };
            self.losses.hold(what, BufferId(k), &given, (0..given.len()).step_by(1 + given.len() / 40), 1e-9);
        }
    }
}

impl Training {
    /// Gradients, and the states that a batch leaves, by name.
    fn results(&self) -> BTreeMap<String, Vec<f64>> {
        let loss = ("loss".to_string(), vec![self.losses.run()]);
        let wanted = |role: Role| matches!(role, Role::Gradient | Role::State);
        let kept = self.losses.plan.buffers.iter().enumerate().filter(|(_, buffer)| wanted(buffer.role));
        let read =
            kept.map(|(k, buffer)| (buffer.name.clone(), self.losses.machine.read((BufferId(k), 0), buffer.len)));
        read.chain([loss]).collect()
    }
}

/// Segments of time, which hand tails on that are longer than a segment, and tails of sequences of different lengths from batch to batch.
#[test]
fn tails_pass_between_segments() {
    let causal = |size, dilation| Conv1d::new(4, size).padding(Padding::Causal).dilation(dilation);
    let lstm = |whole| Lstm::new(4).return_sequences(whole).into();
    for layers in [
        vec![causal(3, 1).into(), lstm(true), causal(2, 6).groups(2).into(), Dense::new(2).into()],
        vec![causal(3, 2).activation(Activation::Tanh).into(), causal(2, 1).into(), lstm(false), Dense::new(2).into()],
        vec![causal(4, 1).into()],
    ] as [Vec<Layer>; 3]
    {
        for (lengths, stateful) in [None, Some(&[11, 2, 7][..])].into_iter().flat_map(|l| [(l, false), (l, true)]) {
            let sizes = Batch::new(3, 11).stateful(stateful);
            let expected = Training::new(&layers, sizes.clone(), lengths, 1 << 27).unwrap().results();
            assert_eq!(expected.keys().any(|name| name.ends_with("tail state")), stateful);
            for segment in [1, 3, 4, 10] {
                let training = Training::new(&layers, sizes.clone().segment(Some(segment)), lengths, 1 << 27).unwrap();
                let what = format!("{layers:?}, lengths {lengths:?}, stateful {stateful}, segments of {segment}");
                let given = training.results();
                assert!(given.keys().eq(expected.keys()), "{what}");
                for (name, expected) in &expected {
                    for (at, (g, e)) in given[name].iter().zip(expected).enumerate() {
                        assert!((g - e).abs() <= 1e-13 + 1e-11 * e.abs(), "{what}: {name}[{at}] is {g}, expected {e}");
                    }
                }
            }
        }
    }
    let layers = [Lstm::new(4).return_sequences(true).into(), BatchNorm::new().into()];
    assert!(Training::new(&layers, Batch::new(3, 11).segment(Some(3)), None, 1 << 27).is_none());
}

fn trained_stacks() -> Vec<Vec<Layer>> {
    let tanh = |units| Dense::new(units).activation(Activation::Tanh).into();
    let conv = |filters, size, padding| Conv1d::new(filters, size).padding(padding).activation(Activation::Tanh);
    let lstm = || Lstm::new(3).return_sequences(true).into();
    vec![
        vec![tanh(4), conv(4, 3, Padding::Valid).into(), lstm(), Dense::new(2).into()],
        vec![tanh(4), conv(4, 3, Padding::Same).stride(2).groups(2).into(), Dense::new(2).into()],
        vec![tanh(4), conv(2, 4, Padding::Same).dilation(2).bias(false).into(), Lstm::new(3).into()],
        vec![
            tanh(4),
            conv(4, 3, Padding::Causal).dilation(2).into(),
            BatchNorm::new().epsilon(1e-2).into(),
            Activation::Sigmoid.into(),
            WindowPool::max(2).into(),
            Lstm::new(3).into(),
        ],
        vec![conv(4, 4, Padding::Causal).stride(3).into(), conv(3, 1, Padding::Valid).into()],
        vec![tanh(4), WindowPool::mean(3).stride(2).padding(Padding::Same).into(), Dense::new(2).into()],
        vec![tanh(3), WindowPool::mean(4).stride(1).padding(Padding::Both(2)).count_padding(true).into(), lstm()],
        vec![tanh(3), ZeroPad::new(2, 1).into(), conv(3, 2, Padding::Same).dilation(3).into(), BatchNorm::new().into()],
        vec![
            tanh(4),
            conv(4, 3, Padding::Both(2)).stride(2).into(),
            WindowPool::max(3).stride(1).padding(Padding::Same).into(),
            Lstm::new(3).into(),
        ],
        vec![tanh(3), conv(3, 3, Padding::Both(7)).into(), BatchNorm::keras().into(), Dense::new(2).into()],
        vec![tanh(3), Conv1d::new(3, 2).activation(Activation::Softmax).into(), Pool::Mean.into()],
        vec![Lstm::new(4).into(), BatchNorm::new().into(), tanh(2)],
        vec![tanh(4), BatchNorm::new().into(), Pool::Max.into(), Dense::new(2).into()],
    ]
}

#[test]
fn gradients_of_windows() {
    for layers in trained_stacks() {
        for lengths in [None, Some(&[11, 6, 9][..])] {
            let mut whole = None;
            let mut split = 0;
            for limit in [1 << 27, 400, 600, 900, 1300] {
                let what = format!("{layers:?}, lengths {lengths:?}, limit {limit}");
                let Some(training) = Training::new(&layers, Batch::new(3, 11), lengths, limit) else {
                    assert!(limit < 1 << 27, "{what}");
                    continue;
                };
                let loss = training.losses.run();
                let whole = *whole.get_or_insert(loss);
                assert!((loss - whole).abs() <= 1e-13, "{what}: the loss is {loss}, in one part {whole}");
                if limit == 1 << 27 || (training.split && split < 2) {
                    training.check(&what);
                }
                split += training.split as usize;
            }
            assert!(split > 0, "{layers:?}: time is never split");
        }
    }
}

/// The layers of a file whose graph is a chain.
fn layers_of(file: &Fixture, name: &str) -> Vec<Layer> {
    let graph: Value = serde_json::from_str(&file.metadata["graph"]).unwrap();
    let layer = |node: &Value| {
        let layer = &node["layer"];
        let number = |key: &str| layer[key].as_u64().unwrap() as usize;
        let padding = || match layer["padding"].as_u64() {
            Some(both) => Padding::Both(both as usize),
            None => serde_json::from_value(layer["padding"].clone()).unwrap(),
        };
        match layer["layer"].as_str().unwrap() {
            "conv1d" => {
                let conv = Conv1d::new(number("filters"), number("kernel")).stride(number("stride"));
                let conv = conv.dilation(number("dilation")).groups(number("groups")).padding(padding());
                let activation: Activation = serde_json::from_value(layer["activation"].clone()).unwrap();
                conv.bias(layer["bias"] == true).activation(activation).into()
            }
            "max_pool1d" => WindowPool::max(number("size")).stride(number("stride")).padding(padding()).into(),
            "average_pool1d" => {
                let pool = WindowPool::mean(number("size")).stride(number("stride")).padding(padding());
                pool.count_padding(layer["count_padding"] == true).into()
            }
            "zero_padding1d" => ZeroPad::new(number("left"), number("right")).into(),
            "batch_norm" => {
                let [epsilon, momentum] = ["epsilon", "momentum"].map(|key| layer[key].as_f64().unwrap() as f32);
                BatchNorm::new().epsilon(epsilon).momentum(momentum).unbiased(name.contains("pytorch")).into()
            }
            _ => serde_json::from_value(layer.clone()).unwrap(),
        }
    };
    graph["nodes"].as_array().unwrap().iter().map(layer).collect()
}

/// f32 throughout, sums of a few dozens of terms; the files are computed in f64. A gradient is the difference of two parameters.
const VALUES: f32 = 1e-5;

fn references(device: &Device) {
    let ours = |name: &String| {
        ["_conv_", "_max_pool", "_average_pool", "_batch_norm", "_zero_padding"].iter().any(|kind| name.contains(kind))
    };
    let files: Vec<String> = fixture_names("graph_").into_iter().filter(ours).collect();
    assert_eq!(files.len(), 34, "{files:?}");
    for name in files {
        reference(device, &name);
    }
}

fn reference(device: &Device, name: &str) {
    let file = fixture(name);
    let x = file.array3("input.x");
    let layers = layers_of(&file, name);
    let stack = layers.into_iter().fold(Sequential::new(x.dim().2), |stack, layer| stack.add(layer));
    let mut model = stack.build(device, 0).unwrap();
    model.set_parameters(file.under("param.")).unwrap();
    let target = &file.tensors["target.y"];
    let lengths: Option<Vec<usize>> =
        file.tensors.get("lengths.x").map(|lengths| lengths.iter().map(|&length| length as usize).collect());
    let fit = || {
        let fit = Fit::new().batch_size(x.dim().0);
        lengths.iter().fold(fit, |fit, lengths| fit.lengths(lengths.clone()))
    };
    if let Some(losses) = file.tensors.get("losses") {
        model.compile(Loss::MeanSquaredError, Optimiser::sgd(0.1, 0.0)).unwrap();
        for (step, loss) in (1..).zip(losses) {
            let history = model.fit(x.view(), target.view(), fit()).unwrap();
            close(&format!("{name}: loss of step {step}"), &history.loss, [loss], VALUES, VALUES);
            let after = model.parameters().unwrap();
            for (statistic, expected) in file.under(&format!("step{step}.param.")) {
                close(&format!("{name}: {statistic}, step {step}"), &after[&statistic], &expected, VALUES, VALUES);
            }
        }
        let after = model.parameters().unwrap();
        for (parameter, expected) in file.under("final.param.") {
            close(&format!("{name}: {parameter}"), &after[&parameter], &expected, VALUES, VALUES);
        }
    }
    let statistics = file.metadata["batch_statistics"] == "1";
    if !statistics || file.metadata["mode"] == "training" {
        let output = model.predict(x.view()).unwrap();
        close(&format!("{name}: output"), &output, &file.tensors["output.y"], VALUES, VALUES);
    }
    if file.metadata["mode"] == "training" {
        return;
    }
    model.compile(Loss::MeanSquaredError, Optimiser::sgd(1.0, 0.0)).unwrap();
    if !statistics {
        let loss = model.evaluate(x.view(), target.view()).unwrap();
        close(&format!("{name}: loss"), &[loss], &file.tensors["loss"], VALUES, VALUES);
    }
    let normalises = file.metadata["graph"].contains("batch_norm");
    if normalises && !statistics {
        return; // training takes the batch's statistics
    }
    let history = model.fit(x.view(), target.view(), fit()).unwrap();
    close(&format!("{name}: training loss"), &history.loss, &file.tensors["loss"], VALUES, VALUES);
    let (before, after) = (file.under("param."), model.parameters().unwrap());
    for (parameter, gradient) in file.under("grad.param.") {
        let given = &before[&parameter] - &after[&parameter];
        close(&format!("{name}: d{parameter}"), &given, &gradient, VALUES, VALUES);
    }
    for (statistic, expected) in file.under("after.") {
        close(&format!("{name}: {statistic}"), &after[&statistic], &expected, VALUES, VALUES);
    }
}

/// Bad settings and uses are refused with the layer's name and the numbers.
#[test]
fn what_cannot_be_is_refused() {
    let error = |layer: Layer| Sequential::new(INPUT).add(layer).build(&Device::cpu(), 0).unwrap_err().to_string();
    let conv = || Conv1d::new(6, 3);
    for (layer, wanted) in [
        (conv().groups(4).into(), "conv1d: 4 input features and 6 filters cannot be cut into 4 groups"),
        (conv().stride(0).into(), "conv1d: the stride is 0"),
        (conv().dilation(0).into(), "conv1d: the dilation is 0"),
        (Conv1d::new(0, 3).into(), "conv1d: the number of filters is 0"),
        (Conv1d::new(3, 0).into(), "conv1d: the size of the kernel is 0"),
        (conv().padding(Padding::Both(usize::MAX)).into(), "conv1d: the padding"),
        (conv().dilation(usize::MAX).into(), "conv1d: the dilation is"),
        (WindowPool::max(0).into(), "window_pool: the steps that a window reaches over is 0"),
        (WindowPool::mean(3).padding(Padding::Both(2)).into(), "more than half of its windows of 3 steps"),
        (WindowPool::max(3).count_padding(true).into(), "only means can count padding"),
        (ZeroPad::new(0, 0).into(), "zero_pad: it adds 0 steps"),
        (BatchNorm::new().epsilon(0.0).into(), "batch_norm: epsilon is 0"),
        (BatchNorm::new().momentum(1.5).into(), "batch_norm: the momentum is 1.5"),
    ] as [(Layer, &str); 13]
    {
        let error = error(layer);
        assert!(error.contains(wanted), "{error}");
    }
    let model = |layer: Layer| Sequential::new(INPUT).add(layer).build(&Device::cpu(), 0).unwrap();
    let short = model(Conv1d::new(2, 5).into()).predict(Array3::zeros((1, 4, INPUT)).view()).unwrap_err().to_string();
    assert!(short.contains("conv1d has no output for a sequence of 4 steps"), "{short}");
    for (layer, wanted) in [
        (Conv1d::new(2, 3).padding(Padding::Same).into(), "conv1d convolves windows that are not causal"),
        (Conv1d::new(2, 3).padding(Padding::Causal).stride(2).into(), "by a stride"),
        (WindowPool::max(2).into(), "window_pool pools windows of time"),
        (ZeroPad::new(1, 0).into(), "zero_pad adds zeros at the ends"),
    ] as [(Layer, &str); 4]
    {
        let error = model(layer).stream(1).unwrap_err().to_string();
        assert!(error.contains(wanted) && error.contains("cannot stream"), "{error}");
    }
    assert!(model(BatchNorm::new().into()).stream(1).is_ok());
}

on_both!(
    references,
    layers_equal_equations,
    streams_carry_tails,
    only_training_moves_running_statistics,
    files_hold_running_statistics
);
