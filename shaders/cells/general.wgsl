// The LSTM of the ONNX operator and of cuDNN: any activations, peepholes (EXTRA), coupled gates, both clips. If the cell state
// is normalised on its way to h (NORMED), this returns the output gate in place of h, and another kernel computes h.
// Twin of src/cell/general.rs.
const SAVED = 4u; // i, f, g, o as activations save them

// The coupled forget gate, f = 1 − i.
fn coupled_to(i: Activated) -> Activated {
    return Activated(i.complement, i.value, i.complement);
}

fn cell_forward(wx: vec4f, rh: vec4f, b: vec4f, c_prev: f32, peephole: vec4f) -> Forward {
    let a = wx + rh + b;
    let i = gate(a.x + peephole.x * c_prev);
    var f = coupled_to(i);
    if !coupled() {
        f = gate(a.y + peephole.y * c_prev);
    }
    let g = candidate(a.z);
    let c = clamp(f.value * c_prev + i.value * g.value, -p.cell_clip, p.cell_clip);
    let o = gate(a.w + peephole.w * c);
    return Forward(
        select(o.value * output(c), o.value, NORMED == 1u),
        c,
        array<f32, SAVED>(i.saved, f.saved, g.saved, o.saved),
    );
}

// The new cell state is computed again, since zoneout may have replaced it by the old one.
fn cell_backward(saved: array<f32, SAVED>, c_prev: f32, c_kept: f32, dh: f32, dc: f32, peephole: vec4f) -> Backward {
    let i = gate_restored(saved[0]);
    var f = Restored(i.complement, i.value, 0.0);
    if !coupled() {
        f = gate_restored(saved[1]);
    }
    let g = candidate_restored(saved[2]);
    let o = gate_restored(saved[3]);
    let whole = f.value * c_prev + i.value * g.value;
    let c = clamp(whole, -p.cell_clip, p.cell_clip);
    let y = select(output_with_slope(c), vec2f(1.0, 0.0), NORMED == 1u); // and its slope
    let a_o = dh * y.x * o.slope;
    let d_c = select(0.0, dc + dh * o.value * y.y + a_o * peephole.w, abs(whole) < p.cell_clip);
    let a_f = d_c * c_prev * f.slope;
    let a_i = d_c * select(g.value, g.value - c_prev, coupled()) * i.slope;
    let gates = vec4f(a_i, a_f, d_c * i.value * g.slope, a_o);
    return Backward(
        gates,
        gates,
        vec4f(a_i * c_prev, a_f * c_prev, 0.0, a_o * c),
        d_c * f.value + a_i * peephole.x + a_f * peephole.y,
    );
}
