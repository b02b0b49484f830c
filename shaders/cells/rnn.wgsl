// The plain recurrent cell of PyTorch, Keras and ONNX. One column is in use; the other three stay empty.
// The cell state is the hidden state. Twin of src/cell/rnn.rs.
const EXTRA = 0u;
const SAVED = 1u; // h as its activation saves it

fn cell_forward(wx: vec4f, rh: vec4f, b: vec4f, c_prev: f32, extra: vec4f) -> Forward {
    let y = candidate(wx.x + rh.x + b.x);
    return Forward(y.value, y.value, array<f32, SAVED>(y.saved));
}

fn cell_backward(saved: array<f32, SAVED>, c_prev: f32, c: f32, dh: f32, dc: f32, extra: vec4f) -> Backward {
    let y = candidate_restored(saved[0]);
    let gates = vec4f((dh + dc) * y.slope, 0.0, 0.0, 0.0);
    return Backward(gates, gates, vec4f(), 0.0);
}
