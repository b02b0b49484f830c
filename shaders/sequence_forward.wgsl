// Many time steps of all directions of a layer, for devices with many threads. A workgroup carries ROWS (1, 2, 4 or 8) batch rows
// with all their hidden units through time: it does not depend on other workgroups, and h' goes from step to step through
// workgroup memory. Storage gets the history alone and is not read again, since its caches need not agree within a workgroup.
// UNITS is H. A thread that has few terms of its unit keeps their weights in registers.
//
// `memory` holds partial sums [ROWS (at most 4), THREADS].

// h of the rows, under its mask: [ROWS, HEADS, fours of a head], as many fours as all threads read, zeros past the last term. Numbers of
// their own, not vectors: a store to a component may write the whole vector.
var<workgroup> state: array<array<f32, 4>, ROWS * HEADS * (((TERMS + 3u) / 4u + THREADS / UNITS - 1u) / (THREADS / UNITS) * (THREADS / UNITS)) + 1u>;

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

// Fours of a head's h in `state`.
fn head_size() -> u32 {
    return turns() * (THREADS / UNITS);
}

// Elements of h in `state`.
fn state_size() -> u32 {
    return ROWS * HEADS * head_size();
}

fn four_states(at: u32) -> vec4f {
    return vec4f(state[at][0], state[at][1], state[at][2], state[at][3]);
}

// Adds four terms to the sums of all rows; `at` is their place in the first row's h in `state`, and rows are `row` apart.
fn add_states(sums: Sums, w: Four, at: u32, row: u32) -> Sums {
    var out = sums;
    out.rows0[0] = added(sums.rows0[0], w, four_states(at));
    if ROWS >= 2u {
        out.rows0[1] = added(sums.rows0[1], w, four_states(at + row));
    }
    if ROWS >= 4u {
        out.rows0[2] = added(sums.rows0[2], w, four_states(at + 2u * row));
        out.rows0[3] = added(sums.rows0[3], w, four_states(at + 3u * row));
    }
    if ROWS == 8u {
        out.rows1[0] = added(sums.rows1[0], w, four_states(at + 4u * row));
        out.rows1[1] = added(sums.rows1[1], w, four_states(at + 5u * row));
        out.rows1[2] = added(sums.rows1[2], w, four_states(at + 6u * row));
        out.rows1[3] = added(sums.rows1[3], w, four_states(at + 7u * row));
    }
    return out;
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
    var old = given(0u, d, row, unit);
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
        let four = four_terms(d, b, k / size % HEADS, 4u * (k % size));
        state[k] = array<f32, 4>(four.x, four.y, four.z, four.w);
    }
    workgroupBarrier();
    // The place of a unit's h in its row's part of `state`, and that of the first h that it sees.
    let seen = head * size;
    let place = seen + unit % head_units() / 4u;
    for (var step = 0u; step < p.steps; step++) {
        // In time for the next step.
        let next_xw = xw[p.xw_offset / 4u + min(step + 1u, p.steps - 1u) * slot + at];
        var sums: Sums;
        if TERMS > 0u {
            if turns() <= MOST_KEPT {
                sums = add_states(sums, widened(kept0), seen + share, HEADS * size);
                if turns() >= 2u {
                    sums = add_states(sums, widened(kept1), seen + share + shares, HEADS * size);
                }
                if turns() >= 3u {
                    sums = add_states(sums, widened(kept2), seen + share + 2u * shares, HEADS * size);
                }
                if turns() >= 4u {
                    sums = add_states(sums, widened(kept3), seen + share + 3u * shares, HEADS * size);
                }
            } else {
                for (var turn = 0u; turn < turns(); turn++) {
                    let four = turn * shares + share;
                    sums = add_states(sums, widened(kept(d, unit, four, all)), seen + four, HEADS * size);
                }
            }
        }
        var rh = vec4f();
        if TERMS > 0u {
            rh = gathered(local.x, sums);
        }
        if THREADS == UNITS {
            workgroupBarrier(); // all have read h'
        }
        if finishes {
            let made = cell_step(step, d, row, unit, own, old, product_of(d, unit, rh));
            old = Given(next_xw, made.c, made.h);
            if TERMS > 0u {
                state[share * HEADS * size + place][unit % head_units() % 4u] = made.h * drop;
            }
        }
        workgroupBarrier();
    }
}
