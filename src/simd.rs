//! Runs plain loops with the vector instructions that the processor has, found at run time.
//!
//! The loops are written once, for any number type, and the compiler vectorises them; nothing here is architecture's own
//! code. What is to be vectorised must be inlined all the way: `#[inline(always)]`.

use crate::real::Real;

/// Work to be compiled once for every instruction set.
pub(crate) trait Work {
    /// Does it. `FUSED` says that the processor multiplies and adds in one instruction (see [`mul_add`]).
    fn run<const FUSED: bool>(self);
}

/// Fused multiply-add is part of 64-bit Arm; on x86 it comes with AVX2.
#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
const ALWAYS_FUSED: bool = cfg!(target_arch = "aarch64");

/// a·b + c; where the processor cannot fuse, a library call would be slower than two instructions.
#[inline(always)]
pub(crate) fn mul_add<const FUSED: bool, F: Real>(a: F, b: F, c: F) -> F {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Runs work with the best instructions there are.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
#[inline]
pub(crate) fn dispatch<W: Work>(work: W) {
    struct Fused<W>(W);
    impl<W: Work> pulp::NullaryFnOnce for Fused<W> {
        type Output = ();
        #[inline(always)]
        fn call(self) {
            self.0.run::<true>();
        }
    }
    match pulp::x86::V3::try_new() {
        Some(v3) => pulp::Simd::vectorize(v3, Fused(work)),
        None => work.run::<false>(),
    }
}

/// Runs work with the best instructions there are.
#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
#[inline]
pub(crate) fn dispatch<W: Work>(work: W) {
    work.run::<ALWAYS_FUSED>();
}
