// Many time steps of all directions of a layer, for devices with many threads. A workgroup carries ROWS (1, 2, 4 or 8) batch rows
// with all their hidden units through time: it does not depend on other workgroups, and h' goes from step to step through
// workgroup memory. Storage gets the history alone and is not read again, since its caches need not agree within a workgroup.
// UNITS is H. A thread that has few terms of its unit keeps their weights in registers.
//
// `memory` holds h of the rows [ROWS, HEADS, fours of terms], under its mask, then partial sums [ROWS (at most 4), THREADS].

// Fours of terms that a thread keeps in registers.
const MOST_KEPT = 4u;

fn fours() -> u32 {
    return (TERMS + 3u) / 4u;
}

// Fours of terms of a thread.
fn turns() -> u32 {
    let shares = THREADS / UNITS;
    return (fours() + shares - 1u) / shares;
}

// Fours of a head's h in `memory`: as many as all threads read, zeros past the last term.
fn head_size() -> u32 {
    return turns() * (THREADS / UNITS);
}

// Elements of h in `memory`.
fn state_size() -> u32 {
    return ROWS * HEADS * head_size();
}

@compute @workgroup_size(THREADS, 1, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let shares = THREADS / UNITS;
    let unit = local.x % UNITS;
    let share = local.x / UNITS;
    let d = group.z;
    let first = group.y * ROWS; // b
    let last = p.batch - 1u;
    // Rows past the last compute with h of the last; their results are discarded.
    let finishes = share < ROWS && first + share <= last;
    let row = min(first + share, last);
    let head = unit / head_units();
    let all = TERMS == 4u * shares * turns(); // no thread passes the last term
    let slot = slot_size();
    let at = (d * p.batch + row) * H + unit; // in a slot [D, B, H]
    let own = own_parameters(d, unit);
    var state = given(0u, d, row, unit);
    var drop = 1.0;
    if DROP == 1u {
        drop = mask[at];
    }
    var kept0: Kept;
    var kept1: Kept;
    var kept2: Kept;
    var kept3: Kept;
    if TERMS > 0u && turns() <= MOST_KEPT {
        kept0 = kept(d, unit, share, all);
        kept1 = kept(d, unit, share + shares, all);
        kept2 = kept(d, unit, share + 2u * shares, all);
        kept3 = kept(d, unit, share + 3u * shares, all);
    }
    let size = max(head_size(), 1u);
    for (var k = local.x; k < state_size(); k += THREADS) {
        let b = min(first + k / (HEADS * size), last);
        memory[k] = four_terms(d, b, k / size % HEADS, 4u * (k % size));
    }
    workgroupBarrier();
    // The place of a unit's h in its row's part of `memory`, and that of the first h that it sees.
    let seen = head * size;
    let place = seen + unit % head_units() / 4u;
    for (var step = 0u; step < p.steps; step++) {
        // In time for the next step.
        let next_xw = xw[p.xw_offset / 4u + min(step + 1u, p.steps - 1u) * slot + at];
        var sums: Sums;
        if TERMS > 0u {
            if turns() <= MOST_KEPT {
                sums = add_four(sums, widened(kept0), seen + share, HEADS * size);
                if turns() >= 2u {
                    sums = add_four(sums, widened(kept1), seen + share + shares, HEADS * size);
                }
                if turns() >= 3u {
                    sums = add_four(sums, widened(kept2), seen + share + 2u * shares, HEADS * size);
                }
                if turns() >= 4u {
                    sums = add_four(sums, widened(kept3), seen + share + 3u * shares, HEADS * size);
                }
            } else {
                for (var turn = 0u; turn < turns(); turn++) {
                    let four = turn * shares + share;
                    sums = add_four(sums, widened(kept(d, unit, four, all)), seen + four, HEADS * size);
                }
            }
        }
        var rh = sums.rows0[0];
        if shares > 1u && TERMS > 0u {
            hand_over(state_size(), local.x, sums.rows0);
            workgroupBarrier();
            if share < min(ROWS, 4u) {
                rh = unit_sum(state_size(), share, unit);
            }
            if ROWS == 8u {
                workgroupBarrier();
                hand_over(state_size(), local.x, sums.rows1);
                workgroupBarrier();
                if share >= 4u && share < 8u {
                    rh = unit_sum(state_size(), share - 4u, unit);
                }
            }
        } else {
            workgroupBarrier(); // all have read h'
        }
        if finishes {
            let made = cell_step(step, d, row, unit, own, state, product_of(d, unit, rh));
            state = Given(next_xw, made.c, made.h);
            if TERMS > 0u {
                memory[share * HEADS * size + place][unit % head_units() % 4u] = made.h * drop;
            }
        }
        workgroupBarrier();
    }
}
