//! σ and tanh with both of their tails.
//!
//! f32 cannot tell σ(17) from 1, but its distance from 1, σ(−17) = 4.1e-8, is what the gradient of a saturated gate, a forget gate
//! that is coupled, or the update of a GRU is made of. Both functions are therefore computed from the small side, and what forward
//! saves for backward is the small side, too, in the one number that the value would take:
//!
//! - σ: σ(x) where x < 0, else −σ(−x);
//! - tanh: tanh(x) where |x| < 0.55, else ± (1 − |tanh(x)|)·2¹²⁶, which is at least 2.
//!
//! Twin of `shaders/common/math.wgsl`.

use super::Number;

/// Activation of a sum in a forward step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Activated<N> {
    /// The function's value y.
    pub value: N,
    /// 1 − y.
    pub complement: N,
    /// The number that backward restores [`Restored`] from.
    pub saved: N,
}

/// Activation as the backward step knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restored<N> {
    /// The function's value y.
    pub value: N,
    /// 1 − y.
    pub complement: N,
    /// The derivative.
    pub slope: N,
}

/// From here on tanh is saved as the distance from its limit.
const FAR: f32 = 0.55;

/// Lifts such a distance, from 2⁻¹²⁵ to ½, above the values that are saved as they are. A power of two loses nothing.
const LIFT: f32 = f32::from_bits(253 << 23); // 2^126

/// 1 / (1 + e^-x), for any x; NaN stays NaN.
///
/// ```
/// use wgpu_lstm::real::sigmoid;
/// assert_eq!(sigmoid(0.0f64), 0.5);
/// assert!((sigmoid(-80.0f32) / 1.804_851e-35 - 1.0).abs() < 1e-6);
/// ```
#[inline(always)]
pub fn sigmoid<N: Number>(x: N) -> N {
    sigmoid_activated(x).value
}

/// (e^x − e^-x) / (e^x + e^-x), for any x; NaN stays NaN.
#[inline(always)]
pub fn tanh<N: Number>(x: N) -> N {
    let [less, more] = x.hyperbolic_terms();
    (less / more).with_sign_of(x)
}

#[inline(always)]
pub(crate) fn sigmoid_activated<N: Number>(x: N) -> Activated<N> {
    let small = x.smaller_logistic();
    let large = small.one_minus();
    Activated {
        value: x.by_sign(small, large),
        complement: x.by_sign(large, small),
        saved: x.by_sign(small, x.nothing() - small),
    }
}

#[inline(always)]
pub(crate) fn sigmoid_restored<N: Number>(saved: N) -> Restored<N> {
    let small = saved.magnitude();
    let large = small.one_minus();
    Restored { value: saved.by_sign(large, small), complement: saved.by_sign(small, large), slope: small * large }
}

#[inline(always)]
pub(crate) fn tanh_activated<N: Number>(x: N) -> Activated<N> {
    let [less, more] = x.hyperbolic_terms();
    let inverse = x.constant(1.0) / more;
    let size = less * inverse;
    let value = size.with_sign_of(x);
    let distance = inverse * x.constant(2.0 * LIFT);
    let saved = x.magnitude().below(x.constant(FAR), size, distance).with_sign_of(x);
    Activated { value, complement: value.one_minus(), saved }
}

#[inline(always)]
pub(crate) fn tanh_restored<N: Number>(saved: N) -> Restored<N> {
    let (one, size) = (saved.constant(1.0), saved.magnitude());
    // Either 1 − size or size / LIFT, but never a small size over LIFT: subnormal numbers take processors a hundred times as long.
    let factor = size.below(one, saved.constant(-1.0), saved.constant(1.0 / LIFT));
    let distance = size * factor + size.below(one, one, saved.nothing());
    let value = size.below(one, saved, distance.one_minus().with_sign_of(saved));
    Restored { value, complement: value.one_minus(), slope: distance * (saved.constant(2.0) - distance) }
}

/// tanh(x) and its derivative.
#[inline(always)]
pub(crate) fn tanh_and_slope<N: Number>(x: N) -> (N, N) {
    let [less, more] = x.hyperbolic_terms();
    let inverse = x.constant(1.0) / more;
    let distance = inverse + inverse; // 1 − |tanh(x)|
    ((less * inverse).with_sign_of(x), distance * (x.constant(2.0) - distance))
}

/// Operations beside [`Number`] that f32's activations need, for one number or a vector of them. None loses a NaN.
pub(crate) trait Arithmetic: Number {
    /// self·factor + sum, rounded once where the processor does that.
    fn multiply_add(self, factor: Self, sum: Self) -> Self;
    /// self − k·ln 2, for whole numbers k up to 2^14 for which that is small.
    fn less_logarithms(self, k: Self) -> Self;
    /// 2^k of [`EXPONENTS`] + k, for k from −126 to 127.
    fn power_of_two(self) -> Self;
}

/// Added to a number up to 2^22, it rounds that to a whole one, which then stands in the lowest bits: here 127 above it, as
/// the exponent of an f32 is.
const EXPONENTS: f32 = 12_582_912.0 + 127.0; // 1.5·2^23 + 127

/// [`Arithmetic::less_logarithms`] where products are rounded before they are added: ln 2 in two parts, of which the first times k is
/// exact.
#[inline(always)]
pub(crate) fn less_logarithms_in_parts<A: Arithmetic>(x: A, k: A) -> A {
    x - k * x.constant(0.693_359_4) - k * x.constant(-2.121_944_4e-4)
}

/// σ(−|x|), within 4e-7 of it, relative (2.5e-7 up to |x| = 20), down to the least normal number: 1 / (1 + e^|x|).
///
/// e^|x| = 2^k·e^f, |f| ≤ ½·ln 2. The polynomial for e^f was fitted here (least largest relative error, 9.2e-8, with the
/// coefficients rounded to f32 one after the other).
#[inline(always)]
pub(crate) fn smaller_logistic<A: Arithmetic>(x: A) -> A {
    // σ(-END) is the least normal number.
    const END: f32 = 87.33;
    let c = |value| x.constant(value);
    let size = x.magnitude().at_most(c(END));
    let rounded = size.multiply_add(c(std::f32::consts::LOG2_E), c(EXPONENTS));
    let f = size.less_logarithms(rounded - c(EXPONENTS));
    let p = c(8.289_218e-3).multiply_add(f, c(4.189_817_6e-2));
    let p = p.multiply_add(f, c(1.666_765_4e-1)).multiply_add(f, c(4.999_914_8e-1));
    let p = p.multiply_add(f, c(9.999_997e-1)).multiply_add(f, c(1.0));
    c(1.0) / rounded.power_of_two().multiply_add(p, c(1.0))
}

/// e^2|x| − 1 and e^2|x| + 1, whose quotient is |tanh(x)|, within 2.5e-7 of it, relative; 1 − |tanh(x)|
/// is 2 over the latter, within 4e-7.
///
/// e^2|x| = 2^k·(1 + q(f)), |f| ≤ ½·ln 2. The polynomial q for e^f − 1 was fitted as that of [`smaller_logistic`]; its largest
/// relative error is 1.4e-8.
#[inline(always)]
pub(crate) fn hyperbolic_terms<A: Arithmetic>(x: A) -> [A; 2] {
    // 1 - tanh(END) is twice the least normal number.
    const END: f32 = 43.665;
    let c = |value| x.constant(value);
    let size = x.magnitude().at_most(c(END));
    let size = size + size;
    let rounded = size.multiply_add(c(std::f32::consts::LOG2_E), c(EXPONENTS));
    let f = size.less_logarithms(rounded - c(EXPONENTS));
    let q = c(8.877_221e-2 / 64.0).multiply_add(f, c(2.677_203_7e-1 / 32.0));
    let q = q.multiply_add(f, c(6.666_79e-1 / 16.0)).multiply_add(f, c(1.333_323_7 / 8.0));
    let q = q.multiply_add(f, c(1.999_999_9 / 4.0)).multiply_add(f, c(1.0)) * f;
    let scale = rounded.power_of_two();
    [scale.multiply_add(q, scale - c(1.0)), scale.multiply_add(q, scale + c(1.0))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::real::Real;

    /// Numbers over the whole range, dense where the functions bend.
    fn range() -> impl Iterator<Item = f32> {
        let steps = (-90_000..=90_000).map(|k| k as f32 * 1e-3);
        let tiny = (-120..100).map(|k| 2f32.powi(k) * 1.37);
        steps.chain(tiny.clone()).chain(tiny.map(|x| -x))
    }

    /// The smaller side of σ, 1 − |tanh| and the slopes of both, in f64.
    fn sides(x: f64) -> [f64; 4] {
        let small = (-x.abs()).exp() / (1.0 + (-x.abs()).exp());
        let distance = 2.0 * (-2.0 * x.abs()).exp() / (1.0 + (-2.0 * x.abs()).exp());
        [small, distance, small * (1.0 - small), distance * (2.0 - distance)]
    }

    /// Refuses what is off by more than `bound`, relative. Below the least normal number f32 has ended.
    fn near(what: &str, x: f32, given: f32, right: f64, bound: f64) {
        let error = (f64::from(given) - right).abs();
        let least = f64::from(f32::MIN_POSITIVE);
        assert!(error <= bound * right.abs() + 5.0 * least, "{what} at {x}: {given:e}, expected {right:e}");
    }

    /// 2^-24 is half an ulp: bounds are about two ulps of values, and of slopes, which are products of two of them, three.
    const VALUE: f64 = 2.5e-7;
    const SLOPE: f64 = 4e-7;

    #[test]
    fn both_tails_are_right_relative_to_their_size() {
        for x in range() {
            let [small, distance, sigmoid_slope, tanh_slope] = sides(f64::from(x));
            let forward = sigmoid_activated(x);
            let (low, high) = if x < 0.0 { (small, 1.0 - small) } else { (1.0 - small, small) };
            near("σ", x, forward.value, low, VALUE);
            near("1 − σ", x, forward.complement, high, VALUE);
            let back = sigmoid_restored(forward.saved);
            near("σ restored", x, back.value, low, VALUE);
            near("1 − σ restored", x, back.complement, high, VALUE);
            near("slope of σ", x, back.slope, sigmoid_slope, SLOPE);

            let forward = tanh_activated(x);
            near("tanh", x, forward.value, f64::from(x).tanh(), SLOPE);
            near("tanh alone", x, tanh(x), f64::from(x).tanh(), VALUE);
            let back = tanh_restored(forward.saved);
            near("tanh restored", x, back.value, f64::from(x).tanh(), SLOPE);
            near("slope of tanh", x, back.slope, tanh_slope, SLOPE);
            if x.abs() >= FAR {
                near("1 − |tanh|", x, forward.saved.abs() / LIFT, distance, VALUE);
            }
            let (value, slope) = tanh_and_slope(x);
            near("tanh beside its slope", x, value, f64::from(x).tanh(), SLOPE);
            near("slope beside tanh", x, slope, tanh_slope, SLOPE);
        }
    }

    #[test]
    fn ends_and_nan() {
        for x in [f32::MAX, f32::INFINITY, 1e9] {
            assert_eq!((sigmoid(x), tanh(x), tanh(-x)), (1.0, 1.0, -1.0), "{x}");
            assert!(sigmoid(-x) <= 1.2e-38 && sigmoid(-x) >= 0.0, "{x}");
            assert_eq!(sigmoid_restored(sigmoid_activated(x).saved).value, 1.0, "{x}");
            assert_eq!(tanh_restored(tanh_activated(-x).saved).value, -1.0, "{x}");
        }
        assert_eq!((sigmoid(0.0f32), tanh(0.0f32)), (0.5, 0.0));
        let of_nan = [sigmoid_activated(f32::NAN).saved, tanh_activated(f32::NAN).saved];
        assert!(of_nan.iter().all(|saved| saved.is_nan()) && sigmoid(f32::NAN).is_nan() && tanh(f32::NAN).is_nan());
        let restored = [sigmoid_restored(f32::NAN).slope, tanh_restored(f32::NAN).slope];
        assert!(restored.iter().all(|slope| slope.is_nan()));
    }

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
    }

    /// f64, in which gradients are held against central differences, is right in the same places.
    #[test]
    fn the_same_in_f64() {
        fn relative(given: f64, right: f64) -> f64 {
            (given - right).abs() / right.abs().max(1e-300)
        }
        for k in -430..=430 {
            let x = f64::of(k as f32 * 0.1 + 0.01);
            let [small, _, sigmoid_slope, tanh_slope] = sides(x);
            assert!(relative(sigmoid(-x.abs()), small) < 1e-14);
            assert!(relative(sigmoid_restored(sigmoid_activated(x).saved).slope, sigmoid_slope) < 1e-14);
            assert!(relative(tanh_restored(tanh_activated(x).saved).slope, tanh_slope) < 1e-13, "{x}");
            assert!(relative(tanh(x), x.tanh()) < 1e-14);
        }
    }
}
