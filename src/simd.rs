//! Runs loops with the vector instructions that the processor has, found at run time.
//!
//! The compiler's own vectorising of loops is left out of this: whether it keeps sums in registers hangs on small things,
//! and a product is ten times slower where it does not. Products take [`Vectors`], sixteen numbers at a time; cells take
//! [`Lanes`], a register that behaves as a number. What is to be compiled for the instructions found must be inlined all
//! the way: `#[inline(always)]`.

use crate::real::{self, Arithmetic, Number};
use pulp::{Simd, WithSimd};

/// Numbers of a [`Vectors::Wide`].
pub const WIDTH: usize = 16;

/// Work to be compiled once for every instruction set.
pub(crate) trait Work {
    /// Does it.
    fn run<S: Simd>(self, simd: S);
}

/// Runs work with the best instructions there are.
#[inline]
pub(crate) fn dispatch<W: Work>(work: W) {
    struct With<W>(W);
    impl<W: Work> WithSimd for With<W> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            self.0.run(simd);
        }
    }
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if let Some(v3) = pulp::x86::V3::try_new() {
        return Simd::vectorize(v3, With(work));
    }
    Simd::vectorize(pulp::Scalar256b, With(work));
}

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
    fn constant(self, value: f32) -> Self {
        Lanes { values: self.simd.splat_f32s(value), ..self }
    }

    #[inline(always)]
    fn multiply_add(self, factor: Self, sum: Self) -> Self {
        if fuses::<S>() {
            Lanes { values: self.simd.mul_add_e_f32s(self.values, factor.values, sum.values), ..self }
        } else {
            self * factor + sum
        }
    }

    #[inline(always)]
    fn below(self, limit: Self, then: Self, otherwise: Self) -> Self {
        let mask = self.simd.less_than_f32s(self.values, limit.values);
        Lanes { values: self.simd.select_f32s(mask, then.values, otherwise.values), ..self }
    }
}

impl<S: Simd> Number for Lanes<S> {
    #[inline(always)]
    fn nothing(self) -> Self {
        self.constant(0.0)
    }

    #[inline(always)]
    fn one_minus(self) -> Self {
        self.constant(1.0) - self
    }

    #[inline(always)]
    fn logistic(self) -> Self {
        real::logistic(self)
    }

    #[inline(always)]
    fn hyperbolic(self) -> Self {
        real::hyperbolic(self)
    }
}

/// Sixteen numbers in vector registers.
pub trait Vectors: Copy + 'static {
    /// The sixteen.
    type Wide<S: Simd>: Copy;
    /// All zero.
    fn zeros<S: Simd>(simd: S) -> Self::Wide<S>;
    /// From memory; `values` has sixteen.
    fn load<S: Simd>(simd: S, values: &[Self]) -> Self::Wide<S>;
    /// To memory; `values` has sixteen.
    fn store<S: Simd>(simd: S, wide: Self::Wide<S>, values: &mut [Self]);
    /// factor·wide + sum.
    fn multiply_add<S: Simd>(simd: S, factor: Self, wide: Self::Wide<S>, sum: Self::Wide<S>) -> Self::Wide<S>;
    /// Sum.
    fn plus<S: Simd>(simd: S, one: Self::Wide<S>, other: Self::Wide<S>) -> Self::Wide<S>;
}

/// Whether the instructions multiply and add in one. Where they do not, doing so would be a library call.
#[inline(always)]
fn fuses<S: Simd>() -> bool {
    cfg!(target_arch = "aarch64") || std::any::TypeId::of::<S>() != std::any::TypeId::of::<pulp::Scalar256b>()
}

macro_rules! vectors {
    ($number:ty, $vector:ident, $count:literal, $load:ident, $store:ident, $splat:ident, $fma:ident, $mul:ident, $add:ident) => {
        impl Vectors for $number {
            type Wide<S: Simd> = [S::$vector; $count];

            #[inline(always)]
            fn zeros<S: Simd>(simd: S) -> Self::Wide<S> {
                [simd.$splat(0.0); $count]
            }

            #[inline(always)]
            fn load<S: Simd>(_: S, values: &[Self]) -> Self::Wide<S> {
                let (vectors, _) = S::$load(&values[..WIDTH]);
                std::array::from_fn(|k| vectors[k])
            }

            #[inline(always)]
            fn store<S: Simd>(_: S, wide: Self::Wide<S>, values: &mut [Self]) {
                let (vectors, _) = S::$store(&mut values[..WIDTH]);
                vectors.copy_from_slice(&wide);
            }

            #[inline(always)]
            fn multiply_add<S: Simd>(simd: S, factor: Self, wide: Self::Wide<S>, sum: Self::Wide<S>) -> Self::Wide<S> {
                let factor = simd.$splat(factor);
                if fuses::<S>() {
                    std::array::from_fn(|k| simd.$fma(factor, wide[k], sum[k]))
                } else {
                    std::array::from_fn(|k| simd.$add(simd.$mul(factor, wide[k]), sum[k]))
                }
            }

            #[inline(always)]
            fn plus<S: Simd>(simd: S, one: Self::Wide<S>, other: Self::Wide<S>) -> Self::Wide<S> {
                std::array::from_fn(|k| simd.$add(one[k], other[k]))
            }
        }
    };
}

vectors!(f32, f32s, 2, as_simd_f32s, as_mut_simd_f32s, splat_f32s, mul_add_e_f32s, mul_f32s, add_f32s);
vectors!(f64, f64s, 4, as_simd_f64s, as_mut_simd_f64s, splat_f64s, mul_add_e_f64s, mul_f64s, add_f64s);
