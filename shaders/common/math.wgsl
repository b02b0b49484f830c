// σ and tanh, accurate in both tails: computed, and saved by cells, from the small side (near a limit, the distance from it), since
// f32 has too few digits near 1.
// Twin of src/real/saturating.rs, which says more.

// An activation in a forward step, and as the backward step restores it from `saved`.
struct Activated {
    value: f32,
    complement: f32, // 1 − value
    saved: f32,
}

struct Restored {
    value: f32,
    complement: f32,
    slope: f32,
}

// 2^k of a whole number k from −126 to 127.
fn power_of_two(k: f32) -> f32 {
    return bitcast<f32>(u32(i32(k) + 127) << 23u);
}

// σ(−|x|), at least the smallest normal number. The exponent is split because the error of exp, in ulps, may grow with |x|.
fn smaller_logistic(x: f32) -> f32 {
    let size = select(abs(x), 87.33, abs(x) > 87.33);
    let k = round(size * 1.442695);
    let f = (size - k * 0.693359375) + k * 2.1219444e-4; // ln 2 in two parts
    return 1.0 / (power_of_two(k) * exp(f) + 1.0);
}

// e^2|x| − 1 and e^2|x| + 1, whose quotient is |tanh(x)|.
fn hyperbolic_terms(x: f32) -> vec2f {
    let size = select(abs(x), 43.665, abs(x) > 43.665);
    let k = round(size * 2.88539);
    let g = (size - k * 0.3466796875) + k * 1.0609722e-4;
    let q = g * (2.0 + g * (1.9999999 + g * (1.3333237 + g * (0.666679 + g * (0.26772037 + g * 0.08877221)))));
    let scale = power_of_two(k);
    return scale * q + vec2f(scale - 1.0, scale + 1.0);
}

// `size` with the sign of x.
fn signed(x: f32, size: f32) -> f32 {
    return select(size, -size, x < 0.0);
}

fn sigmoid(x: f32) -> f32 {
    let small = smaller_logistic(x);
    return select(1.0 - small, small, x < 0.0);
}

// tanh. Some drivers compute their own as (e^2x - 1) / (e^2x + 1), which is inf / inf from x = 44.
fn safe_tanh(x: f32) -> f32 {
    let terms = hyperbolic_terms(x);
    return signed(x, terms.x / terms.y);
}

fn sigmoid_activated(x: f32) -> Activated {
    let small = smaller_logistic(x);
    let large = 1.0 - small;
    return Activated(select(large, small, x < 0.0), select(small, large, x < 0.0), select(-small, small, x < 0.0));
}

fn sigmoid_restored(saved: f32) -> Restored {
    let small = abs(saved);
    let large = 1.0 - small;
    // Both at once: FXC makes invalid code of two opposite choices between an absolute value and another.
    let sides = select(vec2f(small, large), vec2f(large, small), saved < 0.0);
    return Restored(sides.x, sides.y, small * large);
}

fn tanh_activated(x: f32) -> Activated {
    let terms = hyperbolic_terms(x);
    let size = terms.x / terms.y;
    let value = signed(x, size);
    // From 0.55 on the distance from the limit is saved, lifted above the values that are saved as they are.
    return Activated(value, 1.0 - value, signed(x, select(1.7014118e38 / terms.y, size, abs(x) < 0.55))); // 2^127
}

fn tanh_restored(saved: f32) -> Restored {
    let size = abs(saved);
    let near = size < 1.0;
    // 1 − size or size·2^-126, but never a small size times that: processors of software adapters are slow at subnormal numbers.
    let distance = size * select(1.1754944e-38, -1.0, near) + select(0.0, 1.0, near);
    let value = select(signed(saved, 1.0 - distance), saved, near);
    return Restored(value, 1.0 - value, distance * (2.0 - distance));
}

// tanh(x) and its derivative.
fn tanh_and_slope(x: f32) -> vec2f {
    let terms = hyperbolic_terms(x);
    let inverse = 1.0 / terms.y;
    let distance = 2.0 * inverse; // 1 − |tanh(x)|
    return vec2f(signed(x, terms.x * inverse), distance * (2.0 - distance));
}

// ln(1 + x) for x from 0 to 1, as the series of 2·artanh(x / (2 + x)).
fn log_of_one_plus(x: f32) -> f32 {
    let z = x / (2.0 + x);
    let s = z * z;
    return 2.0 * z * (1.0 + s * (1.0 / 3.0 + s * (0.2 + s * (1.0 / 7.0 + s * (1.0 / 9.0 + s * (1.0 / 11.0 + s / 13.0))))));
}

// x clamped to ±limit; NaN stays NaN.
fn clipped(x: f32, limit: f32) -> f32 {
    return select(select(x, -limit, x < -limit), limit, x > limit);
}
