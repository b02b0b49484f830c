// One backward time step of all directions of a layer, for devices with many threads: the counterpart of step_forward.wgsl. The
// gradient of the hidden state is that of the output plus that of the later step through the recurrent product; the cell turns it
// into gate gradients. A workgroup computes UNITS hidden units of ROWS (1, 2, 4 or 8) batch rows.
//
// `memory` holds first gate gradients of the later step [ROWS, heads, chunk of a head's units], then partial sums
// [ROWS (at most 4), THREADS].

// Heads of a workgroup's units.
fn heads_here() -> u32 {
    if HEADS == 1u {
        return 1u;
    }
    return min(HEADS, (UNITS - 1u) / padded_head() + 2u);
}

@compute @workgroup_size(THREADS, 1, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let shares = THREADS / lanes();
    let share = local.x / lanes();
    let d = group.z;
    let first = group.y * ROWS; // b
    let last = p.batch - 1u;
    // The row and unit of which this thread computes the cell.
    let padded = group.x * UNITS + local.x % UNITS;
    let row = first + local.x / UNITS;
    let finishes = local.x / UNITS < ROWS && row <= last && padded < padded_units() && padded % padded_head() < head_units();
    let unit = padded / padded_head() * head_units() + padded % padded_head();
    let cell = (d * p.batch + row) * H + unit; // in a slot [D, B, H]
    // In time before the sums are there.
    var extra: vec4f;
    var old: Given;
    var later: Carried;
    if finishes {
        extra = extra_parameters(d, unit);
        old = given(0u, d, row, unit);
        later = carried(0u, cell);
    }
    var recurrent = 0.0;
    if TERMS > 0u && p.has_next == 1u {
        let first_head = group.x * UNITS / padded_head();
        let most = MEMORY / (ROWS * heads_here() * shares) * shares; // units of a chunk
        let chunks = max((TERMS + most - 1u) / most, 1u);
        let turns = ((TERMS + chunks - 1u) / chunks + shares - 1u) / shares; // of a thread in a chunk
        let chunk = turns * shares;
        let stride = heads_here() * chunk; // of a row
        let column = min(group.x * lanes() + local.x % lanes(), padded_units() / 4u - 1u);
        let seen = (4u * column / padded_head() - first_head) * chunk; // units of earlier heads
        var sums: Sums;
        for (var n = 0u; n < chunks; n++) {
            for (var k = local.x; k < ROWS * stride; k += THREADS) {
                let head = min(first_head + k / chunk % heads_here(), HEADS - 1u);
                let b = min(first + k / stride, last);
                let term = n * chunk + k % chunk;
                let at = (d * p.batch + b) * H + head * head_units() + min(term, TERMS - 1u);
                memory[k] = select(vec4f(), dg[p.dg_next / 4u + at], term < TERMS);
            }
            workgroupBarrier();
            // Neighbouring shares take neighbouring units. Few rows leave registers for sixteen loads at once.
            let first_k = n * chunk + share;
            let at = seen + share;
            let together = select(0u, turns / 4u * 4u, ROWS <= 2u);
            for (var turn = 0u; turn < together; turn += 4u) {
                let w0 = kept(d, first_k + turn * shares, column);
                let w1 = kept(d, first_k + (turn + 1u) * shares, column);
                let w2 = kept(d, first_k + (turn + 2u) * shares, column);
                let w3 = kept(d, first_k + (turn + 3u) * shares, column);
                sums = add_four(sums, widened(w0), at + turn * shares, stride);
                sums = add_four(sums, widened(w1), at + (turn + 1u) * shares, stride);
                sums = add_four(sums, widened(w2), at + (turn + 2u) * shares, stride);
                sums = add_four(sums, widened(w3), at + (turn + 3u) * shares, stride);
            }
            for (var turn = together; turn < turns; turn++) {
                sums = add_four(sums, widened(kept(d, first_k + turn * shares, column)), at + turn * shares, stride);
            }
            workgroupBarrier();
        }
        recurrent = gathered(0u, local.x, sums);
    }
    if finishes {
        leave(cell, cell_step(0u, d, row, unit, extra, old, later, recurrent).carried);
    }
}
