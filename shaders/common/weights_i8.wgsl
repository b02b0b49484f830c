// Recurrent weights as whole numbers (`int8.wgsl`): an element has four terms of four gates, a byte each, and every gate of a unit
// has a factor. Sums are f32.
alias Weights = vec4u;
const PACKED = true;

// Weights of four terms without their factors, [from] of 4 gates.
struct Four {
    w0: vec4f,
    w1: vec4f,
    w2: vec4f,
    w3: vec4f,
}

fn term_of(gates: Weights, n: u32) -> vec4f {
    return vec4f(extractBits(vec4i(gates), 8u * n, 8u));
}

fn four_weights(w0: Weights, w1: Weights, w2: Weights, w3: Weights) -> Four {
    return Four(term_of(w0, 0u), term_of(w0, 1u), term_of(w0, 2u), term_of(w0, 3u));
}

fn factors(four: Weights) -> vec4f {
    return bitcast<vec4f>(four);
}
