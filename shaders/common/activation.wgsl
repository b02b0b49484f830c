// Activations, numbered as in src/activation.rs, which is the twin.

fn activate(kind: u32, alpha: f32, beta: f32, x: f32) -> f32 {
    switch kind {
        case 1u: { return max(x, 0.0); }
        case 2u: { return sigmoid(x); }
        case 3u: { return safe_tanh(x); }
        case 4u: { return clamp(alpha * x + beta, 0.0, 1.0); }
        case 5u: { return x / (abs(x) + 1.0); }
        case 6u: { return max(x, 0.0) + log_of_one_plus(exp(-abs(x))); }
        case 7u: { return select(x, alpha * exp_minus_one(min(x, 0.0)), x < 0.0); }
        case 8u: { return select(x, alpha * x, x < 0.0); }
        case 9u: { return select(0.0, x, x > alpha); }
        case 10u: { return alpha * x + beta; }
        case 11u: { return alpha * safe_tanh(beta * x); }
        default: { return x; }
    }
}

// The derivative in terms of the output y.
fn activation_slope(kind: u32, alpha: f32, beta: f32, y: f32) -> f32 {
    switch kind {
        case 1u: { return select(0.0, 1.0, y > 0.0); }
        case 2u: { return y * (1.0 - y); }
        case 3u: { return 1.0 - y * y; }
        case 4u: { return select(0.0, alpha, y > 0.0 && y < 1.0); }
        case 5u: { return (1.0 - abs(y)) * (1.0 - abs(y)); }
        case 6u: { return -exp_minus_one(-y); }
        case 7u: { return select(1.0, y + alpha, y < 0.0); }
        case 8u: { return select(1.0, alpha, y < 0.0); }
        case 9u: { return select(0.0, 1.0, y > alpha); }
        case 10u: { return alpha; }
        case 11u: { return select(beta * (alpha - y * y / alpha), 0.0, alpha == 0.0); }
        default: { return 1.0; }
    }
}

// An activation in a cell's forward step, with what its backward step needs.
fn activated(kind: u32, alpha: f32, beta: f32, x: f32) -> Activated {
    if kind == 2u {
        return sigmoid_activated(x);
    } else if kind == 3u {
        return tanh_activated(x);
    }
    let value = activate(kind, alpha, beta, x);
    return Activated(value, 1.0 - value, value);
}

// Value and derivative from what was saved.
fn restored(kind: u32, alpha: f32, beta: f32, saved: f32) -> Restored {
    if kind == 2u {
        return sigmoid_restored(saved);
    } else if kind == 3u {
        return tanh_restored(saved);
    }
    return Restored(saved, 1.0 - saved, activation_slope(kind, alpha, beta, saved));
}

// The same behind a bound ±clip of what goes in: where it has cut, the derivative is 0.
fn restored_within(kind: u32, alpha: f32, beta: f32, clip: f32, saved: f32) -> Restored {
    let whole = restored(kind, alpha, beta, saved);
    var inside: bool;
    if kind == 2u || kind == 3u {
        // Both slopes fall with |x|, and their values have no room near 1.
        inside = whole.slope > restored(kind, alpha, beta, activated(kind, alpha, beta, clip).saved).slope;
    } else {
        let one = activate(kind, alpha, beta, clip);
        let other = activate(kind, alpha, beta, -clip);
        inside = saved > min(one, other) && saved < max(one, other);
    }
    return Restored(whole.value, whole.complement, select(0.0, whole.slope, inside));
}

// The function and its derivative at x.
fn with_slope(kind: u32, alpha: f32, beta: f32, x: f32) -> vec2f {
    if kind == 2u {
        let y = sigmoid_activated(x);
        return vec2f(y.value, y.value * y.complement);
    } else if kind == 3u {
        return tanh_and_slope(x);
    }
    let y = activate(kind, alpha, beta, x);
    return vec2f(y, activation_slope(kind, alpha, beta, y));
}
