//! Numbers that the mathematics is written for.
//!
//! ```
//! use wgpu_lstm::real::{sigmoid, tanh};
//! assert_eq!(sigmoid(0.0f64), 0.5);
//! assert!((tanh(0.5f32) - 0.5f32.tanh()).abs() < 1e-7);
//! ```

use crate::simd::Vectors;

/// f32, which everything runs in, and f64, in which the tests hold gradients against central differences.
pub trait Real:
    num_traits::Float
    + ndarray::LinalgScalar
    + std::ops::AddAssign
    + std::ops::MulAssign
    + std::ops::SubAssign
    + std::iter::Sum
    + std::fmt::Debug
    + Default
    + Send
    + Sync
    + Vectors
{
    /// From a parameter of a kernel.
    fn of(value: f32) -> Self;
    /// e^x for x ≤ 0.
    fn exp_of_negative(self) -> Self;
    /// tanh; [`tanh`] is the same as a function.
    fn hyperbolic(self) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn of(value: f32) -> f32 {
        value
    }

    /// Plain arithmetic, so that loops over it become vector instructions; within 1.2e-7 of the exact value, relative.
    /// Polynomial: Moshier, Cephes, `expf`.
    #[inline(always)]
    fn exp_of_negative(self) -> f32 {
        const ROUND: f32 = 12_582_912.0; // 1.5·2^23: adding it leaves the nearest integer in the low bits
        const LN2_HIGH: f32 = 0.693_359_4; // few bits, so that n·LN2_HIGH is exact
        const LN2_LOW: f32 = -2.121_944_4e-4;
        // e^-87 is the smallest normal number. Written so that NaN stays NaN.
        let x = if self < -87.0 { -87.0 } else { self };
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = x - n * LN2_HIGH - n * LN2_LOW;
        let mut p = 1.987_569_1e-4;
        for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5] {
            p = p * r + coefficient;
        }
        let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits())); // 2^n
        (p * r * r + r + 1.0) * power
    }

    /// Polynomial near 0, where the quotient would lose digits: Moshier, Cephes, `tanhf`.
    #[inline(always)]
    fn hyperbolic(self) -> f32 {
        let square = self * self;
        let mut p = -5.704_988_7e-3;
        for coefficient in [2.063_908_8e-2, -5.373_971_6e-2, 0.133_314_42, -0.333_332_8] {
            p = p * square + coefficient;
        }
        let near = p * square * self + self;
        let e = (-2.0 * self.abs()).exp_of_negative();
        let far = ((1.0 - e) / (1.0 + e)).copysign(self);
        if self.abs() < 0.625 { near } else { far }
    }
}

impl Real for f64 {
    fn of(value: f32) -> f64 {
        f64::from(value)
    }

    fn exp_of_negative(self) -> f64 {
        self.exp()
    }

    fn hyperbolic(self) -> f64 {
        self.tanh()
    }
}

/// 1 / (1 + e^-x), safe for any finite x.
#[inline(always)]
pub fn sigmoid<F: Real>(x: F) -> F {
    let e = (-x.abs()).exp_of_negative();
    let top = if x >= F::zero() { F::one() } else { e };
    top / (F::one() + e)
}

/// (e^x − e^-x) / (e^x + e^-x), safe for any finite x.
#[inline(always)]
pub fn tanh<F: Real>(x: F) -> F {
    x.hyperbolic()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// f32's activations against the standard library's in f64, over the whole range and densely around 0.
    #[test]
    fn activations_are_accurate() {
        let steps = (-20_000..=20_000).map(|k| k as f32 * 1e-3);
        let tiny = (-60..60).map(|k| 2f32.powi(k) * 1.37);
        for x in steps.chain(tiny.clone()).chain(tiny.map(|x| -x)) {
            let wide = f64::from(x);
            let exact = wide.tanh();
            // 3 units in the last place
            assert!((f64::from(tanh(x)) - exact).abs() <= 3.6e-7 * exact.abs(), "tanh({x}) = {}", tanh(x));
            let exact = 1.0 / (1.0 + (-wide).exp());
            // below e^-87 the result stays at that
            assert!((f64::from(sigmoid(x)) - exact).abs() <= 3.6e-7 * exact + 2e-38, "sigmoid({x}) = {}", sigmoid(x));
        }
        assert!(tanh(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
        assert_eq!((tanh(f32::MAX), tanh(f32::MIN), sigmoid(f32::MAX)), (1.0, -1.0, 1.0));
    }
}
