//! The place of a fit's data changes no bit: a fit of several epochs keeps them on a GPU from its second step on, one of a single epoch
//! sends every batch.

mod common;

use common::Draw;
use ndarray::{Array2, Array3};
use wgpu_lstm::{
    Add, Dense, Device, Fit, Inputs, Loss, Losses, Lstm, Masking, Model, Network, Optimiser, Sequential, Targets,
};

/// Weights and losses after `epochs` epochs in fits of `each`.
fn trained(
    mut model: Model,
    epochs: usize,
    each: usize,
    fit: impl Fn(&mut Model, usize) -> Vec<f32>,
) -> (Vec<u32>, Vec<u32>) {
    let losses: Vec<f32> = (0..epochs / each).flat_map(|_| fit(&mut model, each)).collect();
    let weights = model.parameters().unwrap();
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    (bits(weights.values().flatten().copied().collect()), bits(losses))
}

fn compiled(model: wgpu_lstm::Result<Model>) -> Model {
    let mut model = model.unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(5e-3)).unwrap();
    model
}

/// Fits of four epochs and of one are the same steps.
fn same_in_one_fit_or_four(make: impl Fn() -> Model, fit: impl Fn(&mut Model, usize) -> Vec<f32>) {
    let once = trained(make(), 4, 4, &fit);
    assert_eq!(once.1.len(), 4);
    assert_eq!(once, trained(make(), 4, 1, &fit));
}

fn plain_batches(device: &Device) {
    let mut draw = Draw::new(3);
    let (x, y) = (draw.array3((11, 6, 3)), Array2::from_shape_simple_fn((11, 2), || draw.next()));
    let make = || compiled(Sequential::new(3).add(Lstm::new(7).layers(2)).add(Dense::new(2)).build(device, 1));
    same_in_one_fit_or_four(make, |model, epochs| {
        // The last batch has three sequences.
        model.fit(x.view(), y.view(), Fit::new().epochs(epochs).batch_size(4).shuffle(false)).unwrap().loss
    });
}

fn windows_and_lengths(device: &Device) {
    let mut draw = Draw::new(4);
    let (x, y): (Array3<f32>, Array3<f32>) = (draw.array3((6, 10, 2)), draw.array3((6, 10, 5)));
    let make = || compiled(Sequential::new(2).add(Lstm::new(5).return_sequences(true)).build(device, 1));
    same_in_one_fit_or_four(make, |model, epochs| {
        let fit = Fit::new().epochs(epochs).batch_size(4).shuffle(false).truncated(4).lengths(vec![10, 3, 7, 1, 9, 10]);
        model.fit(x.view(), y.view(), fit).unwrap().loss
    });
}

fn several_inputs_and_targets(device: &Device) {
    let mut draw = Draw::new(5);
    let (x, z): (Array3<f32>, Array3<f32>) = (draw.array3((6, 4, 2)), draw.array3((6, 4, 3)));
    let (a, b): (Array3<f32>, Array3<f32>) = (draw.array3((6, 4, 3)), draw.array3((6, 4, 3)));
    let make = || {
        let mut net = Network::new();
        let (x, z) = (net.input("x", 2), net.input("z", 3));
        let hidden = net.layer(Lstm::new(3).return_sequences(true)).of(x);
        let sum = net.layer(Add::new(2)).of([hidden, z]);
        let mut model = net.output("a", hidden).output("b", sum).build(device, 1).unwrap();
        let losses = Losses::new().output("a", Loss::MeanSquaredError).output("b", Loss::MeanAbsoluteError);
        model.compile(losses, Optimiser::adam(5e-3)).unwrap();
        model
    };
    same_in_one_fit_or_four(make, |model, epochs| {
        let inputs = Inputs::new().add("x", x.view()).add("z", z.view());
        let targets = Targets::new().add("a", a.view()).add("b", b.view());
        model.fit(inputs, targets, Fit::new().epochs(epochs).batch_size(4).shuffle(false)).unwrap().loss
    });
}

/// Padding by another value than 0 is blanked by the host, so these data are not kept.
fn masked_by_a_value(device: &Device) {
    let mut draw = Draw::new(6);
    let (mut x, y) = (draw.array3((5, 6, 2)), Array2::from_shape_simple_fn((5, 4), || draw.next()));
    x.slice_mut(ndarray::s![2, 3.., ..]).fill(-1.0);
    let make = || compiled(Sequential::new(2).add(Masking::new(-1.0)).add(Lstm::new(4)).build(device, 1));
    same_in_one_fit_or_four(make, |model, epochs| {
        model.fit(x.view(), y.view(), Fit::new().epochs(epochs).batch_size(2).shuffle(false)).unwrap().loss
    });
}

on_both!(plain_batches, windows_and_lengths, several_inputs_and_targets, masked_by_a_value);
