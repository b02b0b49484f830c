// The LSTM of the ONNX operator and of cuDNN: any activations, peepholes (EXTRA), coupled gates, both clips. Where the cell
// state is normalised (NORMED) before it goes to h, another kernel makes h of it, and of the output gate, which is given for h.
// Twin of src/cell/general.rs.
const SAVED = 4u; // i, f, g, o

struct Forward {
    h: f32,
    c: f32,
    saved: array<f32, SAVED>,
}

struct Backward {
    gates: vec4f, // gradient of W·x and R·h', per gate
    bias: vec4f,  // gradient of the bias, per gate
    extra: vec4f, // gradient of the peepholes: i, f, unused, o
    c_prev: f32,
}

fn cell_forward(wx: vec4f, rh: vec4f, b: vec4f, c_prev: f32, peephole: vec4f) -> Forward {
    let a = wx + rh + b;
    let i = gate(a.x + peephole.x * c_prev);
    let f = select(gate(a.y + peephole.y * c_prev), 1.0 - i, coupled());
    let g = candidate(a.z);
    let c = clamp(f * c_prev + i * g, -p.cell_clip, p.cell_clip);
    let o = gate(a.w + peephole.w * c);
    return Forward(select(o * output(c), o, NORMED == 1u), c, array<f32, SAVED>(i, f, g, o));
}

// The new cell state is made again: zoneout may have put the old one in its place since.
fn cell_backward(saved: array<f32, SAVED>, c_prev: f32, c_kept: f32, dh: f32, dc: f32, peephole: vec4f) -> Backward {
    let i = saved[0];
    let f = saved[1];
    let g = saved[2];
    let o = saved[3];
    let whole = f * c_prev + i * g;
    let c = clamp(whole, -p.cell_clip, p.cell_clip);
    let y = select(output(c), 1.0, NORMED == 1u);
    let a_o = dh * y * gate_slope(o);
    let slope = activation_slope((KINDS >> 16u) & 0xffu, p.output_alpha, p.output_beta, y);
    let through = select(dh * o * slope, 0.0, NORMED == 1u); // h
    let d_c = select(0.0, dc + through + a_o * peephole.w, abs(whole) < p.cell_clip);
    let a_f = select(d_c * c_prev * gate_slope(f), 0.0, coupled());
    let a_i = d_c * select(g, g - c_prev, coupled()) * gate_slope(i);
    let gates = vec4f(a_i, a_f, d_c * i * candidate_slope(g), a_o);
    return Backward(
        gates,
        gates,
        vec4f(a_i * c_prev, a_f * c_prev, 0.0, a_o * c),
        d_c * f + a_i * peephole.x + a_f * peephole.y,
    );
}
