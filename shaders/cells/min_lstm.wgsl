// minLSTM with normalised gates and a linear candidate. Columns: i, f, candidate, unused; there is no recurrent product.
// The cell state is the hidden state. Twin of src/cell/min_lstm.rs.
const EXTRA = 0u;
const SAVED = 3u; // i, f as common/math.wgsl saves them, the candidate

fn cell_forward(wx: vec4f, rh: vec4f, b: vec4f, c_prev: f32, extra: vec4f) -> Forward {
    let i = sigmoid_activated(wx.x + b.x);
    let f = sigmoid_activated(wx.y + b.y);
    let g = wx.z + b.z;
    let sum = f.value + i.value; // never 0
    let h = f.value / sum * c_prev + i.value / sum * g;
    return Forward(h, h, array<f32, SAVED>(i.saved, f.saved, g));
}

fn cell_backward(saved: array<f32, SAVED>, c_prev: f32, c: f32, dh: f32, dc: f32, extra: vec4f) -> Backward {
    let i = sigmoid_restored(saved[0]);
    let f = sigmoid_restored(saved[1]);
    let sum = f.value + i.value;
    let keep = f.value / sum;
    let take = i.value / sum;
    let d = dh + dc;
    let d_keep = d * (c_prev - saved[2]) * keep * take; // keep = σ(ln f − ln i), and ln σ has the slope 1 − σ
    let gates = vec4f(-d_keep * i.complement, d_keep * f.complement, d * take, 0.0);
    return Backward(gates, gates, vec4f(), d * keep);
}
