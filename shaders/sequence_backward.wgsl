// Many backward time steps of all directions of a layer, from the last to the first, for devices with many threads: the
// counterpart of sequence_forward.wgsl. A workgroup carries ROWS (1, 2, 4 or 8) batch rows with all their hidden units through
// time; gate gradients go from step to step through workgroup memory, and storage gets them without being read again. UNITS are
// all units, padded. A thread that has few terms keeps their weights in registers.
//
// `memory` holds gate gradients of the later step [ROWS, HEADS, units of a head], then partial sums [ROWS (at most 4), THREADS].

// Units, as terms, whose weights a thread keeps in registers.
const MOST_KEPT = 4u;

// Terms of a thread.
fn turns() -> u32 {
    let shares = THREADS / lanes();
    return (TERMS + shares - 1u) / shares;
}

// Terms of a head in `memory`: as many as all threads read, zeros past the last.
fn head_size() -> u32 {
    return turns() * (THREADS / lanes());
}

// Elements of gate gradients in `memory`.
fn state_size() -> u32 {
    return ROWS * HEADS * head_size();
}

@compute @workgroup_size(THREADS, 1, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let shares = THREADS / lanes();
    let share = local.x / lanes();
    let d = group.z;
    let first = group.y * ROWS; // b
    let last = p.batch - 1u;
    // The row and unit of which this thread computes the cell.
    let padded = local.x % UNITS;
    let head = padded / padded_head();
    let in_head = padded % padded_head();
    let row = first + local.x / UNITS;
    let finishes = local.x / UNITS < ROWS && row <= last && in_head < head_units();
    let unit = head * head_units() + min(in_head, head_units() - 1u);
    let cell = (d * p.batch + min(row, last)) * H + unit; // in a slot [D, B, H]
    let size = max(head_size(), 1u);
    let place = (local.x / UNITS * HEADS + head) * size + in_head; // of the unit's gate gradients in `memory`
    let extra = extra_parameters(d, unit);
    var old: Given;
    var later: Carried;
    if finishes {
        old = given(p.steps - 1u, d, row, unit);
        later = carried(p.steps - 1u, cell);
    }
    let column = local.x % lanes();
    let seen = 4u * column / padded_head() * size;
    var kept0: Kept;
    var kept1: Kept;
    var kept2: Kept;
    var kept3: Kept;
    if TERMS > 0u && turns() <= MOST_KEPT {
        kept0 = kept(d, share, column);
        kept1 = kept(d, share + shares, column);
        kept2 = kept(d, share + 2u * shares, column);
        kept3 = kept(d, share + 3u * shares, column);
    }
    for (var k = local.x; k < state_size(); k += THREADS) {
        let b = min(first + k / (HEADS * size), last);
        let term = k % size;
        let at = (d * p.batch + b) * H + k / size % HEADS * head_units() + min(term, head_units() - 1u);
        var gates = vec4f();
        if p.has_next == 1u && term < TERMS {
            gates = dg[p.dg_next / 4u + at];
        }
        memory[k] = gates;
    }
    workgroupBarrier();
    for (var back = 0u; back < p.steps; back++) {
        let step = p.steps - 1u - back;
        var next: Given; // in time for the step before
        if finishes && step > 0u {
            next = given(step - 1u, d, row, unit);
        }
        var recurrent = 0.0;
        if TERMS > 0u {
            let stride = HEADS * size;
            var sums: Sums;
            if turns() <= MOST_KEPT {
                sums = add_four(sums, widened(kept0), seen + share, stride);
                if turns() >= 2u {
                    sums = add_four(sums, widened(kept1), seen + share + shares, stride);
                }
                if turns() >= 3u {
                    sums = add_four(sums, widened(kept2), seen + share + 2u * shares, stride);
                }
                if turns() >= 4u {
                    sums = add_four(sums, widened(kept3), seen + share + 3u * shares, stride);
                }
            } else {
                for (var turn = 0u; turn < turns(); turn++) {
                    let k = turn * shares + share;
                    sums = add_four(sums, widened(kept(d, k, column)), seen + k, stride);
                }
            }
            recurrent = gathered(state_size(), local.x, sums);
        }
        if finishes {
            let made = cell_step(step, d, row, unit, extra, old, later, recurrent);
            later = made.carried;
            old = next;
            if TERMS > 0u {
                memory[place] = made.gates;
            }
        }
        workgroupBarrier();
    }
    if finishes {
        leave(cell, later);
    }
}
