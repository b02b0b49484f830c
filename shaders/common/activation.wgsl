// Activations, numbered as in src/activation.rs, which is the twin.

fn activate(kind: u32, alpha: f32, beta: f32, x: f32) -> f32 {
    switch kind {
        case 1u: { return max(x, 0.0); }
        case 2u: { return sigmoid(x); }
        case 3u: { return safe_tanh(x); }
        case 4u: { return clamp(alpha * x + beta, 0.0, 1.0); }
        case 5u: { return x / (abs(x) + 1.0); }
        case 6u: { return max(x, 0.0) + log(1.0 + exp(-abs(x))); }
        case 7u: { return select(x, alpha * (exp(min(x, 0.0)) - 1.0), x < 0.0); }
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
        case 6u: { return 1.0 - exp(-y); }
        case 7u: { return select(1.0, y + alpha, y < 0.0); }
        case 8u: { return select(1.0, alpha, y < 0.0); }
        case 9u: { return select(0.0, 1.0, y > alpha); }
        case 10u: { return alpha; }
        case 11u: { return select(beta * (alpha - y * y / alpha), 0.0, alpha == 0.0); }
        default: { return 1.0; }
    }
}
