// Activations, numbered as in src/activation.rs, the twin. They are split into several functions so that a kernel has each only as
// often as its cell calls it: drivers inline functions before they drop the branches that a constant KIND excludes.

// Activations other than sigmoid and the two of tanh.
fn activate_plain(kind: u32, alpha: f32, beta: f32, x: f32) -> f32 {
    switch kind {
        case 1u: { return max(x, 0.0); }
        case 4u: { return clamp(alpha * x + beta, 0.0, 1.0); }
        case 5u: { return x / (abs(x) + 1.0); }
        case 6u: { return max(x, 0.0) + log(1.0 + exp(-abs(x))); }
        case 7u: { return select(x, alpha * (exp(min(x, 0.0)) - 1.0), x < 0.0); }
        case 8u: { return select(x, alpha * x, x < 0.0); }
        case 9u: { return select(0.0, x, x > alpha); }
        case 10u: { return alpha * x + beta; }
        default: { return x; }
    }
}

fn activate(kind: u32, alpha: f32, beta: f32, x: f32) -> f32 {
    if kind == 2u {
        return sigmoid(x);
    } else if kind == 3u || kind == 11u {
        let y = safe_tanh(select(x, beta * x, kind == 11u));
        return select(y, alpha * y, kind == 11u);
    }
    return activate_plain(kind, alpha, beta, x);
}

// The derivative in terms of the output y.
fn activation_slope(kind: u32, alpha: f32, beta: f32, y: f32) -> f32 {
    switch kind {
        case 1u: { return select(0.0, 1.0, y > 0.0); }
        case 2u: { return y * (1.0 - y); }
        case 3u: { return 1.0 - y * y; }
        case 4u: { return select(0.0, alpha, y > 0.0 && y < 1.0); }
        case 5u: { return (1.0 - abs(y)) * (1.0 - abs(y)); }
        case 6u: { return 1.0 - exp(-y); }
        case 7u: { return select(1.0, y + alpha, y < 0.0); }
        case 8u: { return select(1.0, alpha, y < 0.0); }
        case 9u: { return select(0.0, 1.0, y > alpha); }
        case 10u: { return alpha; }
        case 11u: { return select(beta * (alpha - y * y / alpha), 0.0, alpha == 0.0); }
        default: { return 1.0; }
    }
}

// An activation in a cell's forward step, with the number that its backward step needs.
fn activated(kind: u32, alpha: f32, beta: f32, x: f32) -> Activated {
    if kind == 2u {
        return sigmoid_activated(x);
    }
    var value: f32;
    if kind == 3u || kind == 11u {
        let y = tanh_activated(select(x, beta * x, kind == 11u));
        if kind == 3u {
            return y;
        }
        value = alpha * y.value;
    } else {
        value = activate_plain(kind, alpha, beta, x);
    }
    return Activated(value, 1.0 - value, value);
}

// Value and derivative from the saved number.
fn restored(kind: u32, alpha: f32, beta: f32, saved: f32) -> Restored {
    if kind == 2u {
        return sigmoid_restored(saved);
    } else if kind == 3u {
        return tanh_restored(saved);
    }
    return Restored(saved, 1.0 - saved, activation_slope(kind, alpha, beta, saved));
}

// True if the argument was within ±clip, by the derivative and the saved number.
fn inside(kind: u32, alpha: f32, beta: f32, clip: f32, slope: f32, saved: f32) -> bool {
    // The derivatives of sigmoid and tanh fall with |x|; their values cannot tell, since f32 has too few digits near 1.
    if kind == 2u {
        let small = smaller_logistic(clip);
        return slope > small * (1.0 - small);
    } else if kind == 3u {
        let distance = 2.0 / hyperbolic_terms(clip).y;
        return slope > distance * (2.0 - distance);
    }
    let one = activate(kind, alpha, beta, clip);
    let other = activate(kind, alpha, beta, -clip);
    return saved > min(one, other) && saved < max(one, other);
}

// The function and its derivative at x.
fn with_slope(kind: u32, alpha: f32, beta: f32, x: f32) -> vec2f {
    if kind == 2u {
        let y = sigmoid_activated(x);
        return vec2f(y.value, y.value * y.complement);
    } else if kind == 3u || kind == 11u {
        let y = tanh_and_slope(select(x, beta * x, kind == 11u));
        return select(y, vec2f(alpha * y.x, alpha * beta * y.y), kind == 11u);
    }
    let y = activate_plain(kind, alpha, beta, x);
    return vec2f(y, activation_slope(kind, alpha, beta, y));
}
