// The article's cell: the forget gate multiplies the candidate's product, before the bias.
// Twin of src/cell/article.rs.
const EXTRA = 0u;
const SAVED = 5u; // i, f, candidate, o, z = W_c·[h', x]

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
    let z = wx + rh;
    let i = sigmoid(z.x + b.x);
    let f = sigmoid(z.y + b.y);
    let o = sigmoid(z.w + b.w);
    let candidate = safe_tanh(z.z * f + b.z);
    let c = c_prev * (1.0 - i) + candidate * i;
    return Forward(safe_tanh(c) * o, c, array<f32, SAVED>(i, f, candidate, o, z.z));
}

fn cell_backward(saved: array<f32, SAVED>, c_prev: f32, c: f32, dh: f32, dc: f32, extra: vec4f) -> Backward {
    let i = saved[0];
    let f = saved[1];
    let candidate = saved[2];
    let o = saved[3];
    let z = saved[4];
    let tc = safe_tanh(c);
    let d_c = dc + dh * o * (1.0 - tc * tc);
    let d_candidate = d_c * i * (1.0 - candidate * candidate); // before tanh
    let di = d_c * (candidate - c_prev) * i * (1.0 - i);
    let df = d_candidate * z * f * (1.0 - f);
    let d_o = dh * tc * o * (1.0 - o);
    let gates = vec4f(di, df, d_candidate * f, d_o);
    return Backward(gates, vec4f(di, df, d_candidate, d_o), vec4f(), d_c * (1.0 - i));
}
