//! Numbers that the mathematics is written for.
//!
//! ```
//! use wgpu_lstm::real::{sigmoid, tanh};
//! assert_eq!(sigmoid(0.0f64), 0.5);
//! assert!((tanh(0.5f32) - 0.5f32.tanh()).abs() < 1e-7);
//! ```

use crate::simd::Vectors;
use std::ops::{Add, Div, Mul, Sub};

/// What a cell is written in: a number, or several that go through the same steps.
pub trait Number: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> {
    /// 0.
    fn nothing(self) -> Self;
    /// 1 − x.
    fn one_minus(self) -> Self;
    /// 1 / (1 + e^-x); [`sigmoid`] is the same as a function.
    fn logistic(self) -> Self;
    /// [`tanh`] as a method.
    fn hyperbolic(self) -> Self;
}

/// f32, which everything runs in, and f64, in which the tests hold gradients against central differences.
pub trait Real:
    Number
    + num_traits::Float
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
}

impl Real for f32 {
    fn of(value: f32) -> f32 {
        value
    }
}

impl Real for f64 {
    fn of(value: f32) -> f64 {
        f64::from(value)
    }
}

/// 1 / (1 + e^-x), safe for any finite x.
#[inline(always)]
pub fn sigmoid<N: Number>(x: N) -> N {
    x.logistic()
}

/// (e^x − e^-x) / (e^x + e^-x), safe for any finite x.
#[inline(always)]
pub fn tanh<N: Number>(x: N) -> N {
    x.hyperbolic()
}

impl Number for f64 {
    fn nothing(self) -> f64 {
        0.0
    }

    fn one_minus(self) -> f64 {
        1.0 - self
    }

    fn logistic(self) -> f64 {
        let e = (-self.abs()).exp();
        (if self >= 0.0 { 1.0 } else { e }) / (1.0 + e)
    }

    fn hyperbolic(self) -> f64 {
        self.tanh()
    }
}

/// The arithmetic that f32's activations are made of, for one number or a vector of them. No operation loses a NaN.
pub(crate) trait Arithmetic:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// A constant, of the kind of `self`.
    fn constant(self, value: f32) -> Self;
    /// self·factor + sum, rounded once where the processor does that.
    fn multiply_add(self, factor: Self, sum: Self) -> Self;
    /// |x|.
    fn magnitude(self) -> Self;
    /// `then` where self < limit, else `otherwise`.
    fn below(self, limit: Self, then: Self, otherwise: Self) -> Self;
    /// 2^n, where self is n + 1.5·2^23.
    fn power_of_two(self) -> Self;
}

/// e^x for x ≤ 0, within 1.2e-7 of it. Polynomial: Moshier, Cephes, `expf`.
#[inline(always)]
fn exp_of_negative<A: Arithmetic>(x: A) -> A {
    let c = |value| x.constant(value);
    // e^-87 is the smallest normal number
    let x = x.below(c(-87.0), c(-87.0), x);
    // adding 1.5·2^23 leaves the nearest integer in the low bits
    let shifted = x.multiply_add(c(std::f32::consts::LOG2_E), c(12_582_912.0));
    let n = shifted - c(12_582_912.0);
    // ln 2 in two parts, the first of so few bits that its product with n is exact
    let r = n.multiply_add(c(2.121_944_4e-4), n.multiply_add(c(-0.693_359_4), x));
    let p = c(1.987_569_1e-4).multiply_add(r, c(1.398_199_9e-3));
    let p = p.multiply_add(r, c(8.333_452e-3)).multiply_add(r, c(4.166_579_6e-2));
    let p = p.multiply_add(r, c(0.166_666_66)).multiply_add(r, c(0.5));
    (p.multiply_add(r * r, r) + c(1.0)) * shifted.power_of_two()
}

#[inline(always)]
pub(crate) fn logistic<A: Arithmetic>(x: A) -> A {
    let one = x.constant(1.0);
    let e = exp_of_negative(x.constant(0.0) - x.magnitude());
    x.below(x.constant(0.0), e, one) / (one + e)
}

/// Near 0, where the quotient would lose digits, a polynomial: Moshier, Cephes, `tanhf`.
#[inline(always)]
pub(crate) fn hyperbolic<A: Arithmetic>(x: A) -> A {
    let (zero, one) = (x.constant(0.0), x.constant(1.0));
    let square = x * x;
    let p = x.constant(-5.704_988_7e-3).multiply_add(square, x.constant(2.063_908_8e-2));
    let p = p.multiply_add(square, x.constant(-5.373_971_6e-2)).multiply_add(square, x.constant(0.133_314_42));
    let p = p.multiply_add(square, x.constant(-0.333_332_8));
    let near = (p * square).multiply_add(x, x);
    let e = exp_of_negative(x.magnitude() * x.constant(-2.0));
    let far = (one - e) / (one + e);
    let far = x.below(zero, zero - far, far);
    x.magnitude().below(x.constant(0.625), near, far)
}

impl Arithmetic for f32 {
    #[inline(always)]
    fn constant(self, value: f32) -> f32 {
        value
    }

    #[inline(always)]
    fn multiply_add(self, factor: f32, sum: f32) -> f32 {
        self * factor + sum
    }

    #[inline(always)]
    fn magnitude(self) -> f32 {
        self.abs()
    }

    #[inline(always)]
    fn below(self, limit: f32, then: f32, otherwise: f32) -> f32 {
        if self < limit { then } else { otherwise }
    }

    #[inline(always)]
    fn power_of_two(self) -> f32 {
        f32::from_bits((self.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
    }
}

impl Number for f32 {
    #[inline(always)]
    fn nothing(self) -> f32 {
        0.0
    }

    #[inline(always)]
    fn one_minus(self) -> f32 {
        1.0 - self
    }

    #[inline(always)]
    fn logistic(self) -> f32 {
        logistic(self)
    }

    #[inline(always)]
    fn hyperbolic(self) -> f32 {
        hyperbolic(self)
    }
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
