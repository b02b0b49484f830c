// What the kernels share in which the threads of a workgroup share the terms of a step's product, forward and backward: `memory`, in
// which terms are staged and sums meet, and the sums of up to eight rows.

var<workgroup> memory: array<vec4f, MEMORY>;

// Units of a head.
fn head_units() -> u32 {
    return H / HEADS;
}

// Weights of four terms as they are stored; where they are packed, in the first element.
struct Kept {
    w0: Weights,
    w1: Weights,
    w2: Weights,
    w3: Weights,
}

fn widened(k: Kept) -> Four {
    return four_weights(k.w0, k.w1, k.w2, k.w3);
}

fn added(sum: vec4f, w: Four, x: vec4f) -> vec4f {
    return fma(w.w3, vec4f(x.w), fma(w.w2, vec4f(x.z), fma(w.w1, vec4f(x.y), fma(w.w0, vec4f(x.x), sum))));
}

// Sums of up to eight rows: columns are rows, their elements gates of a unit, or four units backward.
struct Sums {
    rows0: mat4x4f,
    rows1: mat4x4f,
}

// Adds four terms to the sums of all rows. Those of the first row lie at `at` in `memory`, and rows are `row` apart.
fn add_four(sums: Sums, w: Four, at: u32, row: u32) -> Sums {
    var out = sums;
    out.rows0[0] = added(sums.rows0[0], w, memory[at]);
    if ROWS >= 2u {
        out.rows0[1] = added(sums.rows0[1], w, memory[at + row]);
    }
    if ROWS >= 4u {
        out.rows0[2] = added(sums.rows0[2], w, memory[at + 2u * row]);
        out.rows0[3] = added(sums.rows0[3], w, memory[at + 3u * row]);
    }
    if ROWS == 8u {
        out.rows1[0] = added(sums.rows1[0], w, memory[at + 4u * row]);
        out.rows1[1] = added(sums.rows1[1], w, memory[at + 5u * row]);
        out.rows1[2] = added(sums.rows1[2], w, memory[at + 6u * row]);
        out.rows1[3] = added(sums.rows1[3], w, memory[at + 7u * row]);
    }
    return out;
}

// Leaves a thread's sums of up to four rows to the other shares, in `memory` from `begin` on.
fn hand_over(begin: u32, thread: u32, sums: mat4x4f) {
    let at = begin + thread;
    memory[at] = sums[0];
    if ROWS >= 2u {
        memory[at + THREADS] = sums[1];
    }
    if ROWS >= 4u {
        memory[at + 2u * THREADS] = sums[2];
        memory[at + 3u * THREADS] = sums[3];
    }
}
