// One time step of all directions of a layer, for devices with many threads: in few rows there are few units, so the threads of
// a workgroup share the terms of each unit's recurrent product.
// A workgroup computes UNITS hidden units of ROWS (1, 2, 4 or 8) batch rows. A thread has one unit and every SHARES-th four of
// its terms: a load of weights brings the four gates of a unit for every row, neighbouring threads read neighbouring weights, and
// h is read once a workgroup. Shares are added up in their order.
//
// `memory` holds first h of the rows [ROWS, heads, fours of a chunk of terms], then partial sums [ROWS (at most 4), THREADS].

// Heads of a workgroup's units.
fn heads_here() -> u32 {
    if HEADS == 1u {
        return 1u;
    }
    return min(HEADS, (UNITS - 1u) / head_units() + 2u);
}

@compute @workgroup_size(THREADS, 1, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let shares = THREADS / UNITS;
    let lane = local.x % UNITS;
    let share = local.x / UNITS;
    let d = group.z;
    let first = group.y * ROWS; // b
    let first_unit = group.x * UNITS;
    // Units and rows past the last compute with those of the last; their results are discarded.
    let unit = min(first_unit + lane, H - 1u);
    let last = p.batch - 1u;
    let finishes = share < ROWS && first + share <= last && first_unit + lane < H;
    let row = min(first + share, last);
    // In time before the sums are there.
    var own: Own;
    var old: Given;
    if finishes {
        own = own_parameters(d, unit);
        old = given(0u, d, row, unit);
    }
    var sums0 = mat4x4f(); // columns are rows
    var sums1 = mat4x4f();
    if TERMS > 0u {
        let first_head = first_unit / head_units();
        let fours = (TERMS + 3u) / 4u;
        let most = MEMORY / (ROWS * heads_here() * shares) * shares; // fours of a chunk
        let chunks = max((fours + most - 1u) / most, 1u);
        let turns = ((fours + chunks - 1u) / chunks + shares - 1u) / shares; // of a thread in a chunk
        let chunk = turns * shares;
        let stride = heads_here() * chunk; // of a row
        let column = d * TERMS * H + unit;
        let all = TERMS == 4u * chunks * chunk; // no thread passes the last term
        let seen = (unit / head_units() - first_head) * chunk; // fours of earlier heads
        for (var n = 0u; n < chunks; n++) {
            for (var k = local.x; k < ROWS * stride; k += THREADS) {
                let head = min(first_head + k / chunk % heads_here(), HEADS - 1u);
                let b = min(first + k / stride, last);
                memory[k] = four_terms(d, b, head, 4u * (n * chunk + k % chunk));
            }
            workgroupBarrier();
            for (var turn = 0u; turn < turns; turn++) {
                // Neighbouring shares take neighbouring fours.
                let four = turn * shares + share;
                let w = load_four(column, 4u * (n * chunk + four), all);
                let at = seen + four;
                sums0[0] = added(sums0[0], w, memory[at]);
                if ROWS >= 2u {
                    sums0[1] = added(sums0[1], w, memory[at + stride]);
                }
                if ROWS >= 4u {
                    sums0[2] = added(sums0[2], w, memory[at + 2u * stride]);
                    sums0[3] = added(sums0[3], w, memory[at + 3u * stride]);
                }
                if ROWS == 8u {
                    sums1[0] = added(sums1[0], w, memory[at + 4u * stride]);
                    sums1[1] = added(sums1[1], w, memory[at + 5u * stride]);
                    sums1[2] = added(sums1[2], w, memory[at + 6u * stride]);
                    sums1[3] = added(sums1[3], w, memory[at + 7u * stride]);
                }
            }
            workgroupBarrier();
        }
    }
    var rh = sums0[0];
    if shares > 1u && TERMS > 0u {
        hand_over(0u, local.x, sums0);
        workgroupBarrier();
        if share < min(ROWS, 4u) {
            rh = unit_sum(0u, share, lane);
        }
        if ROWS == 8u {
            workgroupBarrier();
            hand_over(0u, local.x, sums1);
            workgroupBarrier();
            if share >= 4u && share < 8u {
                rh = unit_sum(0u, share - 4u, lane);
            }
        }
    }
    if finishes {
        cell_step(0u, d, row, unit, own, old, rh);
    }
}
