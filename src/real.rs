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
pub trait Number: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> {
    /// A constant, of the kind of `self`.
    fn constant(self, value: f32) -> Self;
    /// `then` where self < limit, else `otherwise`.
    fn below(self, limit: Self, then: Self, otherwise: Self) -> Self;
    /// 1 / (1 + e^-x); [`sigmoid`] is the same as a function.
    fn logistic(self) -> Self;
    /// [`tanh`] as a method.
    fn hyperbolic(self) -> Self;
    /// e^x.
    fn exponential(self) -> Self;
    /// The natural logarithm.
    fn logarithm(self) -> Self;

    /// 0.
    #[inline(always)]
    fn nothing(self) -> Self {
        self.constant(0.0)
    }

    /// 1 − x.
    #[inline(always)]
    fn one_minus(self) -> Self {
        self.constant(1.0) - self
    }

    /// The larger of two.
    #[inline(always)]
    fn at_least(self, other: Self) -> Self {
        self.below(other, other, self)
    }

    /// The smaller of two.
    #[inline(always)]
    fn at_most(self, other: Self) -> Self {
        other.below(self, other, self)
    }

    /// |x|.
    #[inline(always)]
    fn magnitude(self) -> Self {
        self.below(self.nothing(), self.nothing() - self, self)
    }
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
    /// An element that holds 32 bits rather than a number.
    fn of_word(word: u32) -> Self;
    /// The bits of an element made by [`Real::of_word`].
    fn word(self) -> u32;
}

impl Real for f32 {
    fn of(value: f32) -> f32 {
        value
    }

    fn of_word(word: u32) -> f32 {
        f32::from_bits(word)
    }

    fn word(self) -> u32 {
        self.to_bits()
    }
}

impl Real for f64 {
    fn of(value: f32) -> f64 {
        f64::from(value)
    }

    fn of_word(word: u32) -> f64 {
        word.into()
    }

    fn word(self) -> u32 {
        self as u32
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
    fn constant(self, value: f32) -> f64 {
        f64::from(value)
    }

    fn below(self, limit: f64, then: f64, otherwise: f64) -> f64 {
        if self < limit { then } else { otherwise }
    }

    fn exponential(self) -> f64 {
        self.exp()
    }

    fn logarithm(self) -> f64 {
        self.ln()
    }

    fn logistic(self) -> f64 {
        let e = (-self.abs()).exp();
        (if self >= 0.0 { 1.0 } else { e }) / (1.0 + e)
    }

    fn hyperbolic(self) -> f64 {
        self.tanh()
    }
}

/// What f32's activations are made of beside that, for one number or a vector of them. No operation loses a NaN.
pub(crate) trait Arithmetic: Number {
    /// self·factor + sum, rounded once where the processor does that.
    fn multiply_add(self, factor: Self, sum: Self) -> Self;
}

/// tanh as a quotient of polynomials, within 4e-7 of it, relative: half the work of one by e^x, which also would lose
/// digits near 0. Coefficients: Eigen, `ptanh`.
#[inline(always)]
pub(crate) fn hyperbolic<A: Arithmetic>(x: A) -> A {
    // Beyond this, tanh rounds to ±1.
    const END: f32 = 7.905_311;
    let c = |value| x.constant(value);
    let x = x.below(c(-END), c(-END), x);
    let x = c(END).below(x, c(END), x);
    let square = x * x;
    let p = c(-2.760_768_5e-16).multiply_add(square, c(2.000_188e-13));
    let p = p.multiply_add(square, c(-8.604_672e-11)).multiply_add(square, c(5.122_297e-8));
    let p = p.multiply_add(square, c(1.485_722_4e-5)).multiply_add(square, c(6.372_619e-4));
    let p = p.multiply_add(square, c(4.893_524_6e-3));
    let q = c(1.198_258_4e-6).multiply_add(square, c(1.185_347_1e-4));
    let q = q.multiply_add(square, c(2.268_434_6e-3)).multiply_add(square, c(4.893_525e-3));
    p * x / q
}

/// σ(x), within 2e-7 of it, absolute, and within 5e-8 where |x| > 8: from 1 / (1 + e^|x|), where e^(|x|/4) is a polynomial. What
/// is made of tanh, as ½ + ½·tanh(x/2), is off by up to 1.5e-7 for saturated gates, too, to one side for long stretches of
/// x; a forget gate near 1 adds that up over thousands of steps.
///
/// Coefficients: fitted here, so that the largest absolute error of 1 / (1 + P⁴) is the smallest; it is 3e-10.
#[inline(always)]
pub(crate) fn logistic<A: Arithmetic>(x: A) -> A {
    // Beyond this, σ(-x) is below 2.6e-8 and σ(x) rounds to 1.
    const END: f32 = 17.5;
    let c = |value| x.constant(value);
    let size = x.magnitude().at_most(c(END));
    let p = c(2.989_127_7e-11).multiply_add(size, c(1.275_076_1e-11));
    let p = p.multiply_add(size, c(1.539_924_1e-8)).multiply_add(size, c(3.229_572_8e-7));
    let p = p.multiply_add(size, c(8.182_41e-6)).multiply_add(size, c(1.626_939_3e-4));
    let p = p.multiply_add(size, c(2.604_215_4e-3)).multiply_add(size, c(3.124_998_7e-2));
    let p = p.multiply_add(size, c(0.25)).multiply_add(size, c(1.0));
    let square = p * p;
    let small = c(1.0) / square.multiply_add(square, c(1.0));
    x.below(x.nothing(), small, small.one_minus())
}

impl Arithmetic for f32 {
    #[inline(always)]
    fn multiply_add(self, factor: f32, sum: f32) -> f32 {
        self * factor + sum
    }
}

impl Number for f32 {
    #[inline(always)]
    fn constant(self, value: f32) -> f32 {
        value
    }

    #[inline(always)]
    fn below(self, limit: f32, then: f32, otherwise: f32) -> f32 {
        if self < limit { then } else { otherwise }
    }

    #[inline(always)]
    fn exponential(self) -> f32 {
        self.exp()
    }

    #[inline(always)]
    fn logarithm(self) -> f32 {
        self.ln()
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

    /// A forget gate of thousands of steps must not drift: saturated, σ is off to neither side.
    #[test]
    fn saturated_gates_are_not_biased() {
        for x in (8..16).chain(-16..-8) {
            let values = (0..10_000).map(|k| x as f32 + k as f32 * 1e-4);
            let error = values.map(|x| f64::from(sigmoid(x)) - 1.0 / (1.0 + (-f64::from(x)).exp()));
            let mean = error.sum::<f64>() / 10_000.0;
            // What rounding to f32 itself leaves near 1 is up to 7e-9.
            assert!(mean.abs() <= 1e-8, "from {x}: {mean:e}");
        }
        assert_eq!(sigmoid(20.0f32), 1.0);
    }

    /// f32's activations against the standard library's in f64, over the whole range and densely around 0.
    #[test]
    fn activations_are_accurate() {
        let steps = (-20_000..=20_000).map(|k| k as f32 * 1e-3);
        let tiny = (-60..60).map(|k| 2f32.powi(k) * 1.37);
        for x in steps.chain(tiny.clone()).chain(tiny.map(|x| -x)) {
            let wide = f64::from(x);
            let exact = wide.tanh();
            assert!((f64::from(tanh(x)) - exact).abs() <= 4e-7 * exact.abs(), "tanh({x}) = {}", tanh(x));
            let exact = 1.0 / (1.0 + (-wide).exp());
            let bound = if x.abs() > 8.0 { 5e-8 } else { 2e-7 };
            assert!((f64::from(sigmoid(x)) - exact).abs() <= bound, "sigmoid({x}) = {}", sigmoid(x));
            assert!(tanh(x).abs() <= 1.0 && (0.0..=1.0).contains(&sigmoid(x)), "{x}");
        }
        assert!(tanh(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
        for (x, end) in [(f32::MAX, 1.0), (f32::MIN, 0.0)] {
            assert!((sigmoid(x) - end).abs() <= 6e-8 && (tanh(x) - (2.0 * end - 1.0)).abs() <= 6e-8, "{x}");
        }
    }
}
