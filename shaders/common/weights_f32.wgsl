// Recurrent weights in f32, four gates of a unit (or four units) to an element.
alias Weights = vec4f;
const PACKED = false;

fn weights(four: Weights) -> vec4f {
    return four;
}

// Weights of four terms, [from] of 4 gates.
struct Four {
    w0: vec4f,
    w1: vec4f,
    w2: vec4f,
    w3: vec4f,
}

fn four_weights(w0: Weights, w1: Weights, w2: Weights, w3: Weights) -> Four {
    return Four(w0, w1, w2, w3);
}

fn factors(four: Weights) -> vec4f {
    return vec4f(1.0);
}
