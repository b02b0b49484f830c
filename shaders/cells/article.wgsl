// The article's cell: the forget gate multiplies the candidate's product, before the bias.
// Twin of src/cell/article.rs.
const EXTRA = 0u;
const SAVED = 5u; // i, f, candidate, o as common/math.wgsl saves them, z = W_c·[h', x]

fn cell_forward(wx: vec4f, rh: vec4f, b: vec4f, c_prev: f32, extra: vec4f) -> Forward {
    let z = wx + rh;
    let i = sigmoid_activated(z.x + b.x);
    let f = sigmoid_activated(z.y + b.y);
    let o = sigmoid_activated(z.w + b.w);
    let candidate = tanh_activated(z.z * f.value + b.z);
    let c = c_prev * i.complement + candidate.value * i.value;
    return Forward(
        safe_tanh(c) * o.value,
        c,
        array<f32, SAVED>(i.saved, f.saved, candidate.saved, o.saved, z.z),
    );
}

fn cell_backward(saved: array<f32, SAVED>, c_prev: f32, c: f32, dh: f32, dc: f32, extra: vec4f) -> Backward {
    let i = sigmoid_restored(saved[0]);
    let f = sigmoid_restored(saved[1]);
    let candidate = tanh_restored(saved[2]);
    let o = sigmoid_restored(saved[3]);
    let z = saved[4];
    let tc = tanh_and_slope(c);
    let d_c = dc + dh * o.value * tc.y;
    let d_candidate = d_c * i.value * candidate.slope; // before tanh
    let di = d_c * (candidate.value - c_prev) * i.slope;
    let df = d_candidate * z * f.slope;
    let d_o = dh * tc.x * o.slope;
    let gates = vec4f(di, df, d_candidate * f.value, d_o);
    return Backward(gates, vec4f(di, df, d_candidate, d_o), vec4f(), d_c * i.complement);
}
