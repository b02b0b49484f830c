// What cells leave open: activations and limits, in the step kernels' parameters and their constant KINDS.
// Twin of src/cell/settings.rs.

fn gate(a: f32) -> Activated {
    return activated(KINDS & 0xffu, p.gate_alpha, p.gate_beta, clamp(a, -p.clip, p.clip));
}

fn candidate(a: f32) -> Activated {
    return activated((KINDS >> 8u) & 0xffu, p.candidate_alpha, p.candidate_beta, clamp(a, -p.clip, p.clip));
}

fn output(c: f32) -> f32 {
    return activate((KINDS >> 16u) & 0xffu, p.output_alpha, p.output_beta, c);
}

fn output_with_slope(c: f32) -> vec2f {
    return with_slope((KINDS >> 16u) & 0xffu, p.output_alpha, p.output_beta, c);
}

fn coupled() -> bool {
    return ((KINDS >> 24u) & 1u) == 1u;
}

fn restored_open(kind: u32, alpha: f32, beta: f32, saved: f32) -> Restored {
    if (KINDS >> 25u) == 0u {
        return restored(kind, alpha, beta, saved);
    }
    return restored_within(kind, alpha, beta, p.clip, saved);
}

fn gate_restored(saved: f32) -> Restored {
    return restored_open(KINDS & 0xffu, p.gate_alpha, p.gate_beta, saved);
}

fn candidate_restored(saved: f32) -> Restored {
    return restored_open((KINDS >> 8u) & 0xffu, p.candidate_alpha, p.candidate_beta, saved);
}
