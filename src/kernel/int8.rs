//! Conversion to whole numbers with factors.

use super::declare::{kernel, params};
use super::{Call, NoConstants, Region, Touch};
use crate::cell::GATES;
use crate::cpu::Args;
use crate::real::Real;

params! {
    /// Weights [D, terms, units] of four gates as whole numbers: four terms of a gate to an element, and a factor for each gate of a unit.
    Int8 {
        /// D.
        directions: u32,
        /// Terms of a unit.
        terms: u32,
        /// Units.
        units: u32,
    }
}

kernel! {
    /// Weights as whole numbers from −127 to 127, packed by fours of terms [D, fours, units] of 4 gates, and behind them the factors
    /// [D, units] of 4 gates.
    INT8 = int8(Int8, NoConstants) {
        bindings: [read src, write dst],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.directions, p.units], flops: 12 * p.terms as u64,
        touches: |p| [
            Touch::reads(Region::span(0, p.directions * p.terms, 4 * p.units)),
            Touch::writes(Region::span(0, p.directions * (p.terms.div_ceil(4) + 1), 4 * p.units)),
        ],
    }
}

/// Twin of `shaders/int8.wgsl`.
fn int8<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Int8 = call.params();
    let ([src], [dst], _) = args.parts(0);
    let [directions, terms, columns] = [p.directions, p.terms, GATES as u32 * p.units].map(|size| size as usize);
    let fours = terms.div_ceil(4);
    let value =
        |d: usize, k: usize, column: usize| src[(d * terms + k) * columns + column].to_f32().unwrap_or(f32::NAN);
    for d in 0..directions {
        for column in 0..columns {
            let largest = (0..terms).map(|k| value(d, k, column).abs()).fold(0.0, f32::max);
            let factor = largest / 127.0;
            let inverse = if factor == 0.0 { 0.0 } else { 1.0 / factor };
            for four in 0..fours {
                let whole = |k: usize| (value(d, k, column) * inverse).round_ties_even().clamp(-127.0, 127.0) as i8;
                let bytes = (4 * four..terms.min(4 * four + 4)).map(|k| whole(k) as u8 as u32);
                let packed = bytes.zip(0..).fold(0, |packed, (byte, n)| packed | byte << (8 * n));
                dst[(d * fours + four) * columns + column] = F::of_word(packed);
            }
            dst[(directions * fours + d) * columns + column] = F::of_word(factor.to_bits());
        }
    }
}

/// Weights that [`int8`] packed, as f32 [D, terms, units] of four gates, for the twins of kernels that read them.
pub(crate) fn unpacked<F: Real>(words: &[F], directions: usize, terms: usize, units: usize) -> Vec<F> {
    let (fours, columns) = (terms.div_ceil(4), GATES * units);
    let at = |d: usize, k: usize, column: usize| {
        let whole = (words[(d * fours + k / 4) * columns + column].word() >> (8 * (k % 4))) as u8 as i8;
        let factor = f32::from_bits(words[(directions * fours + d) * columns + column].word());
        F::of(whole as f32 * factor)
    };
    let rows = (0..directions).flat_map(|d| (0..terms).map(move |k| (d, k)));
    rows.flat_map(|(d, k)| (0..columns).map(move |column| at(d, k, column))).collect()
}
