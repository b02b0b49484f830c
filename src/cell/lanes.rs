//! Vector registers that behave as numbers.

use super::GATES;
use crate::real::Number;
use crate::saturating::{self, Arithmetic};
use crate::simd::fuses;
use pulp::Simd;

/// A vector register of f32 numbers as a [`Number`]: what goes through a cell goes through for all of them.
#[derive(Clone, Copy)]
pub(crate) struct Lanes<S: Simd> {
    simd: S,
    values: S::f32s,
}

/// Numbers of [`Lanes`].
pub(crate) const LANES: usize = 8;

impl<S: Simd> Lanes<S> {
    #[inline(always)]
    pub fn of(simd: S, values: [f32; LANES]) -> Self {
        Lanes { simd, values: bytemuck::cast(values) }
    }

    #[inline(always)]
    pub fn array(self) -> [f32; LANES] {
        bytemuck::cast(self.values)
    }

    /// From the four gates of units 0 and 1, of 2 and 3, of 4 and 5, of 6 and 7: each gate of all units.
    #[inline(always)]
    pub fn by_gate(simd: S, pairs: [Self; GATES]) -> [Self; GATES] {
        let pairs: [_; GATES] = std::array::from_fn(|k| pairs[k].values);
        shuffle::by_gate(simd, pairs).map(|values| Lanes { simd, values })
    }

    /// The reverse of [`Lanes::by_gate`].
    #[inline(always)]
    pub fn by_unit(simd: S, gates: [Self; GATES]) -> [Self; GATES] {
        let gates: [_; GATES] = std::array::from_fn(|k| gates[k].values);
        shuffle::by_unit(simd, gates).map(|values| Lanes { simd, values })
    }
}

/// Transposes of 8 × 4. The compiler moves single numbers for the plain ones, which takes a third of a cell's time; so where
/// the instructions are known they are named.
mod shuffle {
    use super::{GATES, LANES};
    use pulp::Simd;
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    use x86::{four_by_four, halves, known};

    #[inline(always)]
    pub fn by_gate<S: Simd>(simd: S, pairs: [S::f32s; GATES]) -> [S::f32s; GATES] {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        if let Some(v3) = known(simd) {
            // units 0 and 4, 1 and 5, 2 and 6, 3 and 7, then each gate
            let [p, q, r, s] = pairs.map(bytemuck::cast);
            let ([a, b], [c, d]) = (halves(v3, p, r), halves(v3, q, s));
            return four_by_four(v3, [a, b, c, d]).map(bytemuck::cast);
        }
        let _ = simd;
        let pairs: [[f32; LANES]; GATES] = pairs.map(bytemuck::cast);
        let gate = |gate: usize| std::array::from_fn::<f32, LANES, _>(|u| pairs[u / 2][u % 2 * GATES + gate]);
        std::array::from_fn(|k| bytemuck::cast(gate(k)))
    }

    #[inline(always)]
    pub fn by_unit<S: Simd>(simd: S, gates: [S::f32s; GATES]) -> [S::f32s; GATES] {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        if let Some(v3) = known(simd) {
            // units 0 and 4, 1 and 5, 2 and 6, 3 and 7, then neighbours
            let [a, b, c, d] = four_by_four(v3, gates.map(bytemuck::cast));
            let ([p, r], [q, s]) = (halves(v3, a, b), halves(v3, c, d));
            return [p, q, r, s].map(bytemuck::cast);
        }
        let _ = simd;
        let gates: [[f32; LANES]; GATES] = gates.map(bytemuck::cast);
        let pair = |p: usize| std::array::from_fn::<f32, LANES, _>(|k| gates[k % GATES][2 * p + k / GATES]);
        std::array::from_fn(|k| bytemuck::cast(pair(k)))
    }

    /// The lowest bits moved to where an f32 has its exponent.
    #[inline(always)]
    pub fn shift_to_exponent<S: Simd>(simd: S, values: S::f32s) -> S::f32s {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        if let Some(v3) = known(simd) {
            let shifted = v3.avx2._mm256_slli_epi32::<23>(bytemuck::cast(values));
            return bytemuck::cast(shifted);
        }
        let _ = simd;
        let values: [u32; LANES] = bytemuck::cast(values);
        bytemuck::cast(values.map(|bits| bits << 23))
    }

    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    mod x86 {
        use super::GATES;
        use pulp::{Simd, x86::V3};
        use std::any::Any;
        #[cfg(target_arch = "x86")]
        use std::arch::x86::__m256;
        #[cfg(target_arch = "x86_64")]
        use std::arch::x86_64::__m256;

        /// The instructions, where they are AVX2's.
        #[inline(always)]
        pub fn known<S: Simd>(simd: S) -> Option<V3> {
            (&simd as &dyn Any).downcast_ref::<V3>().copied()
        }

        /// The lower halves of two registers in one, and the upper ones.
        #[inline(always)]
        pub fn halves(v3: V3, x: __m256, y: __m256) -> [__m256; 2] {
            [v3.avx._mm256_permute2f128_ps::<0x20>(x, y), v3.avx._mm256_permute2f128_ps::<0x31>(x, y)]
        }

        /// Transposes 4 × 4 in the lower halves, and in the upper ones.
        #[inline(always)]
        pub fn four_by_four(v3: V3, [a, b, c, d]: [__m256; GATES]) -> [__m256; GATES] {
            let avx = v3.avx;
            let (ab, cd) = (avx._mm256_unpacklo_ps(a, b), avx._mm256_unpacklo_ps(c, d));
            let (ab_high, cd_high) = (avx._mm256_unpackhi_ps(a, b), avx._mm256_unpackhi_ps(c, d));
            [
                avx._mm256_shuffle_ps::<0x44>(ab, cd),
                avx._mm256_shuffle_ps::<0xee>(ab, cd),
                avx._mm256_shuffle_ps::<0x44>(ab_high, cd_high),
                avx._mm256_shuffle_ps::<0xee>(ab_high, cd_high),
            ]
        }
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $on_f32s:ident) => {
        impl<S: Simd> std::ops::$trait for Lanes<S> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Lanes { values: self.simd.$on_f32s(self.values, other.values), ..self }
            }
        }
    };
}

operator!(Add, add, add_f32s);
operator!(Sub, sub, sub_f32s);
operator!(Mul, mul, mul_f32s);
operator!(Div, div, div_f32s);

impl<S: Simd> Arithmetic for Lanes<S> {
    #[inline(always)]
    fn multiply_add(self, factor: Self, sum: Self) -> Self {
        if fuses::<S>() {
            Lanes { values: self.simd.mul_add_e_f32s(self.values, factor.values, sum.values), ..self }
        } else {
            self * factor + sum
        }
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        Lanes { values: shuffle::shift_to_exponent(self.simd, self.values), ..self }
    }
}

impl<S: Simd> Number for Lanes<S> {
    #[inline(always)]
    fn constant(self, value: f32) -> Self {
        Lanes { values: self.simd.splat_f32s(value), ..self }
    }

    #[inline(always)]
    fn below(self, limit: Self, then: Self, otherwise: Self) -> Self {
        let mask = self.simd.less_than_f32s(self.values, limit.values);
        Lanes { values: self.simd.select_f32s(mask, then.values, otherwise.values), ..self }
    }

    #[inline(always)]
    fn magnitude(self) -> Self {
        Lanes { values: self.simd.abs_f32s(self.values), ..self }
    }

    #[inline(always)]
    fn smaller_logistic(self) -> Self {
        saturating::smaller_logistic(self)
    }

    #[inline(always)]
    fn hyperbolic_terms(self) -> [Self; 2] {
        saturating::hyperbolic_terms(self)
    }

    // Only activations that few layers have need these: one number after the other.
    #[inline(always)]
    fn exponential(self) -> Self {
        Lanes::of(self.simd, self.array().map(f32::exp))
    }

    #[inline(always)]
    fn exponential_minus_one(self) -> Self {
        Lanes::of(self.simd, self.array().map(f32::exp_m1))
    }

    #[inline(always)]
    fn logarithm_of_one_plus(self) -> Self {
        Lanes::of(self.simd, self.array().map(f32::ln_1p))
    }
}
