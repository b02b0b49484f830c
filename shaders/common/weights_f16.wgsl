// Recurrent weights rounded to f16 (`half.wgsl`), four to an element: half as many bytes to load in every step. They are widened
// to f32 as they are loaded, so all sums are f32.
alias Weights = vec2u;
const PACKED = false;

fn weights(four: Weights) -> vec4f {
    return vec4f(unpack2x16float(four.x), unpack2x16float(four.y));
}

// Weights of four terms, [from] of 4 gates.
struct Four {
    w0: vec4f,
    w1: vec4f,
    w2: vec4f,
    w3: vec4f,
}

fn four_weights(w0: Weights, w1: Weights, w2: Weights, w3: Weights) -> Four {
    return Four(weights(w0), weights(w1), weights(w2), weights(w3));
}

fn factors(four: Weights) -> vec4f {
    return vec4f(1.0);
}
