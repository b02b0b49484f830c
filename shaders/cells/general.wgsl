// The LSTM of the ONNX operator and of cuDNN: any activations, peepholes (EXTRA), coupled gates, both clips.
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

fn gate(a: f32) -> f32 {
    return activate(KINDS & 0xffu, p.gate_alpha, p.gate_beta, clamp(a, -p.clip, p.clip));
}

fn candidate(a: f32) -> f32 {
    return activate((KINDS >> 8u) & 0xffu, p.candidate_alpha, p.candidate_beta, clamp(a, -p.clip, p.clip));
}

fn output(c: f32) -> f32 {
    return activate((KINDS >> 16u) & 0xffu, p.output_alpha, p.output_beta, c);
}

fn coupled() -> bool {
    return ((KINDS >> 24u) & 1u) == 1u;
}

// Whether the clip has not cut, in terms of an activation's values at y, at the clip and at its negative.
fn inside(y: f32, one: f32, other: f32) -> bool {
    return (KINDS >> 25u) == 0u || (y > min(one, other) && y < max(one, other));
}

fn gate_slope(y: f32) -> f32 {
    let slope = activation_slope(KINDS & 0xffu, p.gate_alpha, p.gate_beta, y);
    return select(0.0, slope, inside(y, gate(p.clip), gate(-p.clip)));
}

fn candidate_slope(y: f32) -> f32 {
    let slope = activation_slope((KINDS >> 8u) & 0xffu, p.candidate_alpha, p.candidate_beta, y);
    return select(0.0, slope, inside(y, candidate(p.clip), candidate(-p.clip)));
}

fn cell_forward(wx: vec4f, rh: vec4f, b: vec4f, c_prev: f32, peephole: vec4f) -> Forward {
    let a = wx + rh + b;
    let i = gate(a.x + peephole.x * c_prev);
    let f = select(gate(a.y + peephole.y * c_prev), 1.0 - i, coupled());
    let g = candidate(a.z);
    let c = clamp(f * c_prev + i * g, -p.cell_clip, p.cell_clip);
    let o = gate(a.w + peephole.w * c);
    return Forward(o * output(c), c, array<f32, SAVED>(i, f, g, o));
}

// The new cell state is made again: zoneout may have put the old one in its place since.
fn cell_backward(saved: array<f32, SAVED>, c_prev: f32, c_kept: f32, dh: f32, dc: f32, peephole: vec4f) -> Backward {
    let i = saved[0];
    let f = saved[1];
    let g = saved[2];
    let o = saved[3];
    let whole = f * c_prev + i * g;
    let c = clamp(whole, -p.cell_clip, p.cell_clip);
    let y = output(c);
    let a_o = dh * y * gate_slope(o);
    let slope = activation_slope((KINDS >> 16u) & 0xffu, p.output_alpha, p.output_beta, y);
    let d_c = select(0.0, dc + dh * o * slope + a_o * peephole.w, abs(whole) < p.cell_clip);
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
