//! Forward passes against the naive f64 oracle, which shares no code with the crate: both cells, odd sizes, several
//! layers, two directions, states given; whole and split along time by artificially small limits.
//!
//! Tolerance 1e-5: f32 against f64 over up to 30 steps of states below 1.

mod common;

use common::oracle::{OracleCell, OracleLstm, OracleWeights};
use common::{Draw, close};
use ndarray::{Array3, ArrayD};
use std::collections::BTreeMap;
use wgpu_lstm::{Bias, Capabilities, Cell, Device, GpuOptions, Lstm, LstmState, Software};

fn wide<'a>(values: impl IntoIterator<Item = &'a f32>) -> Vec<f64> {
    values.into_iter().map(|&value| value as f64).collect()
}

/// The oracle with the weights of a layer.
fn oracle(
    lstm: &Lstm,
    input: usize,
    layers: usize,
    cell: Cell,
    parameters: &BTreeMap<String, ArrayD<f32>>,
) -> OracleLstm {
    let (hidden, directions) = (lstm.hidden(), lstm.directions());
    let mut weights = Vec::new();
    for layer in 0..layers {
        for suffix in ["", "_reverse"].iter().take(directions) {
            let bias =
                |kind: &str| parameters.get(&format!("{kind}_l{layer}{suffix}")).map_or(vec![0.0; 4 * hidden], wide);
            weights.push(OracleWeights {
                w_ih: wide(&parameters[&format!("weight_ih_l{layer}{suffix}")]),
                w_hh: wide(&parameters[&format!("weight_hh_l{layer}{suffix}")]),
                b_ih: bias("bias_ih"),
                b_hh: bias("bias_hh"),
            });
        }
    }
    let cell = if cell == Cell::Article { OracleCell::Article } else { OracleCell::Standard };
    OracleLstm { cell, input, hidden, layers, directions, weights }
}

fn agree(device: &Device, [t, b, i, h, l]: [usize; 5], bidirectional: bool, cell: Cell, bias: Bias, seed: u64) {
    let mut draw = Draw::new(seed);
    let config = Lstm::new(h).layers(l).bidirectional(bidirectional).cell(cell).bias(bias);
    let layer = config.clone().build(device, i, seed).unwrap();
    let x = draw.array3((b, t, i));
    let states = (l * config.directions(), b, h);
    let initial = LstmState { h: draw.array3(states), c: draw.array3(states) };
    let out = layer.forward(x.view(), Some(&initial)).unwrap();
    let reference = oracle(&config, i, l, cell, &layer.parameters().unwrap());
    let expected = reference.forward(&wide(&x), b, t, &wide(&initial.h), &wide(&initial.c));
    let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect::<Vec<_>>();
    let what = format!("{device}: T B I H L {:?} bidirectional {bidirectional} {cell:?}", [t, b, i, h, l]);
    close(&format!("{what} output"), &out.output, &narrow(&expected.output), 1e-5, 1e-5);
    close(&format!("{what} h_n"), &out.state.h, &narrow(&expected.h_n), 1e-5, 1e-5);
    close(&format!("{what} c_n"), &out.state.c, &narrow(&expected.c_n), 1e-5, 1e-5);
}

fn odd_sizes(device: &Device) {
    let sizes = [
        [1, 1, 1, 1, 1],
        [2, 3, 1, 2, 2],
        [7, 2, 5, 3, 1],
        [5, 33, 2, 7, 1],
        [3, 4, 65, 17, 2],
        [13, 1, 3, 64, 1],
        [30, 2, 4, 6, 3],
        [4, 5, 130, 33, 1],
    ];
    for (seed, size) in sizes.into_iter().enumerate() {
        for bidirectional in [false, true] {
            for cell in [Cell::Standard, Cell::Article] {
                let bias = [Bias::None, Bias::Single, Bias::Double][seed % 3];
                agree(device, size, bidirectional, cell, bias, seed as u64);
            }
        }
    }
}

/// With bindings of a few kilobytes the same sequences run in many chunks.
fn split_along_time(device: &Device) {
    for (seed, size) in [[23, 3, 4, 5, 2], [50, 1, 2, 3, 1], [9, 2, 6, 8, 3]].into_iter().enumerate() {
        for bidirectional in [false, true] {
            agree(device, size, bidirectional, Cell::Standard, Bias::Double, seed as u64);
        }
    }
}

fn time_major(device: &Device) {
    let x = Draw::new(3).array3((4, 6, 3)); // [B, T, I]
    let layer = Lstm::new(5).bidirectional(true).build(device, 3, 1).unwrap();
    let batch_first = layer.forward(x.view(), None).unwrap();
    let layer = layer.time_major(true);
    let swapped: Array3<f32> = x.permuted_axes([1, 0, 2]);
    let time_first = layer.forward(swapped.view(), None).unwrap();
    assert_eq!(batch_first.output, time_first.output.permuted_axes([1, 0, 2]));
    assert_eq!(batch_first.state, time_first.state);
}

on_both_by_every_strategy!(odd_sizes, time_major);

#[test]
fn split_along_time_on_cpu() {
    // 5 KB: the largest weight is 4 KB, a step needs up to 384 bytes
    split_along_time(&Device::cpu_with(Capabilities { max_binding_bytes: 5_000, ..Capabilities::default() }));
}

mod on_adapter_with_small_limits {
    use super::*;

    /// Backward split along time on the adapter gives what the CPU gives in one piece.
    #[test]
    fn gradients_split_along_time() {
        let options = GpuOptions {
            software: Software::Fallback,
            max_binding_bytes: Some(5_000),
            schedule_as: common::schedule_as(),
            ..GpuOptions::default()
        };
        let small = Device::gpu(&options).unwrap();
        for bidirectional in [false, true] {
            let lstm = Lstm::new(5).layers(2).bidirectional(bidirectional);
            let (split, whole) = (lstm.clone().build(&small, 4, 1).unwrap(), lstm.build(&Device::cpu(), 4, 1).unwrap());
            let mut draw = Draw::new(8);
            let x = draw.array3((3, 40, 4));
            let d_output = draw.array3((3, 40, split.config().output()));
            let given = split.gradients(x.view(), None, d_output.view(), None).unwrap();
            let expected = whole.gradients(x.view(), None, d_output.view(), None).unwrap();
            close("dx", &given.x, &expected.x, 1e-5, 1e-5);
            close("dh_0", &given.initial.h, &expected.initial.h, 1e-5, 1e-5);
            for (name, gradient) in &given.parameters {
                // Sums over 120 rows, in another order
                close(name, gradient, &expected.parameters[name], 1e-4, 1e-5);
            }
        }
    }

    #[test]
    fn split_along_time() {
        let options = GpuOptions {
            software: Software::Fallback,
            max_binding_bytes: Some(5_000),
            schedule_as: common::schedule_as(),
            ..GpuOptions::default()
        };
        super::split_along_time(&Device::gpu(&options).unwrap());
    }
}
