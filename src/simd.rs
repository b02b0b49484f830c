//! Runs loops with the vector instructions that the processor has, found at run time.
//!
//! The compiler's own vectorising of loops is left out of this: whether it keeps sums in registers hangs on small things,
//! and a product is ten times slower where it does not. Products take [`Vectors`], sixteen numbers at a time; cells take
//! `cell/lanes.rs`, a register that behaves as a number. What is to be compiled for the instructions found must be inlined all
//! the way: `#[inline(always)]`.

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

/// True if the instructions have a fused multiply-add. Without, it would be a library call.
#[inline(always)]
pub(crate) fn fuses<S: Simd>() -> bool {
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
