// What the kernels share in which the threads of a workgroup share the terms of a forward step's product. A thread has one unit
// and every SHARES-th four of its terms, SHARES = THREADS / UNITS, which is at least ROWS; SPAN is 1.

var<workgroup> memory: array<vec4f, MEMORY>;

// Units of a head, and of h that they see.
fn head_units() -> u32 {
    return H / HEADS;
}

fn added(sum: vec4f, w: Four, x: vec4f) -> vec4f {
    return fma(w.w3, vec4f(x.w), fma(w.w2, vec4f(x.z), fma(w.w1, vec4f(x.y), fma(w.w0, vec4f(x.x), sum))));
}

// Sums of up to eight rows; columns are rows, their elements gates.
struct Sums {
    rows0: mat4x4f,
    rows1: mat4x4f,
}

// Adds four terms to the sums of all rows; `at` is their place in the first row's h in `memory`, and rows are `row` apart.
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

// The sum of all shares of a row (of those handed over) and unit. Eight loads are under way at once.
fn unit_sum(begin: u32, row: u32, lane: u32) -> vec4f {
    let shares = THREADS / UNITS;
    let at = begin + row * THREADS + lane;
    var sum = vec4f();
    for (var share = 0u; share + 8u <= shares; share += 8u) {
        let first = at + share * UNITS;
        let s0 = memory[first];
        let s1 = memory[first + UNITS];
        let s2 = memory[first + 2u * UNITS];
        let s3 = memory[first + 3u * UNITS];
        let s4 = memory[first + 4u * UNITS];
        let s5 = memory[first + 5u * UNITS];
        let s6 = memory[first + 6u * UNITS];
        let s7 = memory[first + 7u * UNITS];
        sum += ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7));
    }
    for (var share = shares / 8u * 8u; share < shares; share++) {
        sum += memory[at + share * UNITS];
    }
    return sum;
}
