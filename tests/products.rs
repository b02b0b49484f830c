//! Every way to compute a product: the same numbers, whatever kernel, tile and division of the terms, and the choice among them.

mod common;

use common::{Draw, adapter, checked_adapter};
use wgpu_lstm::kernel::{self, DenseConstants, DenseForward, Matmul, MatmulSkinnyDenseConstants};
use wgpu_lstm::network::{Batch, Node, Purpose, network};
use wgpu_lstm::plan::Role;
use wgpu_lstm::schedule::{Builder, ProductLaunch, ProductTile};
use wgpu_lstm::{Activation, Capabilities, Dense, Device};

/// C = A·B in a given way, from the same numbers each time; with `accumulate`, C += A·B.
fn product(device: &Device, launch: ProductLaunch, product: Matmul) -> Vec<f32> {
    let Matmul { m, n, k, .. } = product;
    let mut plan = Builder::new("product", device.capabilities().clone());
    let lens = [(m, k), (k, n), (m, n)].map(|(rows, columns)| rows as u64 * columns as u64);
    let buffers: Vec<_> =
        ["a", "b", "c"].iter().zip(lens).map(|(name, len)| plan.buffer(*name, len, Role::Input).unwrap()).collect();
    plan.matmul_by(launch, product, buffers[0], buffers[1], buffers[2]).unwrap();
    let executable = device.compile(plan.finish().unwrap()).unwrap();
    let mut draw = Draw::new(11);
    for (&buffer, len) in buffers.iter().zip(lens) {
        executable.write((buffer, 0), &draw.vec(len as usize)).unwrap();
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
        assert_eq!(run(true), run(false), "{device}: {product:?}, activation {activation}");
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

/// The estimate prefers what its reasons say: large tiles where there are many, shares of the terms where there are few tiles, and
/// the kernel for few rows there.
#[test]
fn the_choice_follows_the_shape() {
    let gpu = Capabilities::default();
    let choice = |product| ProductLaunch::choose(&product, &gpu);
    let large = choice(Matmul::plain(4096, 4096, 1024));
    assert_eq!((large.tile, large.parts), (ProductTile::Tile128x128, 1));
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
