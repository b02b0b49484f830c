//! The same seed gives the same bits; the GPU and the CPU agree; a run can change devices in the middle.

mod common;

use common::{Draw, adapter, close};
use ndarray::{Array2, Array3};
use wgpu_lstm::Machine;
use wgpu_lstm::cpu::Threads;
use wgpu_lstm::network::{Batch, Node, Purpose, gradients, network};
use wgpu_lstm::plan::{Buffer, BufferId, Role};
use wgpu_lstm::{Clip, Dense, Device, Fit, Loss, Lstm, Model, Optimiser, Sequential, Update};

fn trained(device: &Device) -> (Model, Vec<f32>) {
    let mut draw = Draw::new(9);
    let x = draw.array3((37, 9, 3));
    let y = Array2::from_shape_simple_fn((37, 2), || draw.next());
    let layers = Sequential::new(3).add(Lstm::new(11).layers(2).bidirectional(true)).add(Dense::new(2));
    let mut model = layers.build(device, 4).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(5e-3)).unwrap();
    model.clip_norm(Some(0.5)).unwrap();
    // 37 sequences in batches of 8: the last batch of an epoch holds 5
    let fit = Fit::new().epochs(5).batch_size(8).seed(2).validation_split(0.1);
    let history = model.fit(x.view(), y.view(), fit).unwrap();
    (model, [history.loss, history.validation_loss].concat())
}

fn bits(model: &Model) -> Vec<u32> {
    model
        .parameters()
        .unwrap()
        .values()
        .flat_map(|array| array.iter().map(|value| value.to_bits()).collect::<Vec<_>>())
        .collect()
}

fn two_training_runs_give_the_same_bits(device: &Device) {
    let ((first, losses), (second, again)) = (trained(device), trained(device));
    assert_eq!(bits(&first), bits(&second));
    assert_eq!(losses, again);
}

fn another_seed_gives_other_weights(device: &Device) {
    let build = |seed| Sequential::new(2).add(Lstm::new(3)).build(device, seed).unwrap();
    assert_eq!(bits(&build(1)), bits(&build(1)));
    assert_ne!(bits(&build(1)), bits(&build(2)));
}

on_both!(two_training_runs_give_the_same_bits, another_seed_gives_other_weights, rows_are_independent);

/// Threads share out rows, or units and then meet once a step, or both; the bits are those of one thread.
#[test]
fn the_number_of_threads_changes_no_bit() {
    for (steps, batch, hidden, bidirectional) in [
        (5, 1, 150, false),
        (5, 2, 96, true),
        (4, 1, 200, true),
        (6, 33, 61, false),
        (4, 20, 48, true),
        // Twelve threads are groups here, whose rows of both directions lie in one group for B = 5.
        (5, 8, 128, false),
        (5, 5, 128, true),
    ] {
        let config = Lstm::new(hidden).bidirectional(bidirectional).return_sequences(true);
        let layer = Node::new("lstm", 40, config);
        let capabilities = Device::cpu().capabilities().clone();
        let plan = std::sync::Arc::new(gradients(&layer, Batch::new(batch, steps), &capabilities).unwrap().plan);
        let results = |threads| {
            let machine = Machine::<f32>::new(plan.clone(), |_| None).unwrap().with_threads(Threads::Exactly(threads));
            let mut draw = Draw::new(9);
            for (index, buffer) in plan.buffers.iter().enumerate() {
                if matches!(buffer.role, Role::Input | Role::Weight) {
                    machine.write((BufferId(index), 0), &draw.vec(buffer.len as usize));
                }
            }
            machine.run(0..plan.commands.len()).unwrap();
            let read = |(index, buffer): (usize, &Buffer)| machine.read((BufferId(index), 0), buffer.len);
            plan.buffers.iter().enumerate().map(read).collect::<Vec<_>>()
        };
        // Several times: threads that do not wait for each other go wrong now and then.
        for _ in 0..5 {
            let one = results(1);
            for threads in [2, 3, 5, 12] {
                for (buffer, (one, more)) in plan.buffers.iter().zip(one.iter().zip(&results(threads))) {
                    assert_eq!(one, more, "{} at B = {batch}, H = {hidden} on {threads} threads", buffer.name);
                }
            }
        }
    }
}

mod on_adapter_and_cpu {
    use super::*;

    /// 25 steps of training in f32: sums differ in order, so 1e-4.
    #[test]
    fn training_agrees() {
        let ((cpu, cpu_losses), (gpu, gpu_losses)) = (trained(&Device::cpu()), trained(&adapter()));
        close("losses", &gpu_losses, &cpu_losses, 1e-5, 1e-4);
        for ((name, g), c) in gpu.parameters().unwrap().iter().zip(cpu.parameters().unwrap().values()) {
            close(name, g, c, 1e-4, 1e-4);
        }
    }

    /// A training step runs on the CPU up to command K and on the adapter from there, with all buffers carried over:
    /// wherever the change is, the result is the same. This is how a wrong kernel is found in minutes.
    #[test]
    fn a_plan_can_change_devices_at_any_command() {
        let layers = [Node::new("lstm", 3, Lstm::new(5).bidirectional(true)), Node::new("dense", 10, Dense::new(2))];
        let update = Update::new(Optimiser::adam(0.01)).clip(Clip::Norm(0.1));
        let purpose = Purpose::Train { loss: &Loss::MeanAbsoluteError.into(), update: &update, weighted: false };
        let network = network(&layers, Batch::new(3, 4), purpose, adapter().capabilities()).unwrap();
        let plan = &network.plan;
        let fresh = |device: &Device| {
            let executable = device.compile(plan.clone()).unwrap();
            let mut draw = Draw::new(5);
            for (index, buffer) in plan.buffers.iter().enumerate() {
                let values: Vec<f32> = match buffer.role {
                    Role::Input | Role::Weight => draw.vec(buffer.len as usize),
                    _ => vec![0.0; buffer.len as usize],
                };
                executable
                    .write((BufferId(index), 0), &values.iter().map(|value| value.abs()).collect::<Vec<_>>())
                    .unwrap();
            }
            executable
        };
        let count = plan.commands.len();
        let whole = fresh(&Device::cpu());
        whole.run().unwrap();
        for change in 0..=count {
            let (cpu, gpu) = (fresh(&Device::cpu()), fresh(&adapter()));
            cpu.run_range(0..change).unwrap();
            for (index, buffer) in plan.buffers.iter().enumerate() {
                let id = BufferId(index);
                gpu.write((id, 0), &cpu.read((id, 0), buffer.len).unwrap()).unwrap();
            }
            gpu.run_range(change..count).unwrap();
            for (index, buffer) in plan.buffers.iter().enumerate().filter(|(_, buffer)| buffer.role == Role::Weight) {
                let id = BufferId(index);
                let (given, expected) =
                    (gpu.read((id, 0), buffer.len).unwrap(), whole.read((id, 0), buffer.len).unwrap());
                close(&format!("{} after a change at {change}", buffer.name), &given, &expected, 1e-5, 1e-5);
            }
        }
    }
}

/// predict does not depend on what else is in the batch.
fn rows_are_independent(device: &Device) {
    let model = Sequential::new(2).add(Lstm::new(7).layers(2)).add(Dense::new(3)).build(device, 8).unwrap();
    let x: Array3<f32> = Draw::new(6).array3((300, 5, 2)); // more than one batch of predict
    let all = model.predict(x.view()).unwrap();
    for row in [0, 17, 255, 256, 299] {
        let alone = model.predict(x.slice(ndarray::s![row..row + 1, .., ..])).unwrap();
        close(&format!("row {row}"), &alone, all.index_axis(ndarray::Axis(0), row).iter(), 1e-6, 1e-6);
    }
}

/// The CPU keeps weights packed; what it keeps follows every change, and packing changes no bit.
#[test]
fn packed_weights_follow_changes() {
    let lstm = || Lstm::new(20).layers(2).bidirectional(true).build(&Device::cpu(), 5, 1).unwrap();
    let other = Lstm::new(20).layers(2).bidirectional(true).build(&Device::cpu(), 5, 2).unwrap();
    for (batch, steps) in [(1, 1), (1, 40), (9, 3)] {
        let x = Array3::from_shape_fn((batch, steps, 5), |(b, t, i)| (b + 2 * t + 3 * i) as f32 * 0.05 - 0.4);
        let layer = lstm();
        let first = layer.forward(x.view(), None).unwrap();
        for _ in 0..20 {
            assert_eq!(layer.forward(x.view(), None).unwrap(), first, "B = {batch}, T = {steps}");
        }
        layer.set_parameters(other.parameters().unwrap()).unwrap();
        assert_eq!(layer.forward(x.view(), None).unwrap(), other.forward(x.view(), None).unwrap());
        assert_ne!(layer.forward(x.view(), None).unwrap(), first);
    }

    // training writes to the weights on the device
    let (x, y) = (Array3::from_elem((8, 20, 3), 0.3), Array3::from_elem((8, 20, 4), 0.5));
    let mut model = Sequential::new(3).add(Lstm::new(4).return_sequences(true)).build(&Device::cpu(), 1).unwrap();
    model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-2)).unwrap();
    let before = model.predict(x.view()).unwrap();
    model.fit(x.view(), y.view(), Fit::new().epochs(3).batch_size(4)).unwrap();
    let after = model.predict(x.view()).unwrap();
    assert_ne!(before, after);
    let path = std::env::temp_dir().join(format!("wgpu-lstm-packed-{}.safetensors", std::process::id()));
    model.save(&path).unwrap();
    let loaded = Model::load(&path, &Device::cpu()).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(loaded.predict(x.view()).unwrap(), after);
}
