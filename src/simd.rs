//! Vector instructions of the CPU, found at run time.
//!
//! The compiler's own vectorising of loops is left out of this: whether it keeps sums in registers depends on small details,
//! and a product is ten times slower where it does not. Products take [`Vectors`], sixteen numbers at a time; cells take
//! `cell/lanes.rs`, a register that behaves as a number. What is to be compiled for the instructions found must be inlined all
//! the way: `#[inline(always)]`.

use half::{bf16, f16};
use pulp::{NullaryFnOnce, Scalar256b, Simd, WithSimd};
use std::fmt;
use std::sync::LazyLock;

/// Numbers of a [`Vectors::Wide`].
pub const WIDTH: usize = 16;

/// Sets of vector instructions; those of an architecture each have all that those before them have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Instructions {
    /// No vector instructions but those that the compiler finds for loops.
    Base,
    /// NEON, which every aarch64 processor has.
    Neon,
    /// AVX2, FMA and F16C: `x86-64-v3`.
    Avx2,
    /// The shapes of AVX-512 in AVX2's instructions, for tests on processors without it.
    #[cfg(test)]
    WideAvx2,
    /// AVX-512: `x86-64-v4`.
    Avx512,
}

impl Instructions {
    /// All that can be chosen, the best last.
    const ALL: [Instructions; 4] = [Instructions::Base, Instructions::Neon, Instructions::Avx2, Instructions::Avx512];

    /// True if the processor has the set.
    fn is_available(self) -> bool {
        match self {
            Instructions::Base => true,
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon => pulp::aarch64::Neon::is_available(),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Instructions::Avx2 => x86::V3AndHalves::is_available(),
            #[cfg(all(test, any(target_arch = "x86", target_arch = "x86_64")))]
            Instructions::WideAvx2 => x86::V3AndHalves::is_available(),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => pulp::x86::V4::is_available(),
            #[allow(unreachable_patterns)] // sets of other architectures
            _ => false,
        }
    }

    /// The set that products and cells use: the best that the processor has, at most `WGPU_LSTM_SIMD`.
    pub fn used() -> Instructions {
        static USED: LazyLock<Instructions> = LazyLock::new(|| {
            let best = |most| {
                let mut available = Instructions::ALL.into_iter().filter(|&set| set <= most && set.is_available());
                available.next_back().unwrap_or(Instructions::Base) // which is always there
            };
            let Some(text) = std::env::var_os("WGPU_LSTM_SIMD") else { return best(Instructions::Avx512) };
            match set_of(&text.to_string_lossy()) {
                Ok(set) if set.is_available() => set,
                Ok(set) => {
                    log::warn!(
                        "WGPU_LSTM_SIMD is \"{}\", which this processor does not have; using {}",
                        set.name(),
                        best(set)
                    );
                    best(set)
                }
                Err(reason) => {
                    let best = best(Instructions::Avx512);
                    log::warn!("{reason}; using {best}");
                    best
                }
            }
        });
        #[cfg(test)]
        if let Some(set) = tests::OF_THREAD.get() {
            return set;
        }
        *USED
    }

    /// Name in `WGPU_LSTM_SIMD`.
    fn name(self) -> &'static str {
        match self {
            Instructions::Base => "scalar",
            Instructions::Neon => "neon",
            Instructions::Avx2 => "avx2",
            #[cfg(test)]
            Instructions::WideAvx2 => "avx2 as avx512",
            Instructions::Avx512 => "avx512",
        }
    }

    /// Name for people.
    pub fn title(self) -> &'static str {
        match self {
            Instructions::Neon => "NEON",
            Instructions::Avx2 => "AVX2",
            Instructions::Avx512 => "AVX-512",
            _ => self.name(),
        }
    }
}

impl fmt::Display for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.title())
    }
}

/// Parses `WGPU_LSTM_SIMD`.
fn set_of(text: &str) -> Result<Instructions, String> {
    let found = Instructions::ALL.into_iter().find(|set| set.name().eq_ignore_ascii_case(text.trim()));
    found.ok_or_else(|| format!("WGPU_LSTM_SIMD is \"{text}\", expected avx512, avx2, neon or scalar"))
}

/// A set of instructions with what depends on its registers.
pub trait Isa: Simd {
    /// True if it has a fused multiply-add. Without, it would be a library call.
    const FUSES: bool;
    /// Vector registers of the processor, in those of `Floats`.
    const REGISTERS: usize;
    /// The numbers of an f32 register as an array.
    type Floats: bytemuck::Pod + AsRef<[f32]> + AsMut<[f32]>;
    /// Registers for [`WIDTH`] numbers.
    type WideF32: Registers<Self::f32s>;
    /// Registers for [`WIDTH`] numbers.
    type WideF64: Registers<Self::f64s>;
    /// Proof that the processor has the instructions of [`Isa::widen_f16`].
    type Halves: Copy;
    /// The proof.
    fn halves(self) -> Self::Halves;
    /// Sixteen numbers in f32.
    #[inline(always)]
    fn widen_f16(self, _: Self::Halves, values: &[f16; WIDTH]) -> Self::WideF32 {
        f32::load(self, &values.map(exact_f32))
    }
    /// Sixteen numbers in f32.
    #[inline(always)]
    fn widen_bf16(self, values: &[bf16; WIDTH]) -> Self::WideF32 {
        f32::load(self, &values.map(|value| f32::from_bits((value.to_bits() as u32) << 16)))
    }
    /// Sixteen numbers in f32.
    #[inline(always)]
    fn widen_i8(self, values: &[i8; WIDTH]) -> Self::WideF32 {
        f32::load(self, &values.map(f32::from))
    }
    /// Does work in a function of its own that is compiled for the set.
    #[inline(always)]
    fn compiled<R>(self, work: impl NullaryFnOnce<Output = R>) -> R {
        struct Apart<W>(W);
        impl<W: NullaryFnOnce> WithSimd for Apart<W> {
            type Output = W::Output;
            #[inline(always)]
            fn with_simd<T: Simd>(self, _: T) -> W::Output {
                self.0.call()
            }
        }
        self.vectorize(Apart(work))
    }
}

/// A number of f16 in f32, without branches. (`half` has no instructions without the standard library.)
#[inline(always)]
fn exact_f32(value: f16) -> f32 {
    let (sign, size) = ((value.to_bits() as u32 & 0x8000) << 16, (value.to_bits() as u32 & 0x7fff) << 13);
    // The exponents' biases differ by 112.
    let finite = (f32::from_bits(size) * f32::from_bits((127 + 112) << 23)).to_bits();
    let endless = size | 0xff << 23;
    f32::from_bits(sign | if size < 0x7c00 << 13 { finite } else { endless })
}

impl Isa for Scalar256b {
    const FUSES: bool = cfg!(target_arch = "aarch64");
    // The compiler takes registers of four numbers, of which aarch64 has 32, others 16.
    const REGISTERS: usize = if cfg!(target_arch = "aarch64") { 16 } else { 8 };
    type Floats = [f32; 8];
    type WideF32 = [Self::f32s; 2];
    type WideF64 = [Self::f64s; 4];
    type Halves = ();

    #[inline(always)]
    fn halves(self) {}
}

#[cfg(target_arch = "aarch64")]
impl Isa for pulp::aarch64::Neon {
    const FUSES: bool = true;
    const REGISTERS: usize = 32;
    type Floats = [f32; 4];
    type WideF32 = [Self::f32s; 4];
    type WideF64 = [Self::f64s; 8];
    type Halves = ();

    #[inline(always)]
    fn halves(self) {}
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
impl Isa for pulp::x86::V3 {
    const FUSES: bool = true;
    const REGISTERS: usize = 16;
    type Floats = [f32; 8];
    type WideF32 = [Self::f32s; 2];
    type WideF64 = [Self::f64s; 4];
    type Halves = x86::V3AndHalves;

    #[inline(always)]
    fn halves(self) -> Self::Halves {
        x86::halves()
    }

    #[inline(always)]
    fn widen_f16(self, halves: Self::Halves, values: &[f16; WIDTH]) -> Self::WideF32 {
        x86::eights(values).map(|eight| bytemuck::cast(halves.widen(bytemuck::cast(eight))))
    }

    #[inline(always)]
    fn widen_bf16(self, values: &[bf16; WIDTH]) -> Self::WideF32 {
        let widen = |eight: [bf16; 8]| self.avx2._mm256_cvtepu16_epi32(bytemuck::cast(eight));
        x86::eights(values).map(|eight| bytemuck::cast(self.avx2._mm256_slli_epi32::<16>(widen(eight))))
    }

    #[inline(always)]
    fn widen_i8(self, values: &[i8; WIDTH]) -> Self::WideF32 {
        let widen = |eight: [i8; 8]| {
            let eight = self.sse2._mm_set_epi64x(0, bytemuck::cast(eight));
            self.avx._mm256_cvtepi32_ps(self.avx2._mm256_cvtepi8_epi32(eight))
        };
        x86::eights(values).map(|eight| bytemuck::cast(widen(eight)))
    }

    #[inline(always)]
    fn compiled<R>(self, work: impl NullaryFnOnce<Output = R>) -> R {
        self.halves().vectorize(work)
    }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod x86 {
    use super::WIDTH;
    #[cfg(target_arch = "x86")]
    use std::arch::x86::{__m128i, __m256, _mm256_cvtph_ps};
    #[cfg(target_arch = "x86_64")]
    use std::arch::x86_64::{__m128i, __m256, _mm256_cvtph_ps};

    pulp::simd_type! {
        /// The instructions of pulp's V3, and F16C, which it leaves out of `x86-64-v3`.
        #[allow(missing_docs)]
        pub struct V3AndHalves {
            sse: "sse",
            sse2: "sse2",
            fxsr: "fxsr",
            sse3: "sse3",
            ssse3: "ssse3",
            sse4_1: "sse4.1",
            sse4_2: "sse4.2",
            popcnt: "popcnt",
            avx: "avx",
            avx2: "avx2",
            bmi1: "bmi1",
            bmi2: "bmi2",
            fma: "fma",
            lzcnt: "lzcnt",
            f16c: "f16c",
        }
    }

    impl V3AndHalves {
        /// Eight numbers of f16 in f32.
        #[allow(unsafe_code)]
        #[inline(always)]
        pub fn widen(self, halves: __m128i) -> __m256 {
            // SAFETY: the processor has AVX and F16C, else there is no such value.
            unsafe { _mm256_cvtph_ps(halves) }
        }
    }

    /// The proof of F16C with the set AVX2.
    #[inline(always)]
    pub fn halves() -> V3AndHalves {
        V3AndHalves::try_new().expect("AVX2 is taken with F16C only")
    }

    /// Sixteen numbers as two times eight.
    #[inline(always)]
    pub fn eights<T: Copy>(values: &[T; WIDTH]) -> [[T; 8]; 2] {
        let (halves, _) = values.as_chunks::<8>();
        [halves[0], halves[1]]
    }
}

#[cfg(target_arch = "x86_64")]
impl Isa for pulp::x86::V4 {
    const FUSES: bool = true;
    const REGISTERS: usize = 32;
    type Floats = [f32; 16];
    type WideF32 = [Self::f32s; 1];
    type WideF64 = [Self::f64s; 2];
    type Halves = ();

    #[inline(always)]
    fn halves(self) {}

    #[inline(always)]
    fn widen_f16(self, (): (), values: &[f16; WIDTH]) -> Self::WideF32 {
        [bytemuck::cast(self.avx512f._mm512_cvtph_ps(bytemuck::cast(*values)))]
    }

    #[inline(always)]
    fn widen_bf16(self, values: &[bf16; WIDTH]) -> Self::WideF32 {
        let wide = self.avx512f._mm512_cvtepu16_epi32(bytemuck::cast(*values));
        [bytemuck::cast(self.avx512f._mm512_slli_epi32::<16>(wide))]
    }

    #[inline(always)]
    fn widen_i8(self, values: &[i8; WIDTH]) -> Self::WideF32 {
        let wide = self.avx512f._mm512_cvtepi8_epi32(bytemuck::cast(*values));
        [bytemuck::cast(self.avx512f._mm512_cvtepi32_ps(wide))]
    }
}

#[cfg(test)]
impl Isa for pulp::Scalar512b {
    const FUSES: bool = true;
    const REGISTERS: usize = 32;
    type Floats = [f32; 16];
    type WideF32 = [Self::f32s; 1];
    type WideF64 = [Self::f64s; 2];
    type Halves = ();

    fn halves(self) {}
}

/// Some vector registers. Products go through them in loops, since closures are not always inlined.
pub trait Registers<R>: Copy + AsRef<[R]> + AsMut<[R]> {
    /// All the same.
    fn all(register: R) -> Self;
}

impl<R: Copy, const N: usize> Registers<R> for [R; N] {
    #[inline(always)]
    fn all(register: R) -> Self {
        [register; N]
    }
}

/// True for f32. f64, which only tests use, has AVX2 or no set: there is less to compile.
pub(crate) const fn is_f32<F>() -> bool {
    size_of::<F>() == size_of::<f32>()
}

/// Work to be compiled once for every instruction set.
pub(crate) trait Work {
    /// False if it is compiled neither for AVX-512 nor for NEON.
    const WIDE: bool = true;
    /// Does it.
    fn run<S: Isa>(self, simd: S);
}

/// Runs work with [`Instructions::used`].
#[inline]
pub(crate) fn dispatch<W: Work>(work: W) {
    struct With<W, S>(W, S);
    impl<W: Work, S: Isa> NullaryFnOnce for With<W, S> {
        type Output = ();
        #[inline(always)]
        fn call(self) {
            self.0.run(self.1);
        }
    }
    let set = Instructions::used();
    #[cfg(target_arch = "x86_64")]
    if const { W::WIDE }
        && let (Instructions::Avx512, Some(v4)) = (set, pulp::x86::V4::try_new())
    {
        return v4.vectorize(With(work, v4));
    }
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if set >= Instructions::Avx2
        && let (Some(v3), Some(halves)) = (pulp::x86::V3::try_new(), x86::V3AndHalves::try_new())
    {
        #[cfg(test)]
        if set == Instructions::WideAvx2 {
            return halves.vectorize(With(work, pulp::Scalar512b));
        }
        return halves.vectorize(With(work, v3));
    }
    #[cfg(target_arch = "aarch64")]
    if const { W::WIDE }
        && set == Instructions::Neon
        && let Some(neon) = pulp::aarch64::Neon::try_new()
    {
        return neon.vectorize(With(work, neon));
    }
    let _ = set;
    With(work, Scalar256b).call();
}

/// Sixteen numbers in vector registers.
pub trait Vectors: Copy + 'static {
    /// The sixteen.
    type Wide<S: Isa>: Copy;
    /// All zero.
    fn zeros<S: Isa>(simd: S) -> Self::Wide<S>;
    /// From memory; `values` has sixteen.
    fn load<S: Isa>(simd: S, values: &[Self]) -> Self::Wide<S>;
    /// To memory; `values` has sixteen.
    fn store<S: Isa>(simd: S, wide: Self::Wide<S>, values: &mut [Self]);
    /// factor·wide + sum.
    fn multiply_add<S: Isa>(simd: S, factor: Self, wide: Self::Wide<S>, sum: Self::Wide<S>) -> Self::Wide<S>;
    /// Sum.
    fn plus<S: Isa>(simd: S, one: Self::Wide<S>, other: Self::Wide<S>) -> Self::Wide<S>;
    /// Product.
    fn times<S: Isa>(simd: S, one: Self::Wide<S>, other: Self::Wide<S>) -> Self::Wide<S>;
    /// From f32.
    fn from_f32<S: Isa>(simd: S, wide: S::WideF32) -> Self::Wide<S>;
}

macro_rules! vectors {
    ($number:ty, $wide:ident, $load:ident, $store:ident, $splat:ident, $fma:ident, $mul:ident, $add:ident, $from:ident) => {
        impl Vectors for $number {
            type Wide<S: Isa> = S::$wide;

            #[inline(always)]
            fn zeros<S: Isa>(simd: S) -> Self::Wide<S> {
                S::$wide::all(simd.$splat(0.0))
            }

            #[inline(always)]
            fn load<S: Isa>(simd: S, values: &[Self]) -> Self::Wide<S> {
                let (vectors, _) = S::$load(&values[..WIDTH]);
                let mut wide = Self::zeros(simd);
                wide.as_mut().copy_from_slice(vectors);
                wide
            }

            #[inline(always)]
            fn store<S: Isa>(_: S, wide: Self::Wide<S>, values: &mut [Self]) {
                let (vectors, _) = S::$store(&mut values[..WIDTH]);
                vectors.copy_from_slice(wide.as_ref());
            }

            #[inline(always)]
            fn multiply_add<S: Isa>(simd: S, factor: Self, wide: Self::Wide<S>, sum: Self::Wide<S>) -> Self::Wide<S> {
                let (factor, mut sum) = (simd.$splat(factor), sum);
                for (sum, &wide) in sum.as_mut().iter_mut().zip(wide.as_ref()) {
                    *sum =
                        if S::FUSES { simd.$fma(factor, wide, *sum) } else { simd.$add(simd.$mul(factor, wide), *sum) };
                }
                sum
            }

            #[inline(always)]
            fn plus<S: Isa>(simd: S, one: Self::Wide<S>, other: Self::Wide<S>) -> Self::Wide<S> {
                let mut sum = one;
                for (sum, &other) in sum.as_mut().iter_mut().zip(other.as_ref()) {
                    *sum = simd.$add(*sum, other);
                }
                sum
            }

            #[inline(always)]
            fn times<S: Isa>(simd: S, one: Self::Wide<S>, other: Self::Wide<S>) -> Self::Wide<S> {
                let mut product = one;
                for (product, &other) in product.as_mut().iter_mut().zip(other.as_ref()) {
                    *product = simd.$mul(*product, other);
                }
                product
            }

            #[inline(always)]
            fn from_f32<S: Isa>(simd: S, wide: S::WideF32) -> Self::Wide<S> {
                $from(simd, wide)
            }
        }
    };
}

vectors!(f32, WideF32, as_simd_f32s, as_mut_simd_f32s, splat_f32s, mul_add_e_f32s, mul_f32s, add_f32s, as_it_is);
vectors!(f64, WideF64, as_simd_f64s, as_mut_simd_f64s, splat_f64s, mul_add_e_f64s, mul_f64s, add_f64s, longer);

#[inline(always)]
fn as_it_is<S: Isa>(_: S, wide: S::WideF32) -> S::WideF32 {
    wide
}

fn longer<S: Isa>(simd: S, wide: S::WideF32) -> S::WideF64 {
    let mut values = [0.0; WIDTH];
    f32::store(simd, wide, &mut values);
    f64::load(simd, &values.map(f64::from))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// The set that this thread uses instead of the best.
        pub static OF_THREAD: Cell<Option<Instructions>> = const { Cell::new(None) };
    }

    /// Runs work of this thread with each set that the processor has, and says which it has not.
    pub fn with_each<R>(mut work: impl FnMut() -> R) -> Vec<(Instructions, R)> {
        let mut sets = Instructions::ALL.to_vec();
        sets.push(Instructions::WideAvx2);
        sets.sort();
        let mut all = Vec::new();
        for set in sets {
            if set.is_available() {
                OF_THREAD.set(Some(set));
                all.push((set, work()));
            } else {
                eprintln!("left out: {set}, which this processor does not have");
            }
        }
        OF_THREAD.set(None);
        all
    }

    #[test]
    fn names_of_sets_are_parsed() {
        for (text, set) in [
            ("avx512", Instructions::Avx512),
            (" AVX2 ", Instructions::Avx2),
            ("Neon", Instructions::Neon),
            ("scalar", Instructions::Base),
        ] {
            assert_eq!(set_of(text), Ok(set));
        }
        let reason = set_of("sse9").unwrap_err();
        assert_eq!(reason, "WGPU_LSTM_SIMD is \"sse9\", expected avx512, avx2, neon or scalar");
    }

    /// All numbers of f16, bf16 and i8 in f32, as bits.
    struct Widening<'a>(&'a mut Vec<u32>);

    impl Work for Widening<'_> {
        #[inline(always)]
        fn run<S: Isa>(self, simd: S) {
            let mut values = [0.0; WIDTH];
            let mut keep = |wide: S::WideF32| {
                f32::store(simd, wide, &mut values);
                self.0.extend(values.map(f32::to_bits));
            };
            for first in (0..=u16::MAX).step_by(WIDTH) {
                let bits: [u16; WIDTH] = std::array::from_fn(|k| first + k as u16);
                keep(simd.widen_f16(simd.halves(), &bits.map(f16::from_bits)));
                keep(simd.widen_bf16(&bits.map(bf16::from_bits)));
                keep(simd.widen_i8(&bits.map(|bits| bits as i8)));
            }
        }
    }

    #[test]
    fn short_numbers_are_widened_exactly_by_every_set() {
        let mut expected = Vec::new();
        for first in (0..=u16::MAX).step_by(WIDTH) {
            let bits = || (0..WIDTH as u16).map(|k| first + k);
            expected.extend(bits().map(|bits| f16::from_bits(bits).to_f32().to_bits()));
            expected.extend(bits().map(|bits| bf16::from_bits(bits).to_f32().to_bits()));
            expected.extend(bits().map(|bits| f32::from(bits as i8).to_bits()));
        }
        let number = |bits: &u32| if f32::from_bits(*bits).is_nan() { None } else { Some(*bits) };
        for (set, bits) in with_each(|| {
            let mut bits = Vec::new();
            dispatch(Widening(&mut bits));
            bits
        }) {
            assert_eq!(bits.len(), expected.len());
            let other = bits.iter().zip(&expected).position(|(given, expected)| number(given) != number(expected));
            assert_eq!(other, None, "{set}");
        }
    }

    #[test]
    fn every_set_in_use_is_one_that_the_processor_has() {
        for (set, used) in with_each(Instructions::used) {
            assert_eq!(used, set);
        }
        assert!(Instructions::used().is_available());
    }
}
