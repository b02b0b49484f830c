//! Vector registers as numbers.

use super::GATES;
use crate::real::Number;
use crate::real::saturating::{self, Arithmetic};
use crate::simd::Isa;

/// A vector register of f32 numbers as a [`Number`]: a cell's equations run on all of them at once.
#[derive(Clone, Copy)]
pub(crate) struct Lanes<S: Isa> {
    simd: S,
    values: S::f32s,
}

/// Numbers of [`Lanes`].
#[inline(always)]
pub(crate) const fn lanes<S: Isa>() -> usize {
    size_of::<S::Floats>() / size_of::<f32>()
}

impl<S: Isa> Lanes<S> {
    #[inline(always)]
    pub fn of(simd: S, values: S::Floats) -> Self {
        Lanes { simd, values: bytemuck::cast(values) }
    }

    #[inline(always)]
    pub fn array(self) -> S::Floats {
        bytemuck::cast(self.values)
    }

    /// A function of each number.
    #[inline(always)]
    fn each(self, function: impl Fn(f32) -> f32) -> Self {
        let mut values = self.array();
        values.as_mut().iter_mut().for_each(|value| *value = function(*value));
        Lanes::of(self.simd, values)
    }

    /// Transposes registers with all gates of neighbouring units, a quarter of the units each, to one for each gate of all units.
    #[inline(always)]
    pub fn by_gate(simd: S, quarters: [Self; GATES]) -> [Self; GATES] {
        let quarters: [_; GATES] = std::array::from_fn(|k| quarters[k].values);
        named::by_gate(simd, quarters).map(|values| Lanes { simd, values })
    }

    /// The reverse of [`Lanes::by_gate`].
    #[inline(always)]
    pub fn by_unit(simd: S, gates: [Self; GATES]) -> [Self; GATES] {
        let gates: [_; GATES] = std::array::from_fn(|k| gates[k].values);
        named::by_unit(simd, gates).map(|values| Lanes { simd, values })
    }
}

/// Operations that are faster with named instructions, on processors that have them: transposes of units and gates (the compiler
/// moves single numbers, which takes a third of a cell's time) and operations on signs and bits.
mod named {
    use super::{GATES, lanes};
    use crate::simd::Isa;
    #[cfg(target_arch = "aarch64")]
    use pulp::aarch64::Neon;
    #[cfg(target_arch = "x86_64")]
    use pulp::x86::V4;
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    use {
        pulp::x86::V3,
        x86::{four_by_four, halves},
    };

    /// A set of instructions, if it is the one in use.
    #[cfg(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64"))]
    #[inline(always)]
    fn known<S: Isa, T: Copy + 'static>(simd: S) -> Option<T> {
        (&simd as &dyn std::any::Any).downcast_ref::<T>().copied()
    }

    #[inline(always)]
    pub fn by_gate<S: Isa>(simd: S, quarters: [S::f32s; GATES]) -> [S::f32s; GATES] {
        #[cfg(target_arch = "x86_64")]
        if let Some(v4) = known::<S, V4>(simd) {
            return x86::by_gate(v4, quarters.map(bytemuck::cast)).map(bytemuck::cast);
        }
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        if let Some(v3) = known::<S, V3>(simd) {
            // units 0 and 4, 1 and 5, 2 and 6, 3 and 7, then each gate
            let [p, q, r, s] = quarters.map(bytemuck::cast);
            let ([a, b], [c, d]) = (halves(v3, p, r), halves(v3, q, s));
            return four_by_four(v3, [a, b, c, d]).map(bytemuck::cast);
        }
        #[cfg(target_arch = "aarch64")]
        if let Some(neon) = known::<S, Neon>(simd) {
            return four_by_four(neon, quarters.map(bytemuck::cast)).map(bytemuck::cast);
        }
        let _ = simd;
        let quarters: [S::Floats; GATES] = quarters.map(bytemuck::cast);
        let all: &[f32] = bytemuck::cast_slice(&quarters);
        std::array::from_fn(|gate| {
            let mut values: S::Floats = bytemuck::Zeroable::zeroed();
            values.as_mut().iter_mut().enumerate().for_each(|(unit, value)| *value = all[unit * GATES + gate]);
            bytemuck::cast(values)
        })
    }

    #[inline(always)]
    pub fn by_unit<S: Isa>(simd: S, gates: [S::f32s; GATES]) -> [S::f32s; GATES] {
        #[cfg(target_arch = "x86_64")]
        if let Some(v4) = known::<S, V4>(simd) {
            return x86::by_unit(v4, gates.map(bytemuck::cast)).map(bytemuck::cast);
        }
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        if let Some(v3) = known::<S, V3>(simd) {
            // units 0 and 4, 1 and 5, 2 and 6, 3 and 7, then neighbours
            let [a, b, c, d] = four_by_four(v3, gates.map(bytemuck::cast));
            let ([p, r], [q, s]) = (halves(v3, a, b), halves(v3, c, d));
            return [p, q, r, s].map(bytemuck::cast);
        }
        #[cfg(target_arch = "aarch64")]
        if let Some(neon) = known::<S, Neon>(simd) {
            return four_by_four(neon, gates.map(bytemuck::cast)).map(bytemuck::cast);
        }
        let _ = simd;
        let gates: [S::Floats; GATES] = gates.map(bytemuck::cast);
        std::array::from_fn(|quarter| {
            let mut values: S::Floats = bytemuck::Zeroable::zeroed();
            let first = quarter * lanes::<S>() / GATES;
            for (k, value) in values.as_mut().iter_mut().enumerate() {
                *value = gates[k % GATES].as_ref()[first + k / GATES];
            }
            bytemuck::cast(values)
        })
    }

    /// `negative` where a number's sign bit is set, else `positive`.
    #[inline(always)]
    pub fn by_sign<S: Isa>(simd: S, x: S::f32s, negative: S::f32s, positive: S::f32s) -> S::f32s {
        #[cfg(target_arch = "x86_64")]
        if let Some(v4) = known::<S, V4>(simd) {
            let (negative, positive) = (bytemuck::cast(negative), bytemuck::cast(positive));
            let signs = v4.avx512dq._mm512_movepi32_mask(bytemuck::cast(x));
            return bytemuck::cast(v4.avx512f._mm512_mask_blend_ps(signs, positive, negative));
        }
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        if let Some(v3) = known::<S, V3>(simd) {
            let (x, negative, positive) = (bytemuck::cast(x), bytemuck::cast(negative), bytemuck::cast(positive));
            return bytemuck::cast(v3.avx._mm256_blendv_ps(positive, negative, x));
        }
        #[cfg(target_arch = "aarch64")]
        if let Some(neon) = known::<S, Neon>(simd) {
            let signs = neon.neon.vcltzq_s32(bytemuck::cast(x));
            let (negative, positive) = (bytemuck::cast(negative), bytemuck::cast(positive));
            return bytemuck::cast(neon.neon.vbslq_f32(signs, negative, positive));
        }
        simd.select_f32s(simd.less_than_f32s(x, simd.splat_f32s(0.0)), negative, positive)
    }

    /// A number of at least 0 with the sign bit of another.
    #[inline(always)]
    pub fn with_sign_of<S: Isa>(simd: S, size: S::f32s, other: S::f32s) -> S::f32s {
        #[cfg(target_arch = "x86_64")]
        if known::<S, V4>(simd).is_some() {
            return simd.or_f32s(size, simd.and_f32s(other, simd.splat_f32s(-0.0)));
        }
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        if let Some(v3) = known::<S, V3>(simd) {
            let (size, other) = (bytemuck::cast(size), bytemuck::cast(other));
            let sign = v3.avx._mm256_and_ps(other, v3.avx._mm256_set1_ps(-0.0));
            return bytemuck::cast(v3.avx._mm256_or_ps(size, sign));
        }
        #[cfg(target_arch = "aarch64")]
        if let Some(neon) = known::<S, Neon>(simd) {
            let sign = bytemuck::cast(simd.splat_f32s(-0.0));
            return bytemuck::cast(neon.neon.vbslq_f32(sign, bytemuck::cast(other), bytemuck::cast(size)));
        }
        by_sign(simd, other, simd.neg_f32s(size), size)
    }

    /// The smaller of two; x if x is NaN.
    #[inline(always)]
    pub fn at_most<S: Isa>(simd: S, x: S::f32s, limit: S::f32s) -> S::f32s {
        // The instruction returns its second operand if one is NaN.
        #[cfg(target_arch = "x86_64")]
        if let Some(v4) = known::<S, V4>(simd) {
            return bytemuck::cast(v4.avx512f._mm512_min_ps(bytemuck::cast(limit), bytemuck::cast(x)));
        }
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        if let Some(v3) = known::<S, V3>(simd) {
            return bytemuck::cast(v3.avx._mm256_min_ps(bytemuck::cast(limit), bytemuck::cast(x)));
        }
        simd.select_f32s(simd.less_than_f32s(limit, x), limit, x)
    }

    /// Moves the lowest bits to the place of an f32's exponent.
    #[inline(always)]
    pub fn shift_to_exponent<S: Isa>(simd: S, values: S::f32s) -> S::f32s {
        #[cfg(target_arch = "x86_64")]
        if let Some(v4) = known::<S, V4>(simd) {
            return bytemuck::cast(v4.avx512f._mm512_slli_epi32::<23>(bytemuck::cast(values)));
        }
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        if let Some(v3) = known::<S, V3>(simd) {
            let shifted = v3.avx2._mm256_slli_epi32::<23>(bytemuck::cast(values));
            return bytemuck::cast(shifted);
        }
        #[cfg(target_arch = "aarch64")]
        if let Some(neon) = known::<S, Neon>(simd) {
            return bytemuck::cast(neon.neon.vshlq_n_u32::<23>(bytemuck::cast(values)));
        }
        let _ = simd;
        let mut values: S::Floats = bytemuck::cast(values);
        values.as_mut().iter_mut().for_each(|value| *value = f32::from_bits(value.to_bits() << 23));
        bytemuck::cast(values)
    }

    /// Transposes 4 × 4; its own reverse.
    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    fn four_by_four(neon: Neon, [a, b, c, d]: [std::arch::aarch64::float32x4_t; GATES]) -> [pulp::f32x4; GATES] {
        let neon = neon.neon;
        let pairs = [neon.vtrn1q_f32(a, b), neon.vtrn2q_f32(a, b), neon.vtrn1q_f32(c, d), neon.vtrn2q_f32(c, d)];
        let [ab_02, ab_13, cd_02, cd_13] = pairs.map(bytemuck::cast);
        let lower = |x, y| bytemuck::cast(neon.vtrn1q_f64(x, y));
        let upper = |x, y| bytemuck::cast(neon.vtrn2q_f64(x, y));
        [lower(ab_02, cd_02), lower(ab_13, cd_13), upper(ab_02, cd_02), upper(ab_13, cd_13)]
    }

    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    mod x86 {
        use super::GATES;
        use pulp::x86::V3;
        #[cfg(target_arch = "x86")]
        use std::arch::x86::__m256;
        #[cfg(target_arch = "x86_64")]
        use {
            pulp::x86::V4,
            std::arch::x86_64::{__m256, __m512},
        };

        /// Combines the lower halves of two registers, and their upper halves.
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

        /// Chooses sixteen numbers of two registers: below 16 of the first, from 16 on of the second.
        #[cfg(target_arch = "x86_64")]
        #[inline(always)]
        fn choose(v4: V4, x: __m512, y: __m512, indices: [u32; 16]) -> __m512 {
            v4.avx512f._mm512_permutex2var_ps(x, bytemuck::cast(indices), y)
        }

        /// Combines the lower halves of two registers, and their upper halves.
        #[cfg(target_arch = "x86_64")]
        #[inline(always)]
        fn wide_halves(v4: V4, x: __m512, y: __m512) -> [__m512; 2] {
            [v4.avx512f._mm512_shuffle_f32x4::<0x44>(x, y), v4.avx512f._mm512_shuffle_f32x4::<0xee>(x, y)]
        }

        /// Transposes units 0 to 3, 4 to 7, 8 to 11 and 12 to 15 to each gate of all units.
        #[cfg(target_arch = "x86_64")]
        #[inline(always)]
        pub fn by_gate(v4: V4, [p, q, r, s]: [__m512; GATES]) -> [__m512; GATES] {
            // Two gates of eight units, one after the other.
            const GATES_0_1: [u32; 16] = [0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29];
            const GATES_2_3: [u32; 16] = [2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31];
            let [i, f] = wide_halves(v4, choose(v4, p, q, GATES_0_1), choose(v4, r, s, GATES_0_1));
            let [g, o] = wide_halves(v4, choose(v4, p, q, GATES_2_3), choose(v4, r, s, GATES_2_3));
            [i, f, g, o]
        }

        /// The reverse of [`by_gate`].
        #[cfg(target_arch = "x86_64")]
        #[inline(always)]
        pub fn by_unit(v4: V4, [i, f, g, o]: [__m512; GATES]) -> [__m512; GATES] {
            // All gates of four of eight units, whose gates 0 and 1 are in the first register, 2 and 3 in the second.
            const LOWER: [u32; 16] = [0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27];
            const UPPER: [u32; 16] = [4, 12, 20, 28, 5, 13, 21, 29, 6, 14, 22, 30, 7, 15, 23, 31];
            let ([a, b], [c, d]) = (wide_halves(v4, i, f), wide_halves(v4, g, o));
            [choose(v4, a, c, LOWER), choose(v4, a, c, UPPER), choose(v4, b, d, LOWER), choose(v4, b, d, UPPER)]
        }
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $on_f32s:ident) => {
        impl<S: Isa> std::ops::$trait for Lanes<S> {
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

impl<S: Isa> Arithmetic for Lanes<S> {
    #[inline(always)]
    fn multiply_add(self, factor: Self, sum: Self) -> Self {
        if S::FUSES {
            Lanes { values: self.simd.mul_add_e_f32s(self.values, factor.values, sum.values), ..self }
        } else {
            self * factor + sum
        }
    }

    #[inline(always)]
    fn less_logarithms(self, k: Self) -> Self {
        if S::FUSES {
            // ln 2 in f32 is off by 1.9e-9: 2.4e-7 at the largest k, 126.
            k.multiply_add(self.constant(-std::f32::consts::LN_2), self)
        } else {
            saturating::less_logarithms_in_parts(self, k)
        }
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        Lanes { values: named::shift_to_exponent(self.simd, self.values), ..self }
    }
}

impl<S: Isa> Number for Lanes<S> {
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
        let all_but_sign = self.simd.splat_f32s(f32::from_bits(!(1 << 31)));
        Lanes { values: self.simd.and_f32s(self.values, all_but_sign), ..self }
    }

    #[inline(always)]
    fn by_sign(self, negative: Self, positive: Self) -> Self {
        Lanes { values: named::by_sign(self.simd, self.values, negative.values, positive.values), ..self }
    }

    #[inline(always)]
    fn with_sign_of(self, other: Self) -> Self {
        Lanes { values: named::with_sign_of(self.simd, self.values, other.values), ..self }
    }

    #[inline(always)]
    fn at_most(self, other: Self) -> Self {
        Lanes { values: named::at_most(self.simd, self.values, other.values), ..self }
    }

    #[inline(always)]
    fn smaller_logistic(self) -> Self {
        saturating::smaller_logistic(self)
    }

    #[inline(always)]
    fn hyperbolic_terms(self) -> [Self; 2] {
        saturating::hyperbolic_terms(self)
    }

    // Only rare activations need these, so they run one number at a time.
    #[inline(always)]
    fn exponential(self) -> Self {
        self.each(f32::exp)
    }

    #[inline(always)]
    fn exponential_minus_one(self) -> Self {
        self.each(f32::exp_m1)
    }

    #[inline(always)]
    fn logarithm_of_one_plus(self) -> Self {
        self.each(f32::ln_1p)
    }
}

#[cfg(test)]
mod tests {
    use crate::cell::{Cell, ForwardRow, GATES, Settings};

    /// Saved gates of the standard cell for sums `a`, [4 gates][sums].
    fn saved<F: crate::real::Real>(forward: fn(ForwardRow<F>), a: &[f32]) -> Vec<Vec<F>> {
        let n = a.len();
        let zero = F::of(0.0);
        let wx: Vec<F> = a.iter().flat_map(|&a| [F::of(a); GATES]).collect();
        let zeros = vec![zero; GATES * n];
        let (mut c, mut h) = (vec![zero; n], vec![zero; n]);
        let mut all = vec![vec![zero; n]; GATES];
        let mut planes: Vec<&mut [F]> = all.iter_mut().map(Vec::as_mut_slice).collect();
        forward(ForwardRow {
            wx: &wx,
            rh: &zeros,
            bias: &zeros,
            extra: &[],
            settings: Settings::default(),
            states: &mut c,
            h: &mut h,
            saved: &mut planes,
        });
        all
    }

    /// Registers have σ and tanh as accurate in both tails as single numbers.
    #[test]
    fn both_tails_are_right_in_registers() {
        let sums: Vec<f32> = (-87_000..87_000).map(|k| k as f32 * 1e-3 + 3e-4).collect();
        let (forward, wide) = Cell::Standard.spec().forward_row;
        let (given, right) = (saved(forward, &sums), saved(wide, &sums));
        for (gate, (given, right)) in given.iter().zip(&right).enumerate() {
            for ((&given, &right), sum) in given.iter().zip(right).zip(&sums) {
                // tanh saturates at a distance of 2^-125 from its limit.
                if gate == 2 && sum.abs() > 43.0 {
                    continue;
                }
                let error = (f64::from(given) - right).abs();
                assert!(error <= 5e-7 * right.abs(), "gate {gate} at {sum}: {given:e}, expected {right:e}");
            }
        }
        let nan = saved(forward, &[f32::NAN; 9]);
        assert!(nan.iter().flatten().all(|value| value.is_nan()));
    }
}
