//! Single kernels on the CPU executor: `cargo bench --bench kernels`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use wgpu_lstm::Device;
use wgpu_lstm::kernel::Matmul;
use wgpu_lstm::plan::{BufferId, Role};
use wgpu_lstm::schedule::Builder;

/// Products of a few rows, of a batch and of a whole sequence with weights of 256 × 1,024.
fn products(criterion: &mut Criterion) {
    let device = Device::cpu();
    let (k, n) = (256u32, 1024u32);
    let mut group = criterion.benchmark_group("matmul");
    for m in [1u32, 4, 32, 4096] {
        let mut plan = Builder::new("product", device.capabilities().clone());
        let mut buffer = |name: &str, rows: u32, columns: u32, role| {
            plan.buffer(name, rows as u64 * columns as u64, role).expect("sizes that fit")
        };
        let (a, b) = (buffer("a", m, k, Role::Input), buffer("b", k, n, Role::Input));
        let c = buffer("c", m, n, Role::Output);
        plan.matmul(Matmul::plain(m, n, k), a, b, c);
        let executable = device.compile(plan.finish().expect("a sound plan")).expect("the CPU runs every plan");
        group.throughput(Throughput::Elements(2 * m as u64 * n as u64 * k as u64));
        group.bench_function(format!("{m} rows"), |bencher| bencher.iter(|| executable.run()));
    }
    group.finish();
}

/// A transpose and a straight copy of 1,024 × 1,024.
fn copies(criterion: &mut Criterion) {
    let device = Device::cpu();
    let n = 1024u32;
    let mut group = criterion.benchmark_group("copy");
    for (name, strides) in [("straight", [0, 0, n as i32, 1]), ("transpose", [0, 0, 1, n as i32])] {
        let mut plan = Builder::new(name, device.capabilities().clone());
        let len = n as u64 * n as u64;
        let from = plan.buffer("from", len, Role::Input).expect("a size that fits");
        let to = plan.buffer("to", len, Role::Output).expect("a size that fits");
        plan.copy([1, 1, n, n], (from, 0), strides, (to, 0), [0, 0, n as i32, 1], false);
        let executable = device.compile(plan.finish().expect("a sound plan")).expect("the CPU runs every plan");
        group.throughput(Throughput::Bytes(8 * len));
        group.bench_function(name, |bencher| bencher.iter(|| executable.run()));
        black_box(executable.read((BufferId(1), 0), 1).expect("a place in the buffer"));
    }
    group.finish();
}

criterion_group!(benches, products, copies);
criterion_main!(benches);
