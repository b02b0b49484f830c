//! Models and layers that several threads share, clones, streams of models that change, and the cache of plans.

mod common;

use common::Draw;
use ndarray::{Array2, Array3, ArrayD, Axis, s};
use std::collections::BTreeMap;
use std::sync::Barrier;
use wgpu_lstm::{
    Dense, Device, Dropout, Evaluate, Fit, Inputs, Loss, Lstm, LstmLayer, Model, Optimiser, Reset, Result, Sequential,
    Stream,
};

#[test]
fn models_layers_and_devices_go_between_threads() {
    fn shared<T: Send + Sync>() {}
    fn cloned<T: Send + Sync + Clone>() {}
    cloned::<Model>();
    cloned::<Device>();
    shared::<LstmLayer>();
    shared::<Stream>();
}

fn data() -> (Array3<f32>, Array2<f32>) {
    let x = Draw::new(1).array3((24, 6, 2));
    let y = Array2::from_shape_fn((24, 1), |(n, _)| x.slice(s![n, .., 0]).sum() / 3.0);
    (x, y)
}

fn model(device: &Device) -> Model {
    let layers = Sequential::new(2).add(Lstm::new(12).layers(2)).add(Dropout::new(0.2)).add(Dense::new(1));
    let mut model = layers.build(device, 3).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(0.02)).unwrap();
    model
}

fn fit(model: &mut Model, epochs: usize) {
    let (x, y) = data();
    model.fit(x.view(), y.view(), Fit::new().epochs(epochs).batch_size(8).seed(5)).unwrap();
}

/// Results of `count` threads, all begun at once.
fn at_once<T: Send>(count: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    let start = Barrier::new(count);
    std::thread::scope(|scope| {
        let run = || {
            start.wait();
            work()
        };
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn threads_share_a_model(device: &Device) {
    let (x, y) = data();
    let model = model(device);
    let lengths: Vec<usize> = (0..24).map(|n| 1 + n % 6).collect();
    let look = || -> Result<_> {
        let mut all = Vec::new();
        for _ in 0..3 {
            let stateful = model.evaluate_with(x.view(), y.view(), Evaluate::new().batch_size(8).stateful(true))?;
            all.push((
                model.predict(x.view())?,
                model.predict(Inputs::from(x.slice(s![..5, .., ..])).lengths(&lengths[..5]))?,
                [model.evaluate(x.view(), y.view())?, stateful],
            ));
        }
        Ok(all)
    };
    let alone = look().unwrap();
    for together in at_once(4, look) {
        assert_eq!(together.unwrap(), alone);
    }
}

fn threads_share_a_layer(device: &Device) {
    let layer = Lstm::new(7).layers(2).build(device, 3, 0).unwrap();
    let (x, dy) = (Draw::new(1).array3((4, 5, 3)), Draw::new(2).array3((4, 5, 7)));
    let look = || {
        let gradients = layer.gradients(x.view(), None, dy.view(), None).unwrap();
        (layer.forward(x.view(), None).unwrap(), gradients.x, gradients.parameters)
    };
    let alone = look();
    for together in at_once(4, look) {
        assert_eq!(together, alone);
    }
}

/// A forward pass has all parameters from before a change or all from after it.
fn a_layer_is_given_parameters_between_runs(device: &Device) {
    let layer = Lstm::new(6).layers(2).build(device, 3, 0).unwrap();
    let x = Draw::new(1).array3((2, 5, 3));
    let before = layer.parameters().unwrap();
    let after: BTreeMap<String, ArrayD<f32>> =
        before.iter().map(|(name, array)| (name.clone(), array.mapv(|value| 0.5 - value))).collect();
    let out = || layer.forward(x.view(), None).unwrap().output;
    let mut known = Vec::new();
    for parameters in [&after, &before] {
        layer.set_parameters(parameters.clone()).unwrap();
        known.push(out());
    }
    assert_ne!(known[0], known[1]);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..20 {
                layer.set_parameters(after.clone()).unwrap();
                layer.set_parameters(before.clone()).unwrap();
            }
        });
        while !writer.is_finished() {
            assert!(known.contains(&out()), "a mixture");
        }
    });
}

fn clones_train_on_alone(device: &Device) {
    let (x, y) = data();
    let mut first = model(device);
    fit(&mut first, 2);
    let before = (first.parameters().unwrap(), first.predict(x.view()).unwrap());
    let mut second = first.clone();
    assert_eq!(second.predict(x.view()).unwrap(), before.1);
    fit(&mut first, 3);
    let after = first.parameters().unwrap();
    assert_ne!(after, before.0);
    // The clone has seen nothing, neither of weights nor of the optimiser's memory and steps: it takes the same way.
    assert_eq!((second.parameters().unwrap(), second.predict(x.view()).unwrap()), before);
    fit(&mut second, 3);
    assert_eq!(second.parameters().unwrap(), after);
    // The other way round, with a clone of a clone that outlives both.
    let third = second.clone();
    fit(&mut second, 1);
    let loss = second.evaluate(x.view(), y.view()).unwrap();
    drop(second);
    assert_eq!((third.parameters().unwrap(), first.parameters().unwrap()), (after.clone(), after));
    fit(&mut first, 1);
    assert_eq!(first.evaluate(x.view(), y.view()).unwrap(), loss);
}

fn clones_are_given_other_weights_alone(device: &Device) {
    let x = data().0;
    let mut first = model(device);
    let (before, prediction) = (first.parameters().unwrap(), first.predict(x.view()).unwrap());
    let second = first.clone();
    let changed: BTreeMap<String, ArrayD<f32>> =
        before.iter().map(|(name, array)| (name.clone(), array.mapv(|value| value + 0.25))).collect();
    let mut wrong = changed.clone();
    wrong.remove("dense.bias");
    assert!(first.set_parameters(wrong).is_err());
    assert_eq!(first.predict(x.view()).unwrap(), prediction, "nothing is changed");
    first.set_parameters(changed.clone()).unwrap();
    assert_eq!(first.parameters().unwrap(), changed);
    assert_ne!(first.predict(x.view()).unwrap(), prediction);
    assert_eq!((second.parameters().unwrap(), second.predict(x.view()).unwrap()), (before, prediction));
}

/// States that batches hand on belong to each clone alone, too.
fn clones_carry_states_alone(device: &Device) {
    let (x, y) = data();
    let fit = |model: &mut Model| {
        let fit = Fit::new().batch_size(8).shuffle(false).stateful(Reset::ByHand);
        model.fit(x.view(), y.view(), fit).unwrap();
        model.parameters().unwrap()
    };
    let mut plain = model(device);
    let expected = [fit(&mut plain), fit(&mut plain)];
    plain.reset_states().unwrap();
    let reset = fit(&mut plain);

    let mut first = model(device);
    assert_eq!(fit(&mut first), expected[0]);
    let mut second = first.clone();
    first.reset_states().unwrap();
    assert_eq!(fit(&mut second), expected[1], "its states are those of before");
    let mut third = second.clone();
    third.reset_states().unwrap();
    assert_eq!(fit(&mut third), reset);
}

/// A stream sees what becomes of its own model, and nothing of clones.
fn streams_see_their_own_model(device: &Device) {
    let x = data().0;
    let piece = x.slice(s![..4, .., ..]);
    let feed = |stream: &mut Stream| {
        stream.reset_all();
        stream.feed(piece).unwrap().index_axis_move(Axis(1), 0).into_dyn()
    };
    let same = |stream: &mut Stream, model: &Model| {
        let (given, expected) = (feed(stream), model.predict(piece).unwrap());
        common::close("stream", &given, &expected, 1e-6, 0.0);
        given
    };
    let mut first = model(device);
    let mut stream = first.stream(4).unwrap();
    let start = same(&mut stream, &first);
    fit(&mut first, 1);
    assert_ne!(same(&mut stream, &first), start, "trained, without a clone");
    let mut second = first.clone();
    let mut other = second.stream(4).unwrap();
    let before = same(&mut stream, &first);
    fit(&mut first, 1);
    assert_ne!(same(&mut stream, &first), before, "trained while a clone had the same tensors");
    assert_eq!(same(&mut other, &second), before, "of the clone");
    fit(&mut second, 1);
    assert_eq!(feed(&mut other), feed(&mut stream), "both models have done the same");
    drop(second);
    fit(&mut first, 1);
    assert_ne!(feed(&mut other), feed(&mut stream));
}

fn plans_that_are_not_kept_are_made_again(device: &Device) {
    let x = data().0;
    let (mut none, mut some) = (model(device), model(device));
    none.plan_cache(0);
    for _ in 0..2 {
        for steps in 1..=6 {
            let x = x.slice(s![.., ..steps, ..]);
            assert_eq!(none.predict(x).unwrap(), some.predict(x).unwrap());
        }
    }
    fit(&mut none, 1);
    fit(&mut some, 1);
    assert_eq!(none.parameters().unwrap(), some.parameters().unwrap());
}

on_both!(
    threads_share_a_model,
    threads_share_a_layer,
    a_layer_is_given_parameters_between_runs,
    clones_train_on_alone,
    clones_are_given_other_weights_alone,
    clones_carry_states_alone,
    streams_see_their_own_model,
    plans_that_are_not_kept_are_made_again,
);
