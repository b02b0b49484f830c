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
    let place = place_of(group, local.x);
    let d = group.z;
    // In time before the sums are there.
    var own: Own;
    var old: Given;
    if place.finishes {
        own = own_parameters(d, place.unit);
        old = given(0u, d, place.row, place.unit);
    }
    var sums: Sums;
    if TERMS > 0u {
        let first_head = place.first_unit / head_units();
        let fours = (TERMS + 3u) / 4u;
        let most = MEMORY / (ROWS * heads_here() * shares) * shares; // fours of a chunk
        let chunks = max((fours + most - 1u) / most, 1u);
        let turns = ((fours + chunks - 1u) / chunks + shares - 1u) / shares; // of a thread in a chunk
        let chunk = turns * shares;
        let stride = heads_here() * chunk; // of a row
        let all = TERMS == 4u * chunks * chunk; // no thread passes the last term
        let seen = (place.unit / head_units() - first_head) * chunk; // fours of earlier heads
        for (var n = 0u; n < chunks; n++) {
            for (var k = local.x; k < ROWS * stride; k += THREADS) {
                let head = min(first_head + k / chunk % heads_here(), HEADS - 1u);
                let b = min(place.first_row + k / stride, place.last_row);
                memory[k] = four_terms(d, b, head, 4u * (n * chunk + k % chunk));
            }
            workgroupBarrier();
            // Neighbouring shares take neighbouring fours. Few rows leave registers for sixteen loads at once.
            let first_four = n * chunk + place.share;
            let at = seen + place.share;
            let together = select(0u, turns / 4u * 4u, ROWS <= 2u);
            for (var turn = 0u; turn < together; turn += 4u) {
                let w0 = widened(kept(d, place.unit, first_four + turn * shares, all));
                let w1 = widened(kept(d, place.unit, first_four + (turn + 1u) * shares, all));
                let w2 = widened(kept(d, place.unit, first_four + (turn + 2u) * shares, all));
                let w3 = widened(kept(d, place.unit, first_four + (turn + 3u) * shares, all));
                sums = add_four(sums, w0, at + turn * shares, stride);
                sums = add_four(sums, w1, at + (turn + 1u) * shares, stride);
                sums = add_four(sums, w2, at + (turn + 2u) * shares, stride);
                sums = add_four(sums, w3, at + (turn + 3u) * shares, stride);
            }
            for (var turn = together; turn < turns; turn++) {
                sums = add_four(sums, widened(kept(d, place.unit, first_four + turn * shares, all)), at + turn * shares, stride);
            }
            workgroupBarrier();
        }
    }
    var rh = vec4f();
    if TERMS > 0u {
        rh = gathered(local.x, sums);
    }
    if place.finishes {
        cell_step(0u, d, place.row, place.unit, own, old, product_of(d, place.unit, rh));
    }
}
