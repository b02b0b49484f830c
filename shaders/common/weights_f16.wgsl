// Recurrent weights rounded to f16 (`half.wgsl`), four to an element: half as many bytes to load in every step. They are widened
// to f32 as they are loaded, so all sums are f32.
alias Weights = vec2u;

fn weights(four: Weights) -> vec4f {
    return vec4f(unpack2x16float(four.x), unpack2x16float(four.y));
}
