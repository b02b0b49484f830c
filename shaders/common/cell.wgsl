// Results of a cell's steps. The cell defines `State` and SAVED, the number of values saved for backward.

struct Forward {
    h: f32,
    c: State,
    saved: array<f32, SAVED>,
}

struct Backward {
    gates: vec4f,  // gradient of W·x and R·h', per column
    bias: vec4f,   // gradient of the bias, per column
    extra: vec4f,  // gradient of the further parameters
    c_prev: State, // gradient of the states before the step
}
