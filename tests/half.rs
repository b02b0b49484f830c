//! Recurrent weights in f16: the same numbers as in f32 where the weights have an f16 of their own, and as close as said
//! where they do not.

mod common;

use common::{Draw, close};
use half::f16;
use wgpu_lstm::{
    Capabilities, Cell, Dense, Device, Fit, GpuOptions, Loss, Lstm, LstmLayer, LstmState, Optimiser, Sequential,
    Software, StepWeights, Strategy,
};

/// Both executors by every strategy.
fn on_cpu() -> [Device; 2] {
    let base = Device::cpu().capabilities().clone();
    Strategy::ALL.map(|strategy| {
        Device::cpu_with(Capabilities { step_weights: StepWeights::F16, strategy: Some(strategy), ..base.clone() })
    })
}

fn on_adapters() -> [Device; 2] {
    let options = GpuOptions {
        step_weights: StepWeights::F16,
        software: Software::Fallback,
        schedule_as: common::schedule_as(),
        ..GpuOptions::default()
    };
    Strategy::ALL.map(|strategy| Device::gpu(&GpuOptions { strategy: Some(strategy), ..options.clone() }).unwrap())
}

/// The same weights on two devices, the recurrent ones as `round` makes them.
fn pair(lstm: &Lstm, device: &Device, round: impl Fn(f32) -> f32) -> [LstmLayer; 2] {
    let layer = lstm.clone().build(&Device::cpu(), 6, 3).unwrap();
    let mut parameters = layer.parameters().unwrap();
    for (name, values) in &mut parameters {
        if name.starts_with("weight_hh") {
            values.mapv_inplace(&round);
        }
    }
    [device, &Device::cpu()].map(|device| {
        let layer = lstm.clone().build(device, 6, 0).unwrap();
        layer.set_parameters(parameters.clone()).unwrap();
        layer
    })
}

/// Output and gradients on both, and by how much they differ, relative to the largest.
fn differences([one, other]: &[LstmLayer; 2], lstm: &Lstm, (batch, steps): (usize, usize)) -> [f32; 2] {
    let mut draw = Draw::new(5);
    let x = draw.array3((batch, steps, 6));
    let initial = LstmState::zeros(lstm, batch).unwrap();
    let d_output = draw.array3((batch, steps, lstm.output()));
    let outputs = [one, other].map(|layer| layer.forward(x.view(), Some(&initial)).unwrap().output);
    let gradients = [one, other].map(|layer| layer.gradients(x.view(), None, d_output.view(), None).unwrap());
    let most = |a: &[f32]| a.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let apart = |a: &[f32], b: &[f32]| {
        let difference: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        most(&difference) / most(b)
    };
    let mut worst = apart(gradients[0].x.as_slice().unwrap(), gradients[1].x.as_slice().unwrap());
    for (name, gradient) in &gradients[0].parameters {
        worst = worst.max(apart(gradient.as_slice().unwrap(), gradients[1].parameters[name].as_slice().unwrap()));
    }
    let [a, b] = &outputs;
    [(a - b).iter().fold(0.0, |most: f32, value| most.max(value.abs())), worst]
}

fn weights_that_f16_holds_give_the_numbers_of_f32(devices: [Device; 2]) {
    for device in devices {
        for (hidden, layers, cell) in [(12, 2, Cell::Standard), (7, 1, Cell::Article)] {
            let lstm = Lstm::new(hidden).layers(layers).bidirectional(true).cell(cell);
            let layers = pair(&lstm, &device, |value| f16::from_f32(value).to_f32());
            for sizes in [(9, 5), (1, 3), (5, 1)] {
                let [output, gradient] = differences(&layers, &lstm, sizes);
                assert!(output <= 1e-5 && gradient <= 1e-4, "{device} H = {hidden} {sizes:?}: {output}, {gradient}");
            }
        }
    }
}

/// The error that `StepWeights::F16` documents, at PyTorch's first weights and at weights up to 1.
fn other_weights_are_as_close_as_said(devices: [Device; 2]) {
    let mut worst = [0.0f32; 2];
    for device in devices {
        for (hidden, scale) in [(16, 1.0), (64, 1.0), (24, 4.0)] {
            let lstm = Lstm::new(hidden);
            let layers = pair(&lstm, &device, |value| value * scale);
            let found = differences(&layers, &lstm, (8, 40));
            assert!(found[0] > 1e-7, "rounding shows");
            for (worst, found) in worst.iter_mut().zip(found) {
                *worst = worst.max(found);
            }
        }
    }
    assert!(worst[0] <= 1e-3 && worst[1] <= 3e-3, "{worst:?}");
    println!("outputs within {:e}, gradients within {:e} of the largest", worst[0], worst[1]);
}

/// All 65,536 values, through the kernel on the device.
fn rounding_is_that_of_ieee(devices: [Device; 2]) {
    use wgpu_lstm::kernel;
    use wgpu_lstm::plan::Role;
    use wgpu_lstm::schedule::Builder;
    let values: Vec<f32> = (0..=u16::MAX).map(|bits| f16::from_bits(bits).to_f32()).filter(|v| v.is_finite()).collect();
    for device in devices {
        let mut builder = Builder::new("half", device.capabilities().clone());
        let n = values.len() as u64 / 2;
        let (src, dst) =
            (builder.buffer("src", 2 * n, Role::Input).unwrap(), builder.buffer("dst", n, Role::Output).unwrap());
        builder.push(&kernel::HALF, None, &kernel::NoConstants, &kernel::Half { n: n as u32 }, &[src, dst]);
        let executable = device.compile(builder.finish().unwrap()).unwrap();
        executable.write((src, 0), &values).unwrap();
        executable.run().unwrap();
        let words = executable.read((dst, 0), n).unwrap();
        let back: Vec<f32> = (words.iter().flat_map(|word| [word.to_bits() as u16, (word.to_bits() >> 16) as u16]))
            .map(|bits| f16::from_bits(bits).to_f32())
            .collect();
        close(&format!("{device}"), &back, &values[..back.len()], 0.0, 0.0);
    }
}

/// A step of several batches converts the weights once, and adds up the gradients of all.
fn steps_of_several_batches_are_those_of_one(devices: [Device; 2]) {
    let (x, y) = (Draw::new(7).array3((8, 5, 6)), Draw::new(8).array3((8, 5, 2)));
    for device in devices {
        let [large, small] = [(4, 1), (2, 2)].map(|(batch, count)| {
            let layers = Sequential::new(6).add(Lstm::new(12).return_sequences(true)).add(Dense::new(2));
            let mut model = layers.build(&device, 3).unwrap();
            model.compile(Loss::MeanSquaredError, Optimiser::sgd(0.1, 0.0)).unwrap();
            let fit = Fit::new().epochs(3).batch_size(batch).shuffle(false);
            let history = model.fit(x.view(), y.view(), if count > 1 { fit.accumulate(count) } else { fit }).unwrap();
            (history.loss, model.parameters().unwrap())
        });
        // Sums in another order
        close(&format!("{device}: losses"), &small.0, &large.0, 1e-5, 1e-5);
        for (name, values) in &small.1 {
            close(&format!("{device}: {name}"), values, &large.1[name], 1e-5, 1e-5);
        }
    }
}

macro_rules! tests {
    ($($name:ident),*) => {
        mod cpu { $(#[test] fn $name() { super::$name(super::on_cpu()); })* }
        mod on_adapter { $(#[test] fn $name() { super::$name(super::on_adapters()); })* }
    };
}

tests!(
    weights_that_f16_holds_give_the_numbers_of_f32,
    other_weights_are_as_close_as_said,
    rounding_is_that_of_ieee,
    steps_of_several_batches_are_those_of_one
);
