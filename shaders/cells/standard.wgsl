// The LSTM of PyTorch and Keras. Twin of src/cell/standard.rs.
const EXTRA = 0u;
const SAVED = 4u; // i, f, g, o

struct Forward {
    h: f32,
    c: f32,
    saved: array<f32, SAVED>,
}

struct Backward {
    gates: vec4f, // gradient of W·x and R·h', per gate
    bias: vec4f,  // gradient of the bias, per gate
    extra: vec4f,
    c_prev: f32,
}

fn cell_forward(wx: vec4f, rh: vec4f, b: vec4f, c_prev: f32, extra: vec4f) -> Forward {
    let a = wx + rh + b;
    let i = sigmoid(a.x);
    let f = sigmoid(a.y);
    let g = safe_tanh(a.z);
    let o = sigmoid(a.w);
    let c = f * c_prev + i * g;
    return Forward(o * safe_tanh(c), c, array<f32, SAVED>(i, f, g, o));
}

fn cell_backward(saved: array<f32, SAVED>, c_prev: f32, c: f32, dh: f32, dc: f32, extra: vec4f) -> Backward {
    let i = saved[0];
    let f = saved[1];
    let g = saved[2];
    let o = saved[3];
    let tc = safe_tanh(c);
    let d_c = dc + dh * o * (1.0 - tc * tc);
    let gates = vec4f(
        d_c * g * i * (1.0 - i),
        d_c * c_prev * f * (1.0 - f),
        d_c * i * (1.0 - g * g),
        dh * tc * o * (1.0 - o),
    );
    return Backward(gates, gates, vec4f(), d_c * f);
}
