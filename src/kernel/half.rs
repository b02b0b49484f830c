//! Conversion to f16.

use super::declare::{kernel, params};
use super::{Call, NoConstants, Region, Touch};
use crate::cpu::Args;
use crate::real::Real;
use half::f16;

params! {
    /// `dst[k]` = `src[2k]` and `src[2k + 1]` in f16.
    Half {
        /// Pairs.
        n: u32,
    }
}

kernel! {
    /// Numbers rounded to f16, two to an element.
    HALF = half(Half, NoConstants) {
        bindings: [read src, write dst],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.n], flops: 0,
        touches: |p| [Touch::reads(Region::span(0, 1, 2 * p.n)), Touch::writes(Region::span(0, 1, p.n))],
    }
}

/// Twin of `shaders/half.wgsl`.
fn half<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Half = call.params();
    let ([src], [dst], _) = args.parts(0);
    for (word, pair) in dst[..p.n as usize].iter_mut().zip(src.as_chunks::<2>().0) {
        let [low, high] = pair.map(|value| f16::from_f64(value.to_f64().unwrap_or(f64::NAN)).to_bits() as u32);
        *word = F::of_word(low | high << 16);
    }
}

/// Numbers that [`half`] rounded, as f32, for the twins of kernels that read f16. Only tests run such kernels on the CPU.
pub(super) fn widened<F: Real>(words: &[F]) -> Vec<F> {
    let halves = words.iter().flat_map(|word| [word.word() as u16, (word.word() >> 16) as u16]);
    halves.map(|bits| F::of(f16::from_bits(bits).to_f32())).collect()
}
