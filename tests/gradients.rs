//! Gradients of whole networks in f64: the CPU executor runs the very plan that the GPU runs, in f64, and every
//! gradient is held against central differences of the oracle. Error at most 1e-6 relative (plus 1e-9 absolute, the
//! rounding of a difference of numbers of order 1 over a step of 2e-6).

mod common;

use common::Draw;
use common::oracle::{OracleCell, OracleLstm, OracleWeights, central_differences};
use wgpu_lstm::Machine;
use wgpu_lstm::network::{Batch, GradientPlan, Node, gradients};
use wgpu_lstm::plan::BufferId;
use wgpu_lstm::schedule::Sequence;
use wgpu_lstm::{Bias, Capabilities, Cell, Lstm, Strategy};

/// Sizes of a case.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    t: usize,
    b: usize,
    i: usize,
    h: usize,
    l: usize,
    d: usize,
}

impl Sizes {
    fn layer_input(&self, layer: usize) -> usize {
        if layer == 0 { self.i } else { self.d * self.h }
    }
}

/// One vector of everything that the loss depends on, taken apart in a fixed order.
struct Layout {
    sizes: Sizes,
}

impl Layout {
    /// Ranges: x, h_0, c_0, then for each layer and direction W, R and b.
    fn ranges(&self) -> Vec<std::ops::Range<usize>> {
        let Sizes { t, b, i, h, l, d } = self.sizes;
        let mut lens = vec![b * t * i, l * d * b * h, l * d * b * h];
        for layer in 0..l {
            for _ in 0..d {
                lens.extend([4 * h * self.sizes.layer_input(layer), 4 * h * h, 4 * h]);
            }
        }
        let mut first = 0;
        lens.into_iter()
            .map(|len| {
                first += len;
                first - len..first
            })
            .collect()
    }

    fn oracle(&self, cell: Cell, values: &[f64]) -> OracleLstm {
        let Sizes { i, h, l, d, .. } = self.sizes;
        let ranges = self.ranges();
        let weights = (0..l * d)
            .map(|k| {
                let part = |n: usize| values[ranges[3 + 3 * k + n].clone()].to_vec();
                OracleWeights { w_ih: part(0), w_hh: part(1), b_ih: part(2), b_hh: vec![0.0; 4 * h] }
            })
            .collect();
        let cell = if cell == Cell::Article { OracleCell::Article } else { OracleCell::Standard };
        OracleLstm { cell, input: i, hidden: h, layers: l, directions: d, weights }
    }
}

/// Device position of an element of a [4H, columns] tensor in PyTorch's layout: column·4H + 4·unit + gate.
fn packed(index: usize, columns: usize, h: usize) -> usize {
    let (row, column) = (index / columns, index % columns);
    column * 4 * h + 4 * (row % h) + row / h
}

/// Writes or reads [B, T, F] values of a sequence that may be split.
fn each_element(sequence: &Sequence, b: usize, mut visit: impl FnMut(usize, (BufferId, u64))) {
    let (t, f) = (sequence.steps as usize, sequence.features as usize);
    for row in 0..b {
        for step in 0..t {
            let (buffer, at) = sequence.at(step as u32);
            for feature in 0..f {
                visit((row * t + step) * f + feature, (buffer, (at as usize + row * f + feature) as u64));
            }
        }
    }
}

fn check(cell: Cell, sizes: Sizes, limit: u64, seed: u64) {
    Strategy::ALL.iter().for_each(|&strategy| check_by(strategy, cell, sizes, limit, seed));
}

fn check_by(strategy: Strategy, cell: Cell, sizes: Sizes, limit: u64, seed: u64) {
    let Sizes { t, b, i, h, l, d } = sizes;
    let layout = Layout { sizes };
    let ranges = layout.ranges();
    let mut draw = Draw::new(seed);
    let mut numbers =
        |n: usize, scale: f64| draw.vec(n).into_iter().map(|value| scale * value as f64).collect::<Vec<f64>>();
    let mut values = numbers(ranges.last().unwrap().end, 0.8);
    let (d_output, d_h, d_c) = (numbers(b * t * d * h, 1.0), numbers(l * d * b * h, 1.0), numbers(l * d * b * h, 1.0));

    let config = Lstm::new(h).layers(l).bidirectional(d == 2).bias(Bias::Single).cell(cell);
    let layer = Node::new("lstm", i, config.return_sequences(true));
    let capabilities = Capabilities { max_binding_bytes: limit, strategy: Some(strategy), ..Capabilities::default() };
    let GradientPlan { plan, x, dy, dx, initial, d_final, d_initial, .. } =
        gradients(&layer, Batch::new(b, t), &capabilities).unwrap();
    let plan = std::sync::Arc::new(plan);
    let machine = Machine::<f64>::new(plan.clone(), |_| None).unwrap();
    each_element(&x, b, |index, place| machine.write(place, &[values[index]]));
    each_element(&dy, b, |index, place| machine.write(place, &[d_output[index]]));
    for k in 0..l {
        let rows = k * d * b * h..(k + 1) * d * b * h;
        let state = |range: usize| &values[ranges[range].clone()][rows.clone()];
        machine.write((initial[2 * k], 0), state(1));
        machine.write((initial[2 * k + 1], 0), state(2));
        machine.write((d_final[2 * k], 0), &d_h[rows.clone()]);
        machine.write((d_final[2 * k + 1], 0), &d_c[rows]);
    }
    // Weights by direction inside each layer's tensor
    let places = |k: usize| {
        let (layer, direction) = (k / d, k % d);
        let columns = [sizes.layer_input(layer), h, 1];
        let kinds = ["w", "r", "bias"];
        std::array::from_fn::<_, 3, _>(|n| {
            (format!("lstm.l{layer}.{}", kinds[n]), columns[n], direction * 4 * h * columns[n])
        })
    };
    for k in 0..l * d {
        for (n, (name, columns, first)) in places(k).into_iter().enumerate() {
            let buffer = plan.find(&name).unwrap();
            for (index, &value) in values[ranges[3 + 3 * k + n].clone()].iter().enumerate() {
                machine.write((buffer, (first + packed(index, columns, h)) as u64), &[value]);
            }
        }
    }
    machine.run(0..plan.commands.len()).unwrap();

    // What the plan says the gradients are, in the order of `values`
    let mut given = vec![f64::NAN; values.len()];
    each_element(&dx, b, |index, place| given[index] = machine.read(place, 1)[0]);
    for k in 0..l {
        let slot = d * b * h;
        for (range, buffer) in [(1, d_initial[2 * k]), (2, d_initial[2 * k + 1])] {
            given[ranges[range].clone()][k * slot..(k + 1) * slot]
                .copy_from_slice(&machine.read((buffer, 0), slot as u64));
        }
    }
    for k in 0..l * d {
        for (n, (name, columns, first)) in places(k).into_iter().enumerate() {
            let buffer = plan.find(&format!("grad {name}")).unwrap();
            for (index, gradient) in given[ranges[3 + 3 * k + n].clone()].iter_mut().enumerate() {
                *gradient = machine.read((buffer, (first + packed(index, columns, h)) as u64), 1)[0];
            }
        }
    }

    let expected = central_differences(&mut values, 1e-6, |values| {
        let part = |k: usize| &values[ranges[k].clone()];
        let out = layout.oracle(cell, values).forward(part(0), b, t, part(1), part(2));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(&out.output, &d_output) + dot(&out.h_n, &d_h) + dot(&out.c_n, &d_c)
    });
    for (index, (g, e)) in given.iter().zip(&expected).enumerate() {
        let range = ranges.iter().position(|range| range.contains(&index)).unwrap();
        assert!(
            (g - e).abs() <= 1e-9 + 1e-6 * e.abs(),
            "{cell:?} {sizes:?} limit {limit}: part {range}, element {}: {g}, central difference {e}",
            index - ranges[range].start
        );
    }
}

const CASES: [Sizes; 5] = [
    Sizes { t: 1, b: 1, i: 1, h: 1, l: 1, d: 1 },
    Sizes { t: 6, b: 3, i: 2, h: 4, l: 1, d: 1 },
    Sizes { t: 5, b: 2, i: 3, h: 3, l: 2, d: 2 },
    Sizes { t: 4, b: 2, i: 2, h: 3, l: 3, d: 1 },
    Sizes { t: 9, b: 1, i: 2, h: 2, l: 1, d: 2 },
];

#[test]
fn standard_cell() {
    CASES.iter().for_each(|&sizes| check(Cell::Standard, sizes, 1 << 27, 1));
}

#[test]
fn article_cell() {
    CASES.iter().for_each(|&sizes| check(Cell::Article, sizes, 1 << 27, 2));
}

/// The same with time split into chunks, where gate gradients are carried from one to the one before.
#[test]
fn split_along_time() {
    for (k, &sizes) in CASES[1..].iter().enumerate() {
        // Room for the weights and two or three steps
        for bytes in [768, 1024] {
            check(if k % 2 == 0 { Cell::Standard } else { Cell::Article }, sizes, bytes, 3);
        }
    }
}
