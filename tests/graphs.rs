//! Random networks of small nodes: several inputs and outputs, branches, states handed from node to node, shared weights, sequences of
//! different lengths. A case follows from its seed alone, so a failure is repeated by the line that it prints:
//!
//! ```text
//! WGPU_LSTM_CASE=1234 cargo test --test graphs on_cpu
//! ```

mod common;

use common::combination::seeds;
use common::differences::Losses;
use common::graph_case::Case;
use common::graph_oracle::GraphValues;
use common::long;
use common::stacks::unused;
use ndarray::{ArrayD, Axis};
use std::collections::BTreeMap;
use wgpu_lstm::network::{Batch, Purpose, network};
use wgpu_lstm::plan::{BufferId, Role};
use wgpu_lstm::real::Real;
use wgpu_lstm::{Capabilities, Device, Optimiser, Update};

/// Cases of a run on the CPU.
const ON_CPU: u32 = 200;

/// Elements of each parameter whose gradients are held against differences.
const SAMPLE: usize = 4;

/// Gradients of the whole loss in f64, in the plan that trains, against central differences of its loss.
fn gradients(seed: u64) {
    let mut case = Case::new(seed);
    // Time is split in every third case.
    let limit = if case.draw.below(3) == 0 { 700 } else { 1 << 27 };
    let what = format!("WGPU_LSTM_CASE={seed}: {}\nbindings of {limit} bytes", case.describe());
    let losses = case.losses();
    let update = Update::new(Optimiser::sgd(0.1, 0.0));
    let purpose = Purpose::Train { loss: &losses, update: &update, weighted: false };
    let steps = case.axes[..case.inputs.len()].iter().map(|axis| axis.steps).collect();
    let batch = Batch::of(case.batch, steps).ragged(case.ragged);
    let planned = |max_binding_bytes| {
        let capabilities = Capabilities { max_binding_bytes, ..Capabilities::default() };
        network(&case.graph(), batch.clone(), purpose, &capabilities)
    };
    let planned = match planned(limit) {
        // A step alone is more than the small device can bind.
        Err(wgpu_lstm::Error::TooLarge { .. }) => planned(1 << 27),
        other => other,
    };
    let planned = planned.unwrap_or_else(|error| panic!("{what}: {error}"));
    let trained = Losses::new(planned.plan, planned.loss.unwrap());
    let (machine, plan) = (&trained.machine, &trained.plan);
    let indices: Vec<BufferId> = (case.inputs.iter().zip(&planned.inputs))
        .filter(|(input, _)| input.indices)
        .flat_map(|(_, x)| x.chunks.clone())
        .collect();
    let mut weights = Vec::new();
    for (k, buffer) in plan.buffers.iter().enumerate() {
        let id = BufferId(k);
        let mut values: Vec<f64> = (0..buffer.len).map(|_| 0.8 * f64::from(case.draw.next())).collect();
        match buffer.role {
            Role::Input if indices.contains(&id) => values.iter_mut().for_each(|v| *v = (v.abs() * 6.0).floor()),
            Role::Input => {}
            Role::Weight => {
                let node =
                    buffer.name.split('.').next().and_then(|name| name.strip_prefix("node")?.parse::<usize>().ok());
                let layer = &case.layers[node.unwrap()];
                let columns = values.iter_mut().enumerate().filter(|(at, _)| unused(layer, &buffer.name, *at));
                columns.for_each(|(_, value)| *value = 0.0);
                weights.push((id, layer));
            }
            _ => continue,
        }
        machine.write((id, 0), &values);
    }
    for &(axis, id) in &planned.words {
        let lengths = case.axes[axis].lengths.iter().map(|&length| length as u32);
        let words: Vec<f64> = [7, 1].into_iter().chain(lengths).map(f64::of_word).collect();
        machine.write((id, 0), &words[..plan.buffers[id.0].len as usize]);
    }
    let size = trained.run();
    for (id, layer) in weights {
        // Without one, it is a bias that is not there.
        let Some(given) = trained.gradient(id) else { continue };
        let name = &plan.buffers[id.0].name;
        let used: Vec<usize> = (0..given.len()).filter(|&at| !unused(layer, name, at)).collect();
        let sample: Vec<usize> = (0..SAMPLE).map(|_| used[case.draw.below(used.len())]).collect();
        // 1e-9 of the loss: the rounding of a difference
        trained.hold(&what, id, &given, sample.into_iter(), 1e-9 * (1.0 + size));
    }
}

/// Cases of a run on an adapter, whose time goes into the compilation of shaders.
const ON_ADAPTER: u32 = 40;

/// f32 throughout, sums of some dozens of terms through up to a dozen of nodes, relative to 1 and the largest output.
const TOLERANCE: f64 = 3e-5;

/// Outputs and loss by the public way against the naive oracle.
fn forward(device: &Device, seed: u64) {
    let mut case = Case::new(seed);
    let what = format!("WGPU_LSTM_CASE={seed}: {}", case.describe());
    let own = match device.adapter() {
        // Time is split in every third case.
        None if case.draw.below(3) == 0 => {
            Device::cpu_with(Capabilities { max_binding_bytes: 700, ..device.capabilities().clone() })
        }
        _ => device.clone(),
    };
    let run = |device: &Device, case: &mut Case| {
        let mut model = case.network().build(device, seed)?;
        case.draw_parameters(&mut model);
        let inputs = case.draw_inputs();
        let outputs = model.outputs(case.named(&inputs))?;
        let targets = case.draw_targets(&outputs);
        model.compile(case.losses(), Optimiser::sgd(0.1, 0.0))?;
        let loss = model.evaluate(case.named(&inputs), case.named_targets(&targets))?;
        Ok((case.rows(&inputs), outputs, targets, loss))
    };
    let ran = match run(&own, &mut case) {
        Err(wgpu_lstm::Error::TooLarge { .. }) => run(device, &mut case),
        other => other,
    };
    let (rows, outputs, targets, loss) = ran.unwrap_or_else(|error| panic!("{what}: {error}"));
    let values = case.oracle.forward(&rows);
    for (name, tensor) in &case.outputs {
        for (row, given) in outputs[name].outer_iter().enumerate() {
            let expected = values.row(*tensor, row).concat();
            let largest = expected.iter().fold(0.0, |largest, value| f64::max(largest, value.abs()));
            for (at, (&given, expected)) in given.iter().zip(&expected).enumerate() {
                assert!(
                    (f64::from(given) - expected).abs() <= TOLERANCE * (1.0 + largest),
                    "{what}: output {name}, row {row}, element {at} is {given}, expected {expected}"
                );
            }
        }
    }
    let expected = squared_errors(&case, &values, &targets);
    assert!(
        (f64::from(loss) - expected).abs() <= 3.0 * TOLERANCE * (1.0 + expected),
        "{what}: the loss is {loss}, expected {expected}"
    );
}

/// The weighted sum of the outputs' mean squared errors, over the steps that there are.
fn squared_errors(case: &Case, values: &GraphValues, targets: &BTreeMap<String, ArrayD<f32>>) -> f64 {
    let of_output = |((name, tensor), &weight): (&(String, _), &f32)| {
        let (mut sum, mut count) = (0.0, 0);
        for (row, target) in targets[name].axis_iter(Axis(0)).enumerate() {
            let y = values.row(*tensor, row).concat();
            count += y.len();
            sum += y.iter().zip(target).map(|(y, &target)| (y - f64::from(target)).powi(2)).sum::<f64>();
        }
        f64::from(weight) * sum / count as f64
    };
    case.outputs.iter().zip(&case.weights).map(of_output).sum()
}

/// So many cases of random seeds, or the one that is asked for.
fn cases(count: u32, check: impl Fn(u64)) {
    if let Ok(seed) = std::env::var("WGPU_LSTM_CASE") {
        return check(seed.parse().expect("WGPU_LSTM_CASE is a seed"));
    }
    seeds(if long() { 20 * count } else { count }, check);
}

#[test]
fn random_networks_have_everything() {
    let (mut kinds, mut shared, mut states, mut outputs, mut inputs) = (BTreeMap::new(), 0, 0, 0, 0);
    seeds(ON_CPU, |seed| {
        let case = Case::new(seed);
        for (node, layer) in case.oracle.nodes.iter().zip(&case.layers) {
            *kinds.entry(layer.kind()).or_insert(0) += 1;
            shared += node.shares.is_some() as usize;
            states += !node.initial.is_empty() as usize;
        }
        outputs += (case.outputs.len() > 1) as usize;
        inputs += (case.inputs.len() > 1) as usize;
    });
    let all = [
        "activation",
        "add",
        "attention",
        "attention_pool",
        "average",
        "batch_norm",
        "concat",
        "conv1d",
        "dense",
        "embedding",
        "gru",
        "layer_norm",
        "lstm",
        "maximum",
        "multiply",
        "pool",
        "repeat",
        "window_pool",
        "zero_pad",
    ];
    let few: Vec<_> = all.iter().filter(|kind| kinds.get(*kind).is_none_or(|&count| count < 5)).collect();
    assert!(few.is_empty(), "{few:?} of {kinds:?}");
    assert!([shared, states, outputs, inputs].into_iter().all(|count| count > 20));
}

#[test]
fn gradients_of_random_networks_are_differences_of_their_loss() {
    cases(ON_CPU, gradients);
}

mod on_cpu {
    #[test]
    fn random_networks_give_what_the_oracle_gives() {
        super::cases(super::ON_CPU, |seed| super::forward(&wgpu_lstm::Device::cpu(), seed));
    }
}

mod on_adapter {
    #[test]
    fn random_networks_give_what_the_oracle_gives() {
        super::cases(super::ON_ADAPTER, |seed| super::forward(&super::common::adapter(), seed));
    }
}
