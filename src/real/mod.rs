//! Numbers that the mathematics is written for.
//!
//! ```
//! use wgpu_lstm::real::{sigmoid, tanh};
//! assert_eq!(sigmoid(0.0f64), 0.5);
//! assert!((tanh(0.5f32) - 0.5f32.tanh()).abs() < 1e-7);
//! ```

pub(crate) mod saturating;

pub use saturating::{sigmoid, tanh};

use crate::simd::Vectors;
use saturating::Arithmetic;
use std::ops::{Add, Div, Mul, Sub};

/// Numbers that a cell is written in: one, or a vector of several.
pub trait Number: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> {
    /// A constant, of the kind of `self`.
    fn constant(self, value: f32) -> Self;
    /// `then` where self < limit, else `otherwise`.
    fn below(self, limit: Self, then: Self, otherwise: Self) -> Self;
    /// σ(−|x|), the small one of [`sigmoid`]'s two sides; at least the smallest normal number.
    fn smaller_logistic(self) -> Self;
    /// e^2|x| − 1 and e^2|x| + 1, whose quotient is |[`tanh`]|. Large x are cut off where the latter ends.
    fn hyperbolic_terms(self) -> [Self; 2];
    /// e^x.
    fn exponential(self) -> Self;
    /// e^x − 1, right to rounding for small x, too.
    fn exponential_minus_one(self) -> Self;
    /// ln(1 + x), right to rounding for small x, too.
    fn logarithm_of_one_plus(self) -> Self;
    /// |x|.
    fn magnitude(self) -> Self;

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

    /// `negative` where the sign of self is that, else `positive`; of 0 and NaN either.
    #[inline(always)]
    fn by_sign(self, negative: Self, positive: Self) -> Self {
        self.below(self.nothing(), negative, positive)
    }

    /// A number of at least 0 with the sign of another; of 0 and NaN either.
    #[inline(always)]
    fn with_sign_of(self, other: Self) -> Self {
        other.by_sign(self.nothing() - self, self)
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
}

/// f32, which everything runs in, and f64, in which the tests hold gradients against central differences.
pub trait Real:
    Number
    + num_traits::Float
    + bytemuck::Zeroable
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

    fn exponential_minus_one(self) -> f64 {
        self.exp_m1()
    }

    fn logarithm_of_one_plus(self) -> f64 {
        self.ln_1p()
    }

    fn magnitude(self) -> f64 {
        self.abs()
    }

    fn smaller_logistic(self) -> f64 {
        let e = self.abs().at_most(700.0).exp();
        1.0 / (1.0 + e)
    }

    fn hyperbolic_terms(self) -> [f64; 2] {
        let less = (2.0 * self.abs().at_most(43.6)).exp_m1(); // as far as f32 goes
        [less, less + 2.0]
    }
}

impl Arithmetic for f32 {
    #[inline(always)]
    fn multiply_add(self, factor: f32, sum: f32) -> f32 {
        self * factor + sum
    }

    #[inline(always)]
    fn less_logarithms(self, k: f32) -> f32 {
        saturating::less_logarithms_in_parts(self, k)
    }

    #[inline(always)]
    fn power_of_two(self) -> f32 {
        f32::from_bits(self.to_bits() << 23)
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
    fn exponential_minus_one(self) -> f32 {
        self.exp_m1()
    }

    #[inline(always)]
    fn logarithm_of_one_plus(self) -> f32 {
        self.ln_1p()
    }

    #[inline(always)]
    fn magnitude(self) -> f32 {
        self.abs()
    }

    #[inline(always)]
    fn smaller_logistic(self) -> f32 {
        saturating::smaller_logistic(self)
    }

    #[inline(always)]
    fn hyperbolic_terms(self) -> [f32; 2] {
        saturating::hyperbolic_terms(self)
    }
}
