//! Every loss: PyTorch's values and gradients (tests/fixtures/make_training.py), gradients in f64 against central
//! differences, factors of rows, and targets of their own widths in a fit.
//!
//! A loss is planned behind a dense layer that changes nothing. Tolerance 2e-6 relative to the largest gradient: f32
//! rounds the exponentials of logits.

mod common;

use common::{Draw, close, fixture};
use ndarray::{Array1, Array2, Array3};
use wgpu_lstm::Machine;
use wgpu_lstm::network::{Batch, NetworkPlan, Node, PlanOutput, Purpose, network};
use wgpu_lstm::plan::BufferId;
use wgpu_lstm::{Capabilities, Dense, Device, Fit, Loss, Lstm, Optimiser, Sequential};

fn losses() -> Vec<(&'static str, Loss)> {
    vec![
        ("mean_squared_error", Loss::MeanSquaredError),
        ("mean_absolute_error", Loss::MeanAbsoluteError),
        ("huber", Loss::Huber { delta: 0.75 }),
        ("quantile", Loss::Quantile { quantiles: vec![0.1, 0.5, 0.875] }),
        ("binary_cross_entropy", Loss::BinaryCrossEntropy),
        ("softmax_cross_entropy", Loss::SoftmaxCrossEntropy),
        ("sparse_softmax_cross_entropy", Loss::SparseSoftmaxCrossEntropy),
        ("gaussian_nll", Loss::GaussianNll),
    ]
}

/// The loss of a dense layer's output for T steps, B rows.
fn plan(loss: &Loss, (steps, batch, width): (usize, usize, usize), weighted: bool, device: &Device) -> NetworkPlan {
    let layers = [Node::new("dense", width, Dense::new(width))];
    let purpose = Purpose::Evaluate { loss: &loss.clone().into(), weighted };
    network(&layers, Batch::new(batch, steps), purpose, device.capabilities()).unwrap()
}

fn identity(width: usize) -> Vec<f32> {
    Array2::<f32>::eye(width).iter().copied().collect()
}

/// Value and gradient on a device; the weights of rows are final factors.
fn evaluated(
    device: &Device,
    loss: &Loss,
    prediction: &Array3<f32>,
    target: &Array3<f32>,
    weights: Option<&[f32]>,
) -> (f32, Vec<f32>) {
    let width = prediction.dim().2;
    let network = plan(loss, prediction.dim(), weights.is_some(), device);
    let (x, PlanOutput { target: truth, row_weights, .. }) = (network.x().clone(), network.outputs[0].clone());
    let NetworkPlan { plan, loss: out, .. } = network;
    let dense = plan.find("dense.weight").unwrap();
    let executable = device.compile(plan).unwrap();
    executable.write((dense, 0), &identity(width)).unwrap();
    for (sequence, values) in [(&x, prediction), (truth.as_ref().unwrap(), target)] {
        for (k, &chunk) in sequence.chunks.iter().enumerate() {
            let range = sequence.chunk_range(k);
            let values = values.slice(ndarray::s![range.start as usize..range.end as usize, .., ..]);
            executable.write((chunk, 0), values.as_slice().unwrap()).unwrap();
        }
    }
    assert_eq!(row_weights.is_some(), weights.is_some());
    if let (Some(buffer), Some(weights)) = (row_weights, weights) {
        executable.write((buffer, 0), weights).unwrap();
    }
    executable.run().unwrap();
    let value = executable.read((out.unwrap(), 0), 1).unwrap()[0];
    let buffers = executable.plan().buffers.iter().zip(0..);
    let gradient = buffers.filter(|(buffer, _)| buffer.name.starts_with("dprediction"));
    let gradient = gradient.flat_map(|(buffer, k)| executable.read((BufferId(k), 0), buffer.len).unwrap());
    (value, gradient.collect())
}

fn pytorchs_values_and_gradients(device: &Device) {
    let fixture = fixture("training_losses.safetensors");
    for (name, loss) in losses() {
        let [prediction, target] = ["prediction", "target"].map(|part| fixture.array3(&format!("{name}.{part}")));
        let (value, gradient) = evaluated(device, &loss, &prediction, &target, None);
        close(&format!("{name} value"), &[value], &fixture.tensors[&format!("{name}.value")], 0.0, 2e-6);
        let expected = &fixture.tensors[&format!("{name}.gradient")];
        let largest = expected.iter().fold(0.0f32, |most, g| most.max(g.abs()));
        close(&format!("{name} gradient"), &gradient, expected, 2e-6 * largest, 2e-6);
    }
}

/// With factors of 1 / terms the loss is the one without; each row's factor is its own.
fn rows_have_factors(device: &Device) {
    let fixture = fixture("training_losses.safetensors");
    for (name, loss) in losses() {
        let [prediction, target] = ["prediction", "target"].map(|part| fixture.array3(&format!("{name}.{part}")));
        let (steps, batch, width) = prediction.dim();
        let terms = match loss {
            Loss::SoftmaxCrossEntropy | Loss::SparseSoftmaxCrossEntropy => 1,
            Loss::GaussianNll => width / 2,
            _ => width,
        } * steps
            * batch;
        let factors: Vec<f32> = (0..steps * batch).map(|row| (row % 3) as f32 / terms as f32).collect();
        let (_, plain) = evaluated(device, &loss, &prediction, &target, None);
        let (value, weighted) = evaluated(device, &loss, &prediction, &target, Some(&factors));
        let expected: Vec<f32> = plain.iter().zip(0..).map(|(g, k)| g * (k / width % 3) as f32).collect();
        close(name, &weighted, &expected, 1e-7, 1e-6);
        // The value is the sum of the rows' own values.
        let of_row = |row: usize| {
            let place = ndarray::s![row / batch..row / batch + 1, row % batch..row % batch + 1, ..];
            let [prediction, target] = [&prediction, &target].map(|array| array.slice(place).to_owned());
            evaluated(device, &loss, &prediction, &target, None).0 * (row % 3) as f32 / (steps * batch) as f32
        };
        let sum: f32 = (0..steps * batch).map(of_row).sum();
        close(name, &[value], &[sum], 1e-5, 1e-5);
    }
}

/// A dense layer with as many outputs as a loss needs, and a target of its width.
fn targets_of_other_widths_are_learnt(device: &Device) {
    let x = Draw::new(3).array3((60, 4, 2));
    let truth = Array2::from_shape_fn((60, 1), |(n, _)| x.slice(ndarray::s![n, .., 0]).sum() / 2.0);
    let class = truth.mapv(|y| (y > 0.0) as u8 as f32);
    for (loss, outputs, y) in [
        (Loss::Huber { delta: 0.5 }, 1, &truth),
        (Loss::Quantile { quantiles: vec![0.1, 0.5, 0.9] }, 3, &truth),
        (Loss::GaussianNll, 2, &truth),
        (Loss::BinaryCrossEntropy, 1, &class),
        (Loss::SparseSoftmaxCrossEntropy, 2, &class),
    ] {
        let mut model = Sequential::new(2).add(Lstm::keras(8)).add(Dense::keras(outputs)).build(device, 1).unwrap();
        model.compile(loss.clone(), Optimiser::adam(0.02)).unwrap();
        let history = model.fit(x.view(), y.view(), Fit::new().epochs(30).validation_split(0.2)).unwrap();
        assert!(history.loss[29] < 0.6 * history.loss[0], "{loss:?}: {:?}", history.loss);
        assert_eq!(model.predict(x.view()).unwrap().shape(), [60, outputs]);
    }
}

/// Weights of 1 change no bit, sequences of weight 0 are as if they were not learnt from, and a weight of 2 is worth two.
fn sequences_have_weights(device: &Device) {
    let (x, mut y) = (Draw::new(5).array3((9, 4, 2)), Draw::new(6).array3((9, 4, 3)));
    let trained = |y: &Array3<f32>, rate: f64, fit: Fit| {
        let layers = Sequential::new(2).add(Lstm::new(4).return_sequences(true)).add(Dense::new(3));
        let mut model = layers.build(device, 1).unwrap();
        model.compile(Loss::MeanSquaredError, Optimiser::sgd(rate, 0.5)).unwrap();
        let history = model.fit(x.view(), y.view(), fit.epochs(3).batch_size(4)).unwrap();
        (model.parameters().unwrap(), history.loss)
    };
    let plain = trained(&y, 0.2, Fit::new());
    assert_eq!(trained(&y, 0.2, Fit::new().sample_weights(Array1::ones(9))), plain);
    assert_eq!(trained(&y, 0.2, Fit::new().step_weights(Array2::ones((9, 4)))), plain);
    let double = trained(&y, 0.1, Fit::new().sample_weights(Array1::from_elem(9, 2.0)));
    for (name, values) in &plain.0 {
        close(name, &double.0[name], values, 1e-6, 1e-6);
    }
    let steps = Array2::from_shape_fn((9, 4), |(n, t)| ((n + t) % 3) as f32);
    let one = trained(&y, 0.2, Fit::new().step_weights(steps.clone()));
    for ((n, t), _) in steps.indexed_iter().filter(|(_, weight)| **weight == 0.0) {
        y.slice_mut(ndarray::s![n, t, ..]).fill(77.0);
    }
    assert_eq!(trained(&y, 0.2, Fit::new().step_weights(steps)), one);
    assert_ne!(one, plain);
}

on_both!(pytorchs_values_and_gradients, rows_have_factors, targets_of_other_widths_are_learnt, sequences_have_weights);

/// Time split into chunks: the same values and gradients, by the same factors.
#[test]
fn chunks_of_time_change_nothing() {
    let fixture = fixture("training_losses.safetensors");
    let small = Device::cpu_with(Capabilities { max_binding_bytes: 200, ..Device::cpu().capabilities().clone() });
    let mut split = 0;
    for (name, loss) in losses() {
        let [prediction, target] = ["prediction", "target"].map(|part| fixture.array3(&format!("{name}.{part}")));
        split += (plan(&loss, prediction.dim(), true, &small).x().chunks.len() > 1) as usize;
        let factors: Vec<f32> = (0..12).map(|row| row as f32).collect();
        let [whole, parts] =
            [&Device::cpu(), &small].map(|device| evaluated(device, &loss, &prediction, &target, Some(&factors)));
        assert_eq!(whole, parts, "{name}");
    }
    assert!(split >= 4, "{split} were split");
}

/// The plan in f64: every gradient against the difference of two values.
#[test]
fn gradients_are_those_of_the_value() {
    let fixture = fixture("training_losses.safetensors");
    let wide = |array: &[f32]| array.iter().map(|&value| value as f64).collect::<Vec<_>>();
    for (name, loss) in losses() {
        let [prediction, target] = ["prediction", "target"].map(|part| fixture.array3(&format!("{name}.{part}")));
        let network = plan(&loss, prediction.dim(), false, &Device::cpu());
        let (x, truth) = (network.x().clone(), network.target().cloned());
        let NetworkPlan { plan, loss: out, .. } = network;
        let dense = plan.find("dense.weight").unwrap();
        let gradient = plan.find("dprediction").unwrap();
        let commands = plan.commands.len();
        let machine = Machine::<f64>::new(plan.into(), |_| None).unwrap();
        machine.write((dense, 0), &wide(&identity(prediction.dim().2)));
        machine.write((truth.unwrap().chunks[0], 0), &wide(target.as_slice().unwrap()));
        let mut values = wide(prediction.as_slice().unwrap());
        let value = |values: &[f64]| {
            machine.write((x.chunks[0], 0), values);
            machine.run(0..commands).unwrap();
            machine.read((out.unwrap(), 0), 1)[0]
        };
        let size = value(&values).abs();
        let given = machine.read((gradient, 0), values.len() as u64);
        for k in 0..values.len() {
            let here = values[k];
            // Below the least variance the gradient is PyTorch's, not the value's.
            if loss == Loss::GaussianNll && here < -13.8 {
                continue;
            }
            values[k] = here + 1e-6;
            let above = value(&values);
            values[k] = here - 1e-6;
            let difference = (above - value(&values)) / 2e-6;
            values[k] = here;
            // A difference of two values loses their last digits: 1e-16 of them over 2e-6.
            let close = (given[k] - difference).abs() <= 1e-9 * (1.0 + size) + 1e-6 * difference.abs();
            assert!(close, "{name} element {k} ({here}): {}, central difference {difference}", given[k]);
        }
    }
}
