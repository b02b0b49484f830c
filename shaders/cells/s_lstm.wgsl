// sLSTM: exponential input gate, forget gate σ, normaliser n, stabiliser m. States: c, n, m.
// Twin of src/cell/s_lstm.rs, which says more.
const EXTRA = 0u;
const SAVED = 5u; // i and f after the stabiliser, z, o, σ of the forget gate as common/math.wgsl saves them

fn cell_forward(wx: vec4f, rh: vec4f, b: vec4f, old: State, extra: vec4f) -> Forward {
    let a = wx + rh + b;
    let forget = sigmoid_activated(a.y);
    let z = tanh_activated(a.z);
    let o = sigmoid_activated(a.w);
    let carried = min(a.y, 0.0) - log_of_one_plus(exp(-abs(a.y))) + old.z; // ln σ of the forget gate, and m'
    let m = select(a.x, max(a.x, carried), old.y != 0.0);
    let i = exp(a.x - m);
    let f = exp(min(carried - m, 60.0)); // above 0 only where c' and n' are 0
    let c = f * old.x + i * z.value;
    let n = f * old.y + i;
    return Forward(
        o.value * (c / n),
        vec3f(c, n, m),
        array<f32, SAVED>(i, f, z.saved, o.saved, forget.saved),
    );
}

fn cell_backward(saved: array<f32, SAVED>, old: State, now: State, dh: f32, d_now: State, extra: vec4f) -> Backward {
    let i = saved[0];
    let f = saved[1];
    let z = tanh_restored(saved[2]);
    let o = sigmoid_restored(saved[3]);
    let forget = sigmoid_restored(saved[4]);
    let y = now.x / now.y;
    let dy = dh * o.value / now.y;
    let d_c = d_now.x + dy;
    let d_n = d_now.y - dy * y;
    // m is a.x if i is 1, else the carried value. h does not depend on m.
    let d_m = d_now.z - d_now.x * now.x - d_now.y * now.y;
    let d_carried = f * (d_c * old.x + d_n * old.y) + select(0.0, d_m, i < 1.0);
    let d_i = i * (d_c * z.value + d_n) + select(d_m, 0.0, i < 1.0);
    let gates = vec4f(d_i, d_carried * forget.complement, d_c * i * z.slope, dh * y * o.slope);
    return Backward(gates, gates, vec4f(), vec3f(d_c * f, d_n * f, d_carried));
}
