//! Masks of every kind of dropout, as they show in outputs: how many elements are dropped, by what the others are scaled, what
//! shares a mask and what does not, and that both executors make the same, forward and backward.
//!
//! Cells are made so plain that masks can be read off: gates are 1 (or the forget gate 0, where it is coupled) and nothing bends.

mod common;

use common::{Draw, adapter, close, masks};
use wgpu_lstm::network::{Batch, Node, Purpose, network};
use wgpu_lstm::plan::Role;
use wgpu_lstm::{Activation, Bias, Dense, Device, Dropout, Layer, Loss, Lstm, Optimiser, Update};

/// Steps, sequences, features or units.
const T: usize = 6;
const B: usize = 16;
const F: usize = 32;
const KEY: [u32; 2] = [11, 5]; // a seed and the step of training

/// A stack with weights that make its masks visible.
struct Stack {
    layers: Vec<Layer>,
    /// Of x [T, B, F].
    x: fn(usize, usize, usize) -> f32,
    /// Of a buffer: dense layers [to, from], recurrent ones [from, unit] for the candidate.
    weight: fn(&str, usize, usize) -> f32,
}

fn identity(a: usize, b: usize) -> f32 {
    if a == b { 1.0 } else { 0.0 }
}

/// h = c = g.
fn open(lstm: Lstm) -> Lstm {
    adding(lstm).coupled(true)
}

/// h = c = c' + g.
fn adding(lstm: Lstm) -> Lstm {
    let one = Activation::Affine { alpha: 0.0, beta: 1.0 };
    lstm.bias(Bias::Single).gate_activation(one).activation(Activation::Linear).return_sequences(true)
}

/// Runs a training step and gives the output [T, B, features].
fn output(device: &Device, stack: &Stack, key: [u32; 2]) -> Vec<Vec<f32>> {
    let mut input = F;
    let mut layers = Vec::new();
    for (k, layer) in stack.layers.iter().enumerate() {
        layers.push(Node::new(format!("layer{k}"), input, layer.clone()));
        input = layer.output(input);
    }
    let update = Update::new(Optimiser::sgd(0.1, 0.0));
    let purpose = Purpose::Train { loss: &Loss::MeanSquaredError.into(), update: &update, weighted: false };
    let network = network(&layers, Batch::new(B, T), purpose, device.capabilities()).unwrap();
    let executable = device.compile(network.plan.clone()).unwrap();
    let put = |name: &str, values: &[f32]| executable.write((network.plan.find(name).unwrap(), 0), values).unwrap();
    for buffer in network.plan.buffers.iter().filter(|buffer| buffer.role == Role::Weight) {
        let mut values = vec![0.0; buffer.len as usize];
        if buffer.name.contains(".l") {
            // By direction: [from, 4·unit + gate], or [4·unit + gate] of the bias
            for (at, value) in values.iter_mut().enumerate().filter(|(at, _)| at % 4 == 2) {
                *value = (stack.weight)(&buffer.name, at / (4 * F) % F, at / 4 % F);
            }
        } else {
            values.iter_mut().enumerate().for_each(|(at, value)| *value = identity(at / F, at % F));
        }
        put(&buffer.name, &values);
    }
    let x = |at: usize| (stack.x)(at / (B * F), at / F % B, at % F);
    put("x", &(0..T * B * F).map(x).collect::<Vec<f32>>());
    if !network.words.is_empty() {
        put("words", &key.map(f32::from_bits));
    }
    executable.run().unwrap();
    let (y, width) = (network.y(), network.y().features as usize);
    let step = |t: u32| {
        let (buffer, at) = y.at(t);
        executable.read((buffer, at.into()), (B * width) as u64).unwrap()
    };
    (0..T as u32).map(step).collect()
}

/// Masks [steps][elements], true where an element is dropped (or kept as it was, for zoneout).
type Masks = Vec<Vec<bool>>;

/// Outputs that are masks: 0 or the scale, exactly.
fn scaled(output: &[Vec<f32>], probability: f64) -> Masks {
    let scale = (1.0 / (1.0 - probability)) as f32;
    let dropped = |&value: &f32| {
        assert!(value == 0.0 || value.to_bits() == scale.to_bits(), "{value} is neither 0 nor {scale}");
        value == 0.0
    };
    output.iter().map(|step| step.iter().map(dropped).collect()).collect()
}

/// The Dropout layer: ones, dropped; the dense layer passes them on.
fn of_layer(device: &Device, p: f64, key: [u32; 2]) -> Masks {
    let layers = vec![Dropout::new(p).into(), Dense::new(F).bias(false).into()];
    scaled(&output(device, &Stack { layers, x: |_, _, _| 1.0, weight: |_, _, _| 0.0 }, key), p)
}

/// Of inputs: ones, dropped, through an identity; both directions side by side.
fn of_inputs(device: &Device, p: f64, key: [u32; 2]) -> Masks {
    let layers = vec![open(Lstm::new(F).bidirectional(true).input_dropout(p)).into()];
    let weight = |name: &str, from, unit| if name.ends_with(".w") { identity(from, unit) } else { 0.0 };
    scaled(&output(device, &Stack { layers, x: |_, _, _| 1.0, weight }, key), p)
}

/// Between layers: the lower one gives ones, the upper one passes on what is left of them.
fn between(device: &Device, p: f64, key: [u32; 2]) -> Masks {
    let layers = vec![open(Lstm::new(F).layers(2).dropout(p)).into()];
    let weight = |name: &str, from, unit| match name {
        "layer0.l0.bias" => 1.0,
        "layer0.l1.w" => identity(from, unit),
        _ => 0.0,
    };
    scaled(&output(device, &Stack { layers, x: |_, _, _| 0.0, weight }, key), p)
}

/// Of hidden states: h = 1 + m·h', both directions side by side; the first step has nothing to drop.
fn of_states(device: &Device, p: f64, key: [u32; 2]) -> Masks {
    let layers = vec![open(Lstm::new(F).bidirectional(true).recurrent_dropout(p)).into()];
    let weight = |name: &str, from, unit| match name.rsplit('.').next().unwrap() {
        "r" => identity(from, unit),
        "bias" => 1.0,
        _ => 0.0,
    };
    let y = output(device, &Stack { layers, x: |_, _, _| 0.0, weight }, key);
    let scale = (1.0 / (1.0 - p)) as f32;
    let step = |t: usize| {
        let element = |at: usize| {
            // The second direction comes from the end of time.
            let [now, before] = if at % (2 * F) < F { [t, t - 1] } else { [T - 1 - t, T - t] };
            let (h, h_before) = (y[now][at], y[before][at]);
            let kept = 1.0 + scale * h_before;
            assert!(h == 1.0 || (h - kept).abs() <= 1e-6 * kept, "{h} is neither 1 nor {kept}");
            h == 1.0
        };
        (0..B * 2 * F).map(element).collect()
    };
    (1..T).map(step).collect()
}

/// Of recurrent weights, which are 1 from the lower half of the units to the upper half: at even steps row b is given the unit
/// vector b, and the step after that shows the mask's column b.
fn of_weights(device: &Device, p: f64, key: [u32; 2]) -> Masks {
    const HALF: usize = F / 2; // as many as there are rows
    let layers = vec![open(Lstm::new(F).weight_dropout(p)).into()];
    let weight = |name: &str, from, unit| match name.rsplit('.').next().unwrap() {
        "w" => identity(from, unit),
        "r" if from < HALF && unit >= HALF => 1.0,
        _ => 0.0,
    };
    let x = |t: usize, b: usize, f: usize| if t.is_multiple_of(2) { identity(b, f) } else { 0.0 };
    let y = output(device, &Stack { layers, x, weight }, key);
    let upper = |step: &Vec<f32>| step.chunks(F).flat_map(|row| row[HALF..].to_vec()).collect();
    scaled(&y.iter().skip(1).step_by(2).map(upper).collect::<Vec<Vec<f32>>>(), p)
}

/// Of hidden states kept: the cell counts steps, and h is the count or what it was.
fn kept_states(device: &Device, p: f64, key: [u32; 2]) -> Masks {
    let layers = vec![adding(Lstm::new(F).zoneout(p, 0.0)).into()];
    let weight = |name: &str, _, _| if name.ends_with("bias") { 1.0 } else { 0.0 };
    let y = output(device, &Stack { layers, x: |_, _, _| 0.0, weight }, key);
    let step = |t: usize| {
        let element = |at: usize| {
            let before = if t == 0 { 0.0 } else { y[t - 1][at] };
            assert!(y[t][at] == (t + 1) as f32 || y[t][at] == before, "{} at step {t}", y[t][at]);
            y[t][at] == before
        };
        (0..B * F).map(element).collect()
    };
    (0..T).map(step).collect()
}

/// Of cell states kept: h is one more than the cell state before it, which the next step shows.
fn kept_cells(device: &Device, p: f64, key: [u32; 2]) -> Masks {
    let layers = vec![adding(Lstm::new(F).zoneout(0.0, p)).into()];
    let weight = |name: &str, _, _| if name.ends_with("bias") { 1.0 } else { 0.0 };
    let y = output(device, &Stack { layers, x: |_, _, _| 0.0, weight }, key);
    let step = |t: usize| {
        let element = |at: usize| {
            assert!(y[t + 1][at] == y[t][at] || y[t + 1][at] == y[t][at] + 1.0, "{} at step {t}", y[t + 1][at]);
            y[t + 1][at] == y[t][at]
        };
        (0..B * F).map(element).collect()
    };
    (0..T - 1).map(step).collect()
}

type Observe = fn(&Device, f64, [u32; 2]) -> Masks;

/// Every kind, named as in [`masks::KINDS`]; whether each step has a mask of its own.
const KINDS: [(&str, Observe, bool); 7] = [
    ("Dropout layer", of_layer, true),
    ("input_dropout", of_inputs, false),
    ("dropout", between, true),
    ("recurrent_dropout", of_states, false),
    ("weight_dropout", of_weights, false),
    ("zoneout_h", kept_states, true),
    ("zoneout_c", kept_cells, true),
];

/// Five standard deviations of a binomial count. Keys are fixed, so a count stays where it is; a right generator is outside in one
/// of two million.
fn likely(what: &str, count: usize, of: usize, probability: f64) {
    let (mean, deviation) = (of as f64 * probability, (of as f64 * probability * (1.0 - probability)).sqrt());
    assert!((count as f64 - mean).abs() <= 5.0 * deviation, "{what}: {count} of {of}, expected {mean} ± {deviation}");
}

fn dropped(mask: &[bool]) -> usize {
    mask.iter().filter(|&&dropped| dropped).count()
}

/// Masks that do not know of each other agree by chance.
fn unrelated(what: &str, a: &[bool], b: &[bool], p: f64) {
    let agree = a.iter().zip(b).filter(|(a, b)| a == b).count();
    likely(&format!("{what}: elements that agree"), agree, a.len(), p * p + (1.0 - p) * (1.0 - p));
}

#[test]
fn every_kind_is_looked_at() {
    assert_eq!(KINDS.map(|(name, _, _)| name), masks::KINDS);
}

#[test]
fn the_share_dropped_is_the_probability_and_the_mean_stays() {
    let device = Device::cpu();
    for (name, observe, by_step) in KINDS {
        for p in [0.1, 0.5, 0.8] {
            let masks = observe(&device, p, KEY);
            // Elements that are not copies of others
            let own = if by_step { masks.concat() } else { halves(name, &masks[0])[0].clone() };
            likely(&format!("{name} {p}: dropped"), dropped(&own), own.len(), p);
            if !name.contains("zoneout") {
                // Each element is 0 or 1 / (1 − p): mean 1, variance p / (1 − p).
                let mean = (own.len() - dropped(&own)) as f64 / (1.0 - p) / own.len() as f64;
                let deviation = (p / (1.0 - p) / own.len() as f64).sqrt();
                assert!((mean - 1.0).abs() <= 5.0 * deviation, "{name} {p}: mean {mean}");
            }
        }
        // A probability of 0 drops nothing
        assert_eq!(dropped(&observe(&device, 0.0, KEY).concat()), 0, "{name}");
    }
}

/// The parts of a mask by direction, where there are two.
fn halves(name: &str, mask: &[bool]) -> Vec<Vec<bool>> {
    if !["input_dropout", "recurrent_dropout"].contains(&name) {
        return vec![mask.to_vec()];
    }
    let side = |d: usize| mask.chunks(2 * F).flat_map(|row| row[d * F..][..F].to_vec()).collect();
    vec![side(0), side(1)]
}

#[test]
fn what_shares_a_mask_and_what_does_not() {
    let (device, p) = (Device::cpu(), 0.3);
    for (name, observe, by_step) in KINDS {
        let masks = observe(&device, p, KEY);
        assert_eq!(observe(&device, p, KEY), masks, "{name}: the same key, the same masks");
        for (t, pair) in masks.windows(2).enumerate() {
            match by_step {
                true => unrelated(&format!("{name}: steps {t} and {}", t + 1), &pair[0], &pair[1], p),
                false => assert_eq!(pair[0], pair[1], "{name}: one mask for all steps"),
            }
        }
        let whole = |masks: &Masks| if by_step { masks.concat() } else { halves(name, &masks[0])[0].clone() };
        unrelated(&format!("{name}: seeds"), &whole(&masks), &whole(&observe(&device, p, [KEY[0] + 1, KEY[1]])), p);
        unrelated(&format!("{name}: steps of training"), &whole(&masks), &whole(&observe(&device, p, [11, 6])), p);
        // Rows and units
        let mask = &halves(name, &masks[0])[0];
        let (rows, moved) = (&mask[..mask.len() - F], &mask[F..]);
        unrelated(&format!("{name}: rows"), rows, moved, p);
        unrelated(&format!("{name}: units"), &mask[..mask.len() - 1], &mask[1..], p);
        match &halves(name, &masks[0])[..] {
            [forward, reverse] if name == "input_dropout" => {
                assert_eq!(forward, reverse, "one mask for both directions")
            }
            [forward, reverse] => unrelated("directions", forward, reverse, p),
            _ => {}
        }
    }
}

/// Two Dropout layers, one after the other: what the first keeps, the second drops by chance.
#[test]
fn places_in_a_model_are_unrelated() {
    let (device, p) = (Device::cpu(), 0.3);
    let dense = || Layer::from(Dense::new(F).bias(false));
    let first = of_layer(&device, p, KEY).concat();
    let layers = vec![Dropout::new(p).into(), dense(), Dropout::new(p).into(), dense()];
    let both = output(&device, &Stack { layers, x: |_, _, _| 1.0, weight: |_, _, _| 0.0 }, KEY).concat();
    assert!(
        first.iter().zip(&both).all(|(&dropped, &y)| !dropped || y == 0.0),
        "the first mask is that of the first stack"
    );
    let kept: Vec<bool> = first.iter().zip(&both).filter(|(dropped, _)| !**dropped).map(|(_, &y)| y == 0.0).collect();
    likely("dropped by the second", dropped(&kept), kept.len(), p);
    // Nor do two kinds of masks of one layer agree, of the same shape and key
    unrelated("between layers and Dropout layer", &between(&device, p, KEY).concat(), &first, p);
}

/// The gradient of a weight below a Dropout layer is 0 where the layer drops, and nowhere else.
fn backward_drops_what_forward_dropped(device: &Device) {
    const UNITS: usize = 300;
    let layers = [
        Node::new("below", 1, Dense::new(UNITS).bias(false)),
        Node::new("dropout", UNITS, Dropout::new(0.4)),
        Node::new("above", UNITS, Dense::new(UNITS).bias(false)),
    ];
    let update = Update::new(Optimiser::sgd(0.1, 0.0));
    let purpose = Purpose::Train { loss: &Loss::MeanSquaredError.into(), update: &update, weighted: false };
    let network = network(&layers, Batch::new(1, 1), purpose, device.capabilities()).unwrap();
    let executable = device.compile(network.plan.clone()).unwrap();
    let find = |name: &str| (network.plan.find(name).unwrap(), 0);
    executable.write(find("below.weight"), &[1.0; UNITS]).unwrap();
    let diagonal: Vec<f32> = (0..UNITS * UNITS).map(|at| identity(at / UNITS, at % UNITS)).collect();
    executable.write(find("above.weight"), &diagonal).unwrap();
    executable.write(find("x"), &[1.0]).unwrap();
    executable.write(find("target"), &[-1.0; UNITS]).unwrap(); // no loss is without a slope
    executable.write(find("words"), &KEY.map(f32::from_bits)).unwrap();
    executable.run().unwrap();
    let (buffer, at) = network.y().at(0);
    let y = executable.read((buffer, at.into()), UNITS as u64).unwrap();
    let gradient = executable.read(find("grad below.weight"), UNITS as u64).unwrap();
    let zero = |values: &[f32]| values.iter().map(|&value| value == 0.0).collect::<Vec<bool>>();
    assert_eq!(zero(&y), zero(&gradient));
    likely("dropped", dropped(&zero(&y)), UNITS, 0.4);
}

on_both!(backward_drops_what_forward_dropped);

mod on_adapter_and_cpu {
    use super::*;

    #[test]
    fn masks_are_the_same_bits() {
        for (name, observe, _) in KINDS {
            assert_eq!(observe(&adapter(), 0.3, KEY), observe(&Device::cpu(), 0.3, KEY), "{name}");
        }
    }

    /// A mask that differed between forward and backward, in one element, would show: the CPU's gradients are held against
    /// central differences in `tests/layers.rs`.
    #[test]
    fn gradients_are_the_same() {
        let lstm = || Lstm::new(5).return_sequences(true);
        for layer in [
            lstm().layers(2).dropout(0.4),
            lstm().bidirectional(true).input_dropout(0.4),
            lstm().bidirectional(true).recurrent_dropout(0.4),
            lstm().weight_dropout(0.4),
            lstm().zoneout(0.4, 0.3),
        ] {
            let what = format!("{layer:?}");
            let layers = [Node::new("lstm", 3, layer)];
            let gradients = |device: &Device| {
                let update = Update::new(Optimiser::sgd(0.1, 0.0));
                let purpose = Purpose::Train { loss: &Loss::MeanSquaredError.into(), update: &update, weighted: false };
                let network = network(&layers, Batch::new(3, 4), purpose, device.capabilities()).unwrap();
                let executable = device.compile(network.plan.clone()).unwrap();
                let mut draw = Draw::new(2);
                for buffer in network.plan.buffers.iter().filter(|b| matches!(b.role, Role::Input | Role::Weight)) {
                    let id = network.plan.find(&buffer.name).unwrap();
                    let values = match Some(id) == network.key_and_lengths() {
                        true => KEY.map(f32::from_bits).to_vec(),
                        false => draw.vec(buffer.len as usize),
                    };
                    executable.write((id, 0), &values).unwrap();
                }
                executable.run().unwrap();
                let mut all = Vec::new();
                for buffer in network.plan.buffers.iter().filter(|buffer| buffer.role == Role::Gradient) {
                    all.extend(executable.read((network.plan.find(&buffer.name).unwrap(), 0), buffer.len).unwrap());
                }
                assert!(all.iter().any(|&gradient| gradient != 0.0), "{what}");
                all
            };
            close(&what, &gradients(&adapter()), &gradients(&Device::cpu()), 1e-6, 1e-5);
        }
    }
}
