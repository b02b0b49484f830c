// Recurrent weights in f32, four to an element.
alias Weights = vec4f;

fn weights(four: Weights) -> vec4f {
    return four;
}
