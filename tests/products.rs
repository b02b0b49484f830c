//! Every way to compute a product: the same numbers, whatever kernel, tile and division of the terms, and the choice among them.

mod common;

use common::{Draw, adapter, checked_adapter};
use wgpu_lstm::kernel::{self, DenseConstants, DenseForward, Matmul, MatmulSkinnyDenseConstants};
use wgpu_lstm::network::{Batch, Node, Purpose, network};
use wgpu_lstm::plan::Role;
use wgpu_lstm::schedule::{Builder, ProductLaunch, ProductTile};
use wgpu_lstm::{
    Activation, AdapterKind, Capabilities, CooperativeMatrices, Dense, Device, GpuOptions, Lstm, Matrices, Sequential,
    Software,
};

/// C = A·B in a given way, from the same numbers each time; with `accumulate`, C += A·B.
fn product(device: &Device, launch: ProductLaunch, product: Matmul) -> Vec<f32> {
    product_of(device, launch, product, |value| value)
}

/// The same of a function of those numbers.
fn product_of(device: &Device, launch: ProductLaunch, product: Matmul, of: fn(f32) -> f32) -> Vec<f32> {
    let Matmul { m, n, k, .. } = product;
    let mut plan = Builder::new("product", device.capabilities().clone());
    let lens = [(m, k), (k, n), (m, n)].map(|(rows, columns)| rows as u64 * columns as u64);
    let buffers: Vec<_> =
        ["a", "b", "c"].iter().zip(lens).map(|(name, len)| plan.buffer(*name, len, Role::Input).unwrap()).collect();
    plan.matmul_by(launch, product, buffers[0], buffers[1], buffers[2]).unwrap();
    let executable = device.compile(plan.finish().unwrap()).unwrap();
    let mut draw = Draw::new(11);
    for (&buffer, len) in buffers.iter().zip(lens) {
        let values: Vec<f32> = draw.vec(len as usize).into_iter().map(of).collect();
        executable.write((buffer, 0), &values).unwrap();
    }
    executable.run().unwrap();
    executable.read((buffers[2], 0), lens[2]).unwrap()
}

/// A weight's gradient, C = Aᵀ·B.
fn turned(m: u32, n: u32, k: u32) -> Matmul {
    Matmul { a_m_lo: 1, a_k_lo: m as i32, ..Matmul::plain(m, n, k) }
}

/// A dense layer's product, C = A·Bᵀ.
fn dense(m: u32, n: u32, k: u32) -> Matmul {
    Matmul { b_k_lo: 1, b_n: k as i32, ..Matmul::plain(m, n, k) }
}

/// A dense layer in one dispatch has the bits of its product and its bias and activation in two.
fn a_dense_layer_is_its_product_with_bias_and_activation(device: &Device) {
    for (m, n, k, activation) in [(1, 1, 64, 0), (1, 9, 512, 2), (5, 33, 260, 3), (16, 130, 100, 7), (3, 64, 300, 1)] {
        let product = dense(m, n, k);
        let common = product.skinny(8).unwrap();
        let (alpha, beta) = (0.7, 0.2);
        let run = |whole: bool| {
            let mut plan = Builder::new("dense", device.capabilities().clone());
            let lens = [m * k, n * k, n, m * n].map(u64::from);
            let names = ["a", "b", "bias", "c"].into_iter().zip(lens);
            let all: Vec<_> = names.map(|(name, len)| plan.buffer(name, len, Role::Input).unwrap()).collect();
            let [a, b, bias, c] = all[..] else { unreachable!() };
            if whole {
                let constants = MatmulSkinnyDenseConstants { common, activation, has_bias: true, alpha, beta };
                plan.push(&kernel::MATMUL_SKINNY_DENSE, None, &constants, &product, &[a, b, c, bias]);
            } else {
                plan.push(&kernel::MATMUL_SKINNY, None, &common, &product, &[a, b, c]);
                let params = DenseForward { rows: m, features: n, has_bias: 1, y_offset: 0, alpha, beta };
                plan.push(&kernel::DENSE_FORWARD, None, &DenseConstants { activation }, &params, &[bias, c]);
            }
            let executable = device.compile(plan.finish().unwrap()).unwrap();
            let mut draw = Draw::new(12);
            for (&buffer, len) in all.iter().zip(lens) {
                executable.write((buffer, 0), &draw.vec(len as usize)).unwrap();
            }
            executable.run().unwrap();
            executable.read((c, 0), lens[3]).unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        // Hardware's compilers fuse operations of the two modules as they like: one rounding apart.
        let software = device.adapter().is_none_or(|adapter| adapter.kind == AdapterKind::Software);
        let most = if software { 0 } else { 2 };
        for (at, (one, two)) in run(true).into_iter().zip(run(false)).enumerate() {
            let apart = one.abs_diff(two);
            assert!(apart <= most, "{device}: C[{at}] of {product:?}, activation {activation}: {apart} units apart");
        }
    }
}

fn every_candidate_computes_the_product(device: &Device) {
    for whole in [
        Matmul::plain(1, 264, 700),
        Matmul::plain(5, 68, 300),
        Matmul::plain(16, 132, 520),
        Matmul { accumulate: 1, ..turned(3, 64, 1001) },
        Matmul::plain(10, 33, 270),
        dense(9, 33, 272),
        dense(1, 3, 700),
        Matmul::plain(70, 60, 515),
        Matmul { accumulate: 1, ..turned(140, 150, 1030) },
    ] {
        let launches = ProductLaunch::candidates(&whole, &Capabilities::default());
        let expected = product(&Device::cpu(), launches[0], whole);
        let largest = expected.iter().fold(1.0f32, |most, value| most.max(value.abs()));
        for launch in launches {
            let given = product(device, launch, whole);
            for (at, (g, e)) in given.iter().zip(&expected).enumerate() {
                // The order of the sums differs, as in tests/kernels/.
                assert!((g - e).abs() <= 2e-5 * largest, "{launch:?}: C[{at}] of {whole:?} is {g}, expected {e}");
            }
            let again = product(device, launch, whole);
            assert!(given.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits()), "{launch:?} of {whole:?}");
        }
    }
}

#[test]
fn every_candidate_computes_the_product_on_cpu() {
    every_candidate_computes_the_product(&Device::cpu());
}

#[test]
fn a_dense_layer_is_its_product_with_bias_and_activation_on_cpu() {
    a_dense_layer_is_its_product_with_bias_and_activation(&Device::cpu());
}

mod on_adapter {
    use super::*;

    #[test]
    fn a_dense_layer_is_its_product_with_bias_and_activation() {
        super::a_dense_layer_is_its_product_with_bias_and_activation(&adapter());
    }

    #[test]
    fn every_candidate_computes_the_product() {
        super::every_candidate_computes_the_product(&adapter());
    }

    #[test]
    fn every_candidate_computes_the_product_with_checks_of_every_index() {
        super::every_candidate_computes_the_product(&checked_adapter());
    }
}

/// A device with cooperative matrices, and the kernels for hardware; `None`, and a line that says so, where no adapter offers them.
fn with_matrices() -> Option<Device> {
    let options = GpuOptions {
        software: Software::Fallback,
        schedule_as: Some(AdapterKind::Discrete),
        matrices: Matrices::Cooperative,
        ..GpuOptions::default()
    };
    let device = Device::gpu(&options).unwrap_or_else(|error| panic!("{error}"));
    if device.capabilities().cooperative.is_none() {
        println!("skipped: {device} has no cooperative matrices");
        return None;
    }
    Some(device)
}

mod on_adapter_with_cooperative_matrices {
    use super::*;

    /// Of the product of two numbers that are rounded to f16, each of which is off by up to 2⁻¹¹ of its size; and sums in f32 in
    /// another order.
    fn tolerance(sum_of_sizes: f32) -> f32 {
        let (rounding, sums) = (2.0 * 2f32.powi(-11) + 2f32.powi(-22), 2e-5);
        sum_of_sizes * (rounding + sums)
    }

    #[test]
    fn every_candidate_computes_the_product_within_the_rounding_of_f16() {
        let Some(device) = with_matrices() else { return };
        let mut count = 0;
        for whole in [
            Matmul::plain(33, 70, 64),
            Matmul::plain(33, 72, 64),
            Matmul { accumulate: 1, ..Matmul::plain(130, 140, 1) },
            Matmul { accumulate: 1, ..Matmul::plain(130, 140, 4) },
            Matmul::plain(65, 132, 516),
            Matmul { accumulate: 1, ..dense(140, 150, 1032) },
            dense(65, 200, 44),
            Matmul::plain(65, 129, 515),
            turned(40, 300, 77),
            Matmul { accumulate: 1, ..turned(140, 150, 1030) },
        ] {
            let Matmul { m, n, k, .. } = whole;
            let exact = ProductLaunch { tile: ProductTile::Tile64x64, shares: 1, parts: 1 };
            let expected = product(&Device::cpu(), exact, whole);
            // Of the sizes of the terms: the same product of numbers without signs.
            let sizes = product_of(&Device::cpu(), exact, whole, f32::abs);
            let launches = ProductLaunch::candidates(&whole, device.capabilities());
            for launch in launches.into_iter().filter(|launch| format!("{:?}", launch.tile).contains("Cooperative")) {
                let given = product(&device, launch, whole);
                assert_eq!(given.len() as u32, m * n);
                for (at, (g, e)) in given.iter().zip(&expected).enumerate() {
                    let most = tolerance(sizes[at]);
                    assert!((g - e).abs() <= most, "{launch:?}, K = {k}: C[{at}] is {g}, expected {e} ± {most}");
                }
                let again = product(&device, launch, whole);
                assert!(given.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits()), "{launch:?} of {whole:?}");
                count += 1;
            }
        }
        assert!(count >= 5, "{count} launches");
    }

    /// A model's large products of the forward pass take them, its gradients none; without the option all are in f32.
    #[test]
    fn models_take_them_for_forward_passes_alone() {
        let Some(device) = with_matrices() else { return };
        let layers = || Sequential::new(256).add(Lstm::new(64)).add(Dense::new(128));
        let plain = GpuOptions { software: Software::Fallback, ..GpuOptions::default() };
        let x = Draw::new(5).array3((16, 32, 256));
        let [mut given, mut expected] =
            [device, Device::gpu(&plain).unwrap()].map(|device| layers().build(&device, 1).unwrap());
        let count = |plan: &wgpu_lstm::plan::Plan| {
            ["matmul_cooperative_8", "matmul_cooperative_16"].map(|name| plan.dispatches_of(name)).iter().sum::<usize>()
        };
        given.compile(wgpu_lstm::Loss::MeanSquaredError, wgpu_lstm::Optimiser::adam(1e-3)).unwrap();
        expected.compile(wgpu_lstm::Loss::MeanSquaredError, wgpu_lstm::Optimiser::adam(1e-3)).unwrap();
        let [of_given, of_expected] = [&given, &expected].map(|model| count(&model.training_plan(16, 32).unwrap()));
        assert!((1..=2).contains(&of_given) && of_expected == 0, "{of_given} and {of_expected}");
        // Rounding two operands puts a term off by 2^-10 of it. W·x has 256 terms of about 1/2 · 1/16: at worst 8e-3 off, and
        // 5e-4 if the signs are at random, before gates at most 1/4 steep; then 64 weights of about 1/16 of the dense layer sum up h.
        let (given, expected) = (given.predict(x.view()).unwrap(), expected.predict(x.view()).unwrap());
        common::close("predictions", &given, &expected, 5e-3, 0.0);
        assert_ne!(given, expected, "rounded to f16");
    }
}

/// Devices with cooperative matrices take them for large products of forward passes, and never for few rows.
#[test]
fn cooperative_matrices_are_for_large_products() {
    for (side, tile) in [(8, ProductTile::Cooperative8), (16, ProductTile::Cooperative16)] {
        let cooperative = Some(CooperativeMatrices { side, subgroup_threads: 32 });
        let gpu = Capabilities { cooperative, ..Capabilities::default() };
        let choice = |product| ProductLaunch::choose(&product, &gpu).tile;
        assert_eq!(choice(Matmul::plain(4096, 2048, 512)), tile);
        assert_ne!(choice(Matmul::plain(16, 2048, 512)), tile);
        // More terms than a workgroup's loops may have.
        assert_ne!(choice(Matmul::plain(4096, 4096, 30_000)), tile);
    }
    let none = ProductLaunch::candidates(&Matmul::plain(4096, 2048, 512), &Capabilities::default());
    assert!(none.iter().all(|launch| !format!("{:?}", launch.tile).contains("Cooperative")));
}

/// The estimate prefers what its reasons say: large tiles where there are many, shares of the terms where there are few tiles, and
/// the kernel for few rows there.
#[test]
fn the_choice_follows_the_shape() {
    let gpu = Capabilities::default();
    let choice = |product| ProductLaunch::choose(&product, &gpu);
    let large = choice(Matmul::plain(4096, 4096, 1024));
    assert_eq!((large.tile, large.parts), (ProductTile::Tile128x64, 1));
    let small = choice(Matmul::plain(128, 256, 512));
    assert_eq!(small.tile, ProductTile::Tile64x64);
    let long = choice(turned(96, 256, 8192));
    assert!(long.tile != ProductTile::Skinny && long.parts > 1, "{long:?}");
    for m in [1, 3, 16] {
        let skinny = choice(Matmul::plain(m, 2048, 512));
        assert_eq!((skinny.tile, skinny.parts), (ProductTile::Skinny, 1), "{m} rows");
        // 128 subgroups of 64 threads are 32 workgroups.
        assert!(2048u32.div_ceil(1024 / skinny.shares) >= 32, "{m} rows: {skinny:?}");
        // Columns that lie side by side and do not come by fours have tiles; those of a dense layer do not matter.
        assert_ne!(choice(Matmul::plain(m, 2047, 512)).tile, ProductTile::Skinny);
        for n in [1, 9, 2047] {
            assert_eq!(choice(dense(m, n, 512)).tile, ProductTile::Skinny, "{m} rows, {n} columns");
        }
    }
    // A layer of few inputs has a long product of few rows.
    let narrow = choice(turned(3, 512, 16_384));
    assert!(narrow.tile == ProductTile::Skinny && narrow.parts > 1, "{narrow:?}");
}

/// The CPU sums all terms in one go, and software adapters keep the kernel without workgroup memory.
#[test]
fn devices_that_are_soon_busy_have_no_parts() {
    for k in [64, 4096] {
        let cpu = ProductLaunch::candidates(&turned(64, 64, k), Device::cpu().capabilities());
        assert!(cpu.iter().all(|launch| launch.parts == 1), "{cpu:?}");
        let software = Capabilities { workgroup_tiles: false, busy_threads: 32, ..Capabilities::default() };
        let [only] = ProductLaunch::candidates(&turned(64, 64, k), &software)[..] else { panic!("one way") };
        assert_eq!(only, ProductLaunch { tile: ProductTile::Registers, shares: 1, parts: 1 });
    }
}

#[test]
fn a_way_that_does_not_fit_the_product_is_refused() {
    let whole = Matmul::plain(17, 64, 256);
    let mut plan = Builder::new("product", Capabilities::default());
    let [a, b, c] = [("a", 17 * 256), ("b", 64 * 256), ("c", 17 * 64)]
        .map(|(name, len)| plan.buffer(name, len, Role::Input).unwrap());
    let skinny = ProductLaunch { tile: ProductTile::Skinny, shares: 8, parts: 1 };
    let few = Matmul { m: 16, m_split: 16, ..whole };
    plan.matmul_by(skinny, few, a, b, c).unwrap();
    let apart = Matmul { c_m_lo: 65, m: 16, m_split: 16, ..whole };
    for (launch, product) in [
        (skinny, whole),
        (ProductLaunch { shares: 3, ..skinny }, few),
        (ProductLaunch { shares: 0, ..skinny }, few),
        (ProductLaunch { parts: 2, ..skinny }, apart), // parts of C would not be contiguous
        (ProductLaunch { parts: 0, ..skinny }, few),
    ] {
        let error = plan.matmul_by(launch, product, a, b, c).unwrap_err().to_string();
        assert!(error.contains("cannot compute the product"), "{launch:?}: {error}");
    }
}

/// A dense layer with a bias is one dispatch for few rows; for many, bias and activation come after the product.
#[test]
fn a_dense_layer_of_few_rows_is_one_dispatch() {
    let kernels = |rows: usize| -> Vec<&str> {
        let layer = [Node::new("dense", 512, Dense::new(9).activation(Activation::Tanh))];
        let plan = network(&layer, Batch::new(rows, 1), Purpose::Predict, &Capabilities::default()).unwrap().plan;
        plan.commands.iter().map(|command| command.call.kernel.name).collect()
    };
    assert_eq!(kernels(1), ["matmul_skinny_dense"]);
    assert_eq!(kernels(16), ["matmul_skinny_dense"]);
    assert_eq!([kernels(17)[0], kernels(17)[kernels(17).len() - 1]], ["matmul", "dense_forward"]);
}
