//! Whole passes on the CPU executor: `cargo bench --bench passes`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndarray::Array3;
use wgpu_lstm::{Cell, Device, Fit, Loss, Lstm, Optimiser, Sequential};

const SIZES: [[usize; 4]; 3] = [[24, 32, 4, 32], [64, 32, 64, 128], [100, 1, 128, 256]]; // T, B, I, H

fn forward(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward");
    for [t, b, i, h] in SIZES {
        for cell in [Cell::Standard, Cell::Article] {
            let layer = Lstm::new(h).cell(cell).build(&Device::cpu(), i, 1).expect("sizes that fit").time_major(true);
            let x = Array3::from_shape_fn((t, b, i), |(t, b, i)| ((t * 7 + b * 3 + i) % 11) as f32 / 11.0 - 0.5);
            group.throughput(Throughput::Elements((t * b) as u64));
            group.bench_function(format!("{cell:?}, T {t} B {b} I {i} H {h}"), |bencher| {
                bencher.iter(|| layer.forward(x.view(), None))
            });
        }
    }
    group.finish();
}

fn train(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("training step");
    for [t, b, i, h] in SIZES {
        let lstm = Lstm::new(h).return_sequences(true);
        let mut model = Sequential::new(i).add(lstm).build(&Device::cpu(), 1).expect("sizes that fit");
        model.compile(Loss::MeanSquaredError, Optimiser::adam(1e-3)).expect("sound settings");
        let x = Array3::from_shape_fn((b, t, i), |(b, t, i)| ((t * 7 + b * 3 + i) % 11) as f32 / 11.0 - 0.5);
        let y = Array3::<f32>::zeros((b, t, h));
        group.throughput(Throughput::Elements((t * b) as u64));
        group.bench_function(format!("T {t} B {b} I {i} H {h}"), |bencher| {
            bencher.iter(|| model.fit(x.view(), y.view(), Fit::new().batch_size(b)))
        });
    }
    group.finish();
}

criterion_group!(benches, forward, train);
criterion_main!(benches);
