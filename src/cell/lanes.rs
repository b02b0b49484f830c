//! Vector registers that behave as numbers.

use crate::real::{self, Arithmetic, Number};
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
