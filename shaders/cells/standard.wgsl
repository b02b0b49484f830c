// The LSTM of PyTorch and Keras. Twin of src/cell/standard.rs.
const EXTRA = 0u;
const SAVED = 4u; // i, f, g, o as common/math.wgsl saves them

fn cell_forward(wx: vec4f, rh: vec4f, b: vec4f, c_prev: f32, extra: vec4f) -> Forward {
    let a = wx + rh + b;
    let i = sigmoid_activated(a.x);
    let f = sigmoid_activated(a.y);
    let g = tanh_activated(a.z);
    let o = sigmoid_activated(a.w);
    let c = f.value * c_prev + i.value * g.value;
    return Forward(o.value * safe_tanh(c), c, array<f32, SAVED>(i.saved, f.saved, g.saved, o.saved));
}

fn cell_backward(saved: array<f32, SAVED>, c_prev: f32, c: f32, dh: f32, dc: f32, extra: vec4f) -> Backward {
    let i = sigmoid_restored(saved[0]);
    let f = sigmoid_restored(saved[1]);
    let g = tanh_restored(saved[2]);
    let o = sigmoid_restored(saved[3]);
    let tc = tanh_and_slope(c);
    let d_c = dc + dh * o.value * tc.y;
    let gates = vec4f(d_c * g.value * i.slope, d_c * c_prev * f.slope, d_c * i.value * g.slope, dh * tc.x * o.slope);
    return Backward(gates, gates, vec4f(), d_c * f.value);
}
