//! Numbers that the mathematics is written for.
//!
//! ```
//! use wgpu_lstm::real::sigmoid;
//! assert_eq!(sigmoid(0.0f64), 0.5);
//! ```

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
#[inline]
pub fn sigmoid<F: Real>(x: F) -> F {
    let e = (-x.abs()).exp();
    let top = if x >= F::zero() { F::one() } else { e };
    top / (F::one() + e)
}
