// A cell's settings: activations and clips, from the step kernels' parameters and their constant KINDS.
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

// The derivative is 0 where the clip was active.
fn within_clip(kind: u32, alpha: f32, beta: f32, whole: Restored, saved: f32) -> Restored {
    if (KINDS >> 25u) == 0u || inside(kind, alpha, beta, p.clip, whole.slope, saved) {
        return whole;
    }
    return Restored(whole.value, whole.complement, 0.0);
}

fn gate_restored(saved: f32) -> Restored {
    let whole = restored(KINDS & 0xffu, p.gate_alpha, p.gate_beta, saved);
    return within_clip(KINDS & 0xffu, p.gate_alpha, p.gate_beta, whole, saved);
}

fn candidate_restored(saved: f32) -> Restored {
    let whole = restored((KINDS >> 8u) & 0xffu, p.candidate_alpha, p.candidate_beta, saved);
    return within_clip((KINDS >> 8u) & 0xffu, p.candidate_alpha, p.candidate_beta, whole, saved);
}
