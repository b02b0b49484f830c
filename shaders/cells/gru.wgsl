// The GRU of PyTorch and Keras: r, z, n, with the reset gate after the recurrent product. Columns: r, z, W·x of n, R·h' of n.
// The cell state is the hidden state. Twin of src/cell/gru.rs.
const EXTRA = 0u;
const SAVED = 4u; // r, z, n as activations save them, R·h' of n with its bias

fn cell_forward(wx: vec4f, rh: vec4f, b: vec4f, c_prev: f32, extra: vec4f) -> Forward {
    let r = gate(wx.x + rh.x + b.x);
    let z = gate(wx.y + rh.y + b.y);
    let q = rh.w + b.w;
    let n = candidate(wx.z + b.z + r.value * q);
    let h = z.complement * n.value + z.value * c_prev;
    return Forward(h, h, array<f32, SAVED>(r.saved, z.saved, n.saved, q));
}

fn cell_backward(saved: array<f32, SAVED>, c_prev: f32, c: f32, dh: f32, dc: f32, extra: vec4f) -> Backward {
    let r = gate_restored(saved[0]);
    let z = gate_restored(saved[1]);
    let n = candidate_restored(saved[2]);
    let q = saved[3];
    let d = dh + dc;
    let dn = d * z.complement * n.slope; // before its activation
    let gates = vec4f(dn * q * r.slope, d * (c_prev - n.value) * z.slope, dn, dn * r.value);
    return Backward(gates, gates, vec4f(), d * z.value);
}
