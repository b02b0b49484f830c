//! Networks that branch: several inputs and outputs, states between layers, shared weights; decoding step by step; batches of an
//! iterator; files; what is refused.

mod common;

use common::{Draw, close};
use ndarray::{Array2, Array3, Axis, s};
use wgpu_lstm::{
    Add, Concat, Decode, Dense, Device, Embedding, Fit, Gru, Inputs, Loss, Losses, Lstm, Model, Network, Optimiser,
    Pool, Reset, Sequential, Targets, Value,
};

/// Tokens of a source are read by an encoder, in whose states a decoder begins.
fn translator(stack: usize) -> Network {
    let mut net = Network::new();
    let (source, previous) = (net.tokens("source"), net.tokens("previous"));
    let embedded = net.layer(Embedding::new(9, 5)).of(source);
    let encoded = net.layer(Lstm::new(6).layers(stack)).named("encoder").of(embedded);
    let states = net.states(encoded);
    let embedded = net.layer(Embedding::new(7, 4)).of(previous);
    let decoded =
        net.layer(Lstm::new(6).layers(stack).return_sequences(true)).named("decoder").starts_from(states).of(embedded);
    let logits = net.layer(Dense::new(7)).named("logits").of(decoded);
    net.output("next", logits);
    net
}

fn tokens(draw: &mut Draw, count: usize, steps: usize, limit: f32) -> Array2<u32> {
    Array2::from_shape_simple_fn((count, steps), || ((draw.next().abs() * limit) as u32).min(limit as u32 - 1))
}

/// The most probable tokens, by a pass over the whole prefix at each step.
fn greedy_by_whole_passes(model: &Model, source: &Array2<u32>, lengths: &[usize], steps: usize) -> Vec<Vec<u32>> {
    let mut previous = Array2::<u32>::zeros((source.nrows(), steps));
    for t in 0..steps {
        let inputs = Inputs::new().tokens("source", source.view()).lengths(lengths);
        let y = model.predict(inputs.tokens("previous", previous.view())).unwrap();
        for n in 0..source.nrows() {
            let best = (0..7).max_by(|&a, &b| y[[n, t, a]].total_cmp(&y[[n, t, b]])).unwrap();
            if t + 1 < steps {
                previous[[n, t + 1]] = best as u32;
            } else {
                return tokens_of(&y, n, previous, steps);
            }
        }
    }
    Vec::new()
}

/// Completes [`greedy_by_whole_passes`]: the fed tokens without the first, and the last one of every row.
fn tokens_of(y: &ndarray::ArrayD<f32>, _: usize, previous: Array2<u32>, steps: usize) -> Vec<Vec<u32>> {
    (0..previous.nrows())
        .map(|n| {
            let last = (0..7).max_by(|&a, &b| y[[n, steps - 1, a]].total_cmp(&y[[n, steps - 1, b]])).unwrap();
            previous.row(n).iter().skip(1).copied().chain([last as u32]).collect()
        })
        .collect()
}

fn decoding_steps_equal_whole_passes(device: &Device) {
    for stack in [1, 2] {
        let model = translator(stack).build(device, 3).unwrap();
        let source = tokens(&mut Draw::new(5), 4, 6, 9.0);
        let lengths = [6, 2, 5, 1];
        let decoder = model.decoder("previous", "next").unwrap();
        let inputs = Inputs::new().tokens("source", source.view()).lengths(&lengths);
        // No token ends a sequence here
        let decode = Decode { start: 0, end: 99, most: 8 };
        let given = decoder.greedy(inputs.clone(), decode).unwrap();
        assert_eq!(given, greedy_by_whole_passes(&model, &source, &lengths, 8), "{device}, {stack} layers");
        // A beam of one prefix is the greedy search
        let beams = decoder.beam(inputs, decode, 1).unwrap();
        let best: Vec<_> = beams.into_iter().map(|mut beam| beam.remove(0).tokens).collect();
        assert_eq!(best, given);
    }
}

/// A beam that holds all prefixes finds the most probable sequence, and its probability is the product over the steps.
fn wide_beams_are_exhaustive(device: &Device) {
    let model = translator(1).build(device, 4).unwrap();
    let source = tokens(&mut Draw::new(6), 2, 5, 9.0);
    let decoder = model.decoder("previous", "next").unwrap();
    let inputs = || Inputs::new().tokens("source", source.view());
    let beams = decoder.beam(inputs(), Decode { start: 0, end: 99, most: 2 }, 49).unwrap();
    for (n, beam) in beams.iter().enumerate() {
        assert_eq!(beam.len(), 49);
        assert!(beam.windows(2).all(|pair| pair[0].log_probability >= pair[1].log_probability));
        let mut all: Vec<(Vec<u32>, f32)> = Vec::new();
        for first in 0..7 {
            let previous = Array2::from_shape_vec((2, 2), vec![0, first, 0, first]).unwrap();
            let y = model.predict(inputs().tokens("previous", previous.view())).unwrap();
            let log = |t: usize, k: usize| {
                let sum: f32 = (0..7).map(|j| y[[n, t, j]].exp()).sum();
                y[[n, t, k]] - sum.ln()
            };
            all.extend((0..7).map(|second| (vec![first, second as u32], log(0, first as usize) + log(1, second))));
        }
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        assert_eq!(beam[0].tokens, all[0].0, "{device}");
        for (given, (_, expected)) in beam.iter().zip(&all) {
            let given = given.log_probability;
            assert!((given - expected).abs() < 1e-5, "{device}: {given}, {expected}");
        }
    }
}

/// An end token ends its sequence alone.
#[test]
fn sequences_end_by_themselves() {
    let model = translator(1).build(&Device::cpu(), 3).unwrap();
    let source = tokens(&mut Draw::new(5), 4, 6, 9.0);
    let decoder = model.decoder("previous", "next").unwrap();
    let inputs = || Inputs::new().tokens("source", source.view());
    let open = decoder.greedy(inputs(), Decode { start: 0, end: 99, most: 8 }).unwrap();
    let end = open[0][3];
    let closed = decoder.greedy(inputs(), Decode { start: 0, end, most: 8 }).unwrap();
    for (open, closed) in open.iter().zip(&closed) {
        let expected: Vec<u32> = open.iter().copied().take_while(|&token| token != end).collect();
        assert_eq!(*closed, expected);
    }
}

/// A model with two inputs of different lengths in time, and two outputs.
fn two_in_two_out(device: &Device) -> Model {
    let mut net = Network::new();
    let (long, short, flat) = (net.input("long", 3), net.input("short", 2), net.vector("flat", 4));
    let a = net.layer(Lstm::new(5)).of(long);
    let b = net.layer(Gru::new(5).return_sequences(true)).of(short);
    let pooled = net.layer(Pool::Mean).of(b);
    let c = net.layer(Dense::new(5)).of(flat);
    let sum = net.layer(Add::new(3)).of([a, pooled, c]);
    let all = net.layer(Concat::new(2)).of([sum, flat]);
    let first = net.layer(Dense::new(2)).of(all);
    let second = net.layer(Dense::new(1)).of(b);
    net.output("first", first).output("second", second).build(device, 8).unwrap()
}

fn two_losses_train(device: &Device) {
    let mut model = two_in_two_out(device);
    let mut draw = Draw::new(2);
    let (long, short) = (draw.array3((10, 9, 3)), draw.array3((10, 4, 2)));
    let flat = Array2::from_shape_simple_fn((10, 4), || draw.next());
    let first = Array2::from_shape_fn((10, 2), |(n, f)| long[[n, 0, f]]);
    let second = Array3::from_shape_fn((10, 4, 1), |(n, t, _)| short[[n, t, 0]]);
    let inputs = Inputs::new().add("flat", flat.view()).add("long", long.view()).add("short", short.view());
    let targets = Targets::new().add("second", second.view()).add("first", first.view());
    let losses = Losses::new().output("first", Loss::MeanSquaredError).weighted("second", Loss::MeanAbsoluteError, 0.3);
    model.compile(losses, Optimiser::adam(0.02)).unwrap();
    let before = model.evaluate(inputs.clone(), targets.clone()).unwrap();
    let outputs = model.outputs(inputs.clone()).unwrap();
    let squares = (&outputs["first"] - &first).mapv(|error| error * error).mean().unwrap();
    let absolutes = (&outputs["second"] - &second).mapv(f32::abs).mean().unwrap();
    assert!((before - squares - 0.3 * absolutes).abs() < 1e-6, "{device}");
    let history = model.fit(inputs.clone(), targets.clone(), Fit::new().epochs(60).batch_size(4)).unwrap();
    assert!(history.loss[59] < 0.3 * before, "{device}: {before}, {}", history.loss[59]);
    assert!((model.evaluate(inputs, targets).unwrap() - history.loss[59]).abs() < 0.2 * before);
}

/// Every sequence of a padded batch, in inputs of different lengths, gives what it gives alone.
fn ragged_inputs_of_their_own(device: &Device) {
    let model = two_in_two_out(device);
    let mut draw = Draw::new(3);
    let (long, short) = (draw.array3((4, 9, 3)), draw.array3((4, 5, 2)));
    let flat = Array2::from_shape_simple_fn((4, 4), || draw.next());
    let (of_long, of_short) = ([9, 2, 5, 1], [1, 5, 2, 3]);
    let inputs = Inputs::new().add("long", long.view()).lengths(&of_long).add("short", short.view()).lengths(&of_short);
    let together = model.outputs(inputs.add("flat", flat.view())).unwrap();
    for n in 0..4 {
        let (long, short) = (long.slice(s![n..n + 1, ..of_long[n], ..]), short.slice(s![n..n + 1, ..of_short[n], ..]));
        let inputs = Inputs::new().add("long", long).add("short", short);
        let alone = model.outputs(inputs.add("flat", flat.slice(s![n..n + 1, ..]))).unwrap();
        let row = |of: &str| together[of].index_axis(Axis(0), n).to_owned();
        close(&format!("{device} first {n}"), &row("first"), alone["first"].index_axis(Axis(0), 0), 1e-6, 1e-5);
        let second = row("second").slice(s![..of_short[n], ..]).to_owned();
        close(&format!("{device} second {n}"), &second, alone["second"].index_axis(Axis(0), 0), 1e-6, 1e-5);
    }
}

#[test]
fn shared_layers_have_one_set_of_weights() {
    let siamese = || {
        let mut net = Network::new();
        let (left, right) = (net.input("left", 2), net.input("right", 2));
        let left = net.layer(Lstm::new(4)).named("reader").of(left);
        let right = net.again(left).of(right);
        let both = net.layer(Concat::new(2)).of([left, right]);
        let same = net.layer(Dense::new(1)).of(both);
        net.output("same", same);
        net
    };
    let mut model = siamese().build(&Device::cpu(), 5).unwrap();
    let names: Vec<String> = model.parameters().unwrap().into_keys().collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("reader.")).count(), 4);
    assert_eq!(names.len(), 6);
    let x = Draw::new(1).array3((3, 4, 2));
    let inputs = Inputs::new().add("left", x.view()).add("right", x.view());
    // Two uses of one input: the gradient is that of both, so the step is that of a layer that is used once on twice the batch.
    model.compile(Loss::MeanSquaredError, Optimiser::sgd(0.1, 0.0)).unwrap();
    let before = model.parameters().unwrap()["reader.weight_ih_l0"].clone();
    model.fit(inputs, Array2::<f32>::ones((3, 1)).view(), Fit::new()).unwrap();
    assert_ne!(before, model.parameters().unwrap()["reader.weight_ih_l0"]);
    assert!(model.summary().contains("those of reader"), "{}", model.summary());
}

#[test]
fn networks_are_saved_and_trained_further() {
    let path = std::env::temp_dir().join(format!("wgpu-lstm-network-{}.safetensors", std::process::id()));
    let mut model = translator(1).build(&Device::cpu(), 3).unwrap();
    let mut draw = Draw::new(9);
    let (source, next) = (tokens(&mut draw, 6, 5, 9.0), tokens(&mut draw, 6, 4, 7.0));
    let inputs = || Inputs::new().tokens("source", source.view()).tokens("previous", next.view());
    let fit = |epochs| Fit::new().epochs(epochs).batch_size(4).seed(2).resume(true);
    model.compile(Loss::SparseSoftmaxCrossEntropy, Optimiser::adam(0.01)).unwrap();
    model.fit(inputs(), Targets::new().tokens("next", next.view()), fit(3)).unwrap();
    model.save_training(&path).unwrap();
    let mut again = Model::load_training(&path, &Device::cpu()).unwrap();
    assert_eq!(model.predict(inputs()).unwrap(), again.predict(inputs()).unwrap());
    for model in [&mut model, &mut again] {
        model.fit(inputs(), Targets::new().tokens("next", next.view()), fit(6)).unwrap();
    }
    assert_eq!(model.parameters().unwrap(), again.parameters().unwrap());
    assert!(Model::load(&path, &Device::cpu()).unwrap().decoder("previous", "next").is_ok());
    std::fs::remove_file(path).unwrap();
}

fn batches_of_an_iterator(device: &Device) {
    let mut draw = Draw::new(4);
    let (x, y) = (draw.array3((12, 5, 2)), Array2::from_shape_simple_fn((12, 1), || draw.next()));
    let build = || {
        let mut model = Sequential::new(2).add(Lstm::new(4)).add(Dense::new(1)).build(device, 1).unwrap();
        model.compile(Loss::MeanSquaredError, Optimiser::adam(0.01)).unwrap();
        model
    };
    let mut expected = build();
    let fit = |epochs| Fit::new().epochs(epochs).batch_size(5).shuffle(false);
    let history = expected.fit(x.view(), y.view(), fit(3)).unwrap();
    for ahead in [0, 1, 5] {
        let mut model = build();
        let (x, y) = (x.clone(), y.clone());
        let batches = move |_: usize| {
            let (x, y) = (x.clone(), y.clone());
            [0..5, 5..10, 10..12].into_iter().map(move |rows| {
                let (x, y) = (x.slice(s![rows.clone(), .., ..]).to_owned(), y.slice(s![rows, ..]).to_owned());
                Ok((x.into(), y.into()))
            })
        };
        let given = model.fit_batches(batches, fit(3).batches_ahead(ahead)).unwrap();
        assert_eq!((given.loss, given.steps), (history.loss.clone(), history.steps));
        assert_eq!(model.parameters().unwrap(), expected.parameters().unwrap());
    }
}

#[test]
fn iterators_that_fail_end_the_fit() {
    let mut model = Sequential::new(2).add(Dense::new(1)).add(Pool::Last).build(&Device::cpu(), 1).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(0.01)).unwrap();
    let batch = |wide: usize| (Array3::<f32>::zeros((2, 3, wide)).into(), Array2::<f32>::zeros((2, 1)).into());
    let bad = |_: usize| (0..3).map(move |k| Ok(batch(if k == 2 { 5 } else { 2 })));
    let error = model.fit_batches(bad, Fit::new()).unwrap_err().to_string();
    assert!(error.contains("x has 5 features, the model expects 2"), "{error}");
    let broken = |_: usize| {
        (0..3)
            .map(move |k| if k == 1 { Err(wgpu_lstm::Error::Config("the disk is gone".into())) } else { Ok(batch(2)) })
    };
    let error = model.fit_batches(broken, Fit::new()).unwrap_err().to_string();
    assert!(error.contains("the disk is gone"), "{error}");
    let none = |_: usize| (0..0).map(move |_| Ok(batch(2)));
    let error = model.fit_batches(none, Fit::new()).unwrap_err().to_string();
    assert!(error.contains("the iterator of epoch 1 gave no batch"), "{error}");
    let settings = [Fit::new().truncated(2), Fit::new().validation_split(0.5), Fit::new().lengths(vec![1])];
    for fit in settings {
        assert!(model.fit_batches(|_: usize| (0..1).map(move |_| Ok(batch(2))), fit).is_err());
    }
}

#[test]
fn wrong_networks_are_refused_by_name() {
    let says = |make: &dyn Fn(&mut Network) -> Value, parts: &[&str]| {
        let mut net = Network::new();
        let value = make(&mut net);
        let error = net.output("y", value).build(&Device::cpu(), 0).unwrap_err().to_string();
        parts.iter().for_each(|part| assert!(error.contains(part), "{error}\nlacks {part}"));
    };
    says(
        &|net| {
            let x = net.input("x", 2);
            let a = net.layer(Lstm::new(3)).of(x);
            net.layer(Add::new(2)).named("sum").of([x, a])
        },
        &["sum adds tensors of 2 and 3 features"],
    );
    says(
        &|net| {
            let x = net.input("x", 3);
            let a = net.layer(Lstm::new(3)).of(x);
            net.layer(Add::new(2)).named("sum").of([x, a])
        },
        &["sum joins", "one is a sequence and the other a vector"],
    );
    says(
        &|net| {
            let x = net.input("x", 3);
            let a = net.layer(Lstm::new(3)).of(x);
            net.layer(Lstm::new(3)).named("second").of(a)
        },
        &["second needs a sequence, but lstm gives one vector"],
    );
    says(
        &|net| {
            let x = net.input("x", 3);
            let a = net.layer(Lstm::new(3)).of(x);
            let states = net.states(a);
            net.layer(Lstm::new(4)).named("second").starts_from(states).of(x)
        },
        &["initial state h of second has 4 units", "lstm has 3"],
    );
    says(
        &|net| {
            let x = net.input("x", 3);
            let a = net.layer(Gru::new(3)).of(x);
            let states = net.states(a);
            net.layer(Lstm::new(3)).named("second").starts_from(states).of(x)
        },
        &["second is given 1 initial states; it has 2"],
    );
    says(
        &|net| {
            let (x, z) = (net.input("x", 3), net.input("z", 2));
            let a = net.layer(Dense::new(3)).of(x);
            net.again(a).named("again").of(z)
        },
        &["again shares the weights of dense"],
    );
    says(
        &|net| {
            let x = net.input("x", 3);
            net.again(x).of(x)
        },
        &["share the weights of a value that no layer gives"],
    );
    says(
        &|net| {
            let x = net.input("x", 3);
            net.layer(Dense::new(2)).named("alone").of(x);
            net.layer(Dense::new(2)).of(x)
        },
        &["no node reads the output of alone"],
    );
    says(&|net| net.input("x", 3), &["0 layers"]);
    says(
        &|net| {
            let x = net.input("x", 3);
            net.layer(Dense::new(2)).of([x, x])
        },
        &["dense is given 2 inputs; its layer takes 1"],
    );
}

#[test]
fn wrong_data_are_refused_by_name() {
    let mut model = two_in_two_out(&Device::cpu());
    let (long, short, flat) =
        (Array3::<f32>::zeros((2, 5, 3)), Array3::<f32>::zeros((2, 4, 2)), Array2::<f32>::zeros((2, 4)));
    let good = || Inputs::new().add("long", long.view()).add("short", short.view()).add("flat", flat.view());
    let says = |error: wgpu_lstm::Error, parts: &[&str]| {
        let error = error.to_string();
        parts.iter().for_each(|part| assert!(error.contains(part), "{error}\nlacks {part}"));
    };
    let lacking = Inputs::new().add("long", long.view()).add("short", short.view());
    says(model.outputs(lacking).unwrap_err(), &["lack input \"flat\"", "long, short, flat"]);
    says(model.outputs(good().add("more", flat.view())).unwrap_err(), &["have an input \"more\""]);
    says(model.predict(good()).unwrap_err(), &["outputs first, second", "Model::outputs"]);
    let three = Array3::<f32>::zeros((3, 4, 2));
    let other = Inputs::new().add("long", long.view()).add("short", three.view()).add("flat", flat.view());
    says(model.outputs(other).unwrap_err(), &["input \"short\" has 3 sequences", "input \"long\" has 2"]);
    let wide = Array2::<f32>::zeros((2, 5));
    let other = Inputs::new().add("long", long.view()).add("short", short.view()).add("flat", wide.view());
    says(model.outputs(other).unwrap_err(), &["input \"flat\" has 5 features, the model expects 4"]);

    says(
        model.compile(Loss::MeanSquaredError, Optimiser::adam(0.1)).unwrap_err(),
        &["one loss was given", "2 outputs"],
    );
    let wrong = Losses::new().output("third", Loss::MeanSquaredError);
    says(model.compile(wrong, Optimiser::adam(0.1)).unwrap_err(), &["output \"third\"", "first, second"]);
    model.compile(Losses::new().output("first", Loss::MeanSquaredError), Optimiser::adam(0.1)).unwrap();
    let y = Array2::<f32>::zeros((2, 2));
    model.fit(good(), y.view(), Fit::new()).unwrap(); // the only output with a loss
    let both = Targets::new().add("first", y.view()).add("second", y.view());
    says(model.fit(good(), both, Fit::new()).unwrap_err(), &["have a target \"second\"", "first"]);
    let y = Array2::<f32>::zeros((2, 3));
    says(model.fit(good(), y.view(), Fit::new()).unwrap_err(), &["target \"first\" has shape", "[2, 1, 2]"]);
    says(model.fit(good(), y.view(), Fit::new().truncated(2)).unwrap_err(), &["several inputs"]);

    let model = translator(1).build(&Device::cpu(), 0).unwrap();
    says(model.decoder("next", "next").unwrap_err(), &["no input \"next\"", "source, previous"]);
    says(model.decoder("previous", "source").unwrap_err(), &["no output \"source\""]);
    says(model.stream(1).unwrap_err(), &["decoder begins with the states of another node"]);
    let mut trained = translator(1).build(&Device::cpu(), 0).unwrap();
    trained.compile(Loss::SparseSoftmaxCrossEntropy, Optimiser::adam(0.1)).unwrap();
    let zeros = Array2::<u32>::zeros((2, 3));
    let inputs = Inputs::new().tokens("source", zeros.view()).tokens("previous", zeros.view());
    let stateful = Fit::new().shuffle(false).batch_size(2).stateful(Reset::EachEpoch);
    says(
        trained.fit(inputs, Targets::new().tokens("next", zeros.view()), stateful).unwrap_err(),
        &["states of another node"],
    );
    let decoder = model.decoder("previous", "next").unwrap();
    let nines = Array2::<u32>::from_elem((2, 3), 9);
    let decode = Decode { start: 0, end: 1, most: 3 };
    says(
        decoder.greedy(Inputs::new().tokens("source", nines.view()), decode).unwrap_err(),
        &["input \"source\" holds 9"],
    );
    let inputs = || Inputs::new().tokens("source", zeros.view());
    says(decoder.greedy(inputs(), Decode { start: 50, ..decode }).unwrap_err(), &["holds 50"]);
    says(decoder.beam(inputs(), decode, 0).unwrap_err(), &["width"]);
    let mut decoding = decoder.begin(inputs()).unwrap();
    says(decoding.step(&[1]).unwrap_err(), &["B = 2"]);
    says(decoding.reorder(&[0, 2]).unwrap_err(), &["2 rows", "0 to 1"]);
    says(decoding.output("weights").unwrap_err(), &["no output \"weights\"", "next"]);
}

on_both! {
    decoding_steps_equal_whole_passes,
    wide_beams_are_exhaustive,
    two_losses_train,
    ragged_inputs_of_their_own,
    batches_of_an_iterator
}
