// What cells leave open: activations and limits, in the step kernels' parameters and their constant KINDS.
// Twin of src/cell/settings.rs.

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
