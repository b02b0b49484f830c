// What the kernels share in which the threads of a workgroup share the terms of a backward step's product. A thread has four
// units side by side (SPAN is 4) and every SHARES-th unit whose gates are terms, SHARES = 4 THREADS / UNITS, which is at least
// 4 ROWS. The units of each head are padded to a multiple of four, here and in the transposed weights.

var<workgroup> memory: array<vec4f, MEMORY>;

// Units of a head, and with padding.
fn head_units() -> u32 {
    return H / HEADS;
}

fn padded_head() -> u32 {
    return (H / HEADS + 3u) / 4u * 4u;
}

// Units of a direction with padding.
fn padded_units() -> u32 {
    return HEADS * padded_head();
}

// Threads that have the same terms.
fn lanes() -> u32 {
    return UNITS / 4u;
}

// Weights from the four gates of a unit to four units, as they are stored.
struct Kept {
    w0: Weights,
    w1: Weights,
    w2: Weights,
    w3: Weights,
}

// From unit k of a head to the four units in a column of `rt`. Units past the last have gradients of 0, whatever their weights are.
fn kept(d: u32, k: u32, column: u32) -> Kept {
    let row = padded_units() / 4u;
    let at = 4u * row * (d * TERMS + min(k, max(TERMS, 1u) - 1u)) + column;
    return Kept(rt[at], rt[at + row], rt[at + 2u * row], rt[at + 3u * row]);
}

// Adds a unit's gate gradients x, through its weights, to the gradients of four units.
fn added(sum: vec4f, w: Kept, x: vec4f) -> vec4f {
    let first = fma(weights(w.w1), vec4f(x.y), fma(weights(w.w0), vec4f(x.x), sum));
    return fma(weights(w.w3), vec4f(x.w), fma(weights(w.w2), vec4f(x.z), first));
}

// Sums of up to eight rows; columns are rows, their elements units.
struct Sums {
    rows0: mat4x4f,
    rows1: mat4x4f,
}

// Adds a unit's gate gradients to the sums of all rows. They lie at `at` in `memory`, those of the other rows `stride` apart.
fn add_unit(sums: Sums, w: Kept, at: u32, stride: u32) -> Sums {
    var out = sums;
    out.rows0[0] = added(sums.rows0[0], w, memory[at]);
    if ROWS >= 2u {
        out.rows0[1] = added(sums.rows0[1], w, memory[at + stride]);
    }
    if ROWS >= 4u {
        out.rows0[2] = added(sums.rows0[2], w, memory[at + 2u * stride]);
        out.rows0[3] = added(sums.rows0[3], w, memory[at + 3u * stride]);
    }
    if ROWS == 8u {
        out.rows1[0] = added(sums.rows1[0], w, memory[at + 4u * stride]);
        out.rows1[1] = added(sums.rows1[1], w, memory[at + 5u * stride]);
        out.rows1[2] = added(sums.rows1[2], w, memory[at + 6u * stride]);
        out.rows1[3] = added(sums.rows1[3], w, memory[at + 7u * stride]);
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

// The sum of all shares of a row (of those handed over) and unit (of the workgroup's, padded). Eight loads are under way at once.
fn unit_sum(begin: u32, row: u32, unit: u32) -> f32 {
    let shares = THREADS / lanes();
    let at = begin + row * THREADS + unit / 4u;
    let n = unit % 4u;
    var sum = 0.0;
    for (var share = 0u; share + 8u <= shares; share += 8u) {
        let first = at + share * lanes();
        let s0 = memory[first][n];
        let s1 = memory[first + lanes()][n];
        let s2 = memory[first + 2u * lanes()][n];
        let s3 = memory[first + 3u * lanes()][n];
        let s4 = memory[first + 4u * lanes()][n];
        let s5 = memory[first + 5u * lanes()][n];
        let s6 = memory[first + 6u * lanes()][n];
        let s7 = memory[first + 7u * lanes()][n];
        sum += ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7));
    }
    for (var share = shares / 8u * 8u; share < shares; share++) {
        sum += memory[at + share * lanes()][n];
    }
    return sum;
}

// The gradient of h of a thread's row and unit through the product: thread t has row t / UNITS and unit t % UNITS.
fn gathered(begin: u32, thread: u32, sums: Sums) -> f32 {
    let row = thread / UNITS;
    var sum = 0.0;
    hand_over(begin, thread, sums.rows0);
    workgroupBarrier();
    if row < min(ROWS, 4u) {
        sum = unit_sum(begin, row, thread % UNITS);
    }
    if ROWS == 8u {
        workgroupBarrier();
        hand_over(begin, thread, sums.rows1);
        workgroupBarrier();
        if row >= 4u && row < 8u {
            sum = unit_sum(begin, row - 4u, thread % UNITS);
        }
    }
    return sum;
}
