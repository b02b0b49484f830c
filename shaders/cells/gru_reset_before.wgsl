// The GRU whose reset gate acts on the hidden state before the recurrent product: ONNX's, and Keras's with reset_after=False.
// Columns: r, z, n, unused. Other kernels compute r, and add R·h' of r and z, and R·(r ⊙ h') of n, to wx.
// The cell state is the hidden state. Twin of src/cell/gru_reset_before.rs.
const EXTRA = 0u;
const SAVED = 3u; // r, z, n as activations save them

fn cell_forward(wx: vec4f, rh: vec4f, b: vec4f, c_prev: f32, extra: vec4f) -> Forward {
    let r = gate(wx.x + rh.x + b.x);
    let z = gate(wx.y + rh.y + b.y);
    let n = candidate(wx.z + rh.z + b.z);
    let h = z.complement * n.value + z.value * c_prev;
    return Forward(h, h, array<f32, SAVED>(r.saved, z.saved, n.saved));
}

fn cell_backward(saved: array<f32, SAVED>, c_prev: f32, c: f32, dh: f32, dc: f32, extra: vec4f) -> Backward {
    let z = gate_restored(saved[1]);
    let n = candidate_restored(saved[2]);
    let d = dh + dc;
    let dn = d * z.complement * n.slope; // before its activation
    // reset_backward.wgsl computes the gradient of r.
    let gates = vec4f(0.0, d * (c_prev - n.value) * z.slope, dn, 0.0);
    return Backward(gates, gates, vec4f(), d * z.value);
}
