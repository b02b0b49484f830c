// Many time steps of all directions of a layer in one dispatch whose workgroups run side by side: each has UNITS hidden units of ROWS
// (1, 2, 4 or 8) batch rows, and carries them through time. After each step, the workgroups of the same rows and direction wait for each
// other, and h' goes from one to all others through storage. A thread that has few terms of its unit keeps their weights in registers.
// A step's product is shared out among threads as in step_forward.wgsl. H is a multiple of 4, K is H, HEADS is 1, DROP is 0; no zoneout.
//
// Of the parameters, `site` is the dispatch's first word in `barrier`, which counts workgroups that have finished and is followed by a
// word of arrivals for each direction and group of rows; `zoneout_c` is the number of spins that a workgroup may wait in all.
//
// `memory` holds first h' of the rows [ROWS, fours of terms], then partial sums [ROWS (at most 4), THREADS] of 4 gates.

// Fours of terms that a thread keeps in registers.
const MOST_KEPT = 4u;

// Fours of terms of a thread.
fn turns() -> u32 {
    let shares = THREADS / UNITS;
    return (TERMS / 4u + shares - 1u) / shares;
}

@compute @workgroup_size(THREADS, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_id) local: vec3u,
    @builtin(num_workgroups) groups: vec3u,
) {
    let shares = THREADS / UNITS;
    let place = place_of(group, local.x);
    let d = group.z;
    let slot = slot_size();
    let at = (d * p.batch + place.row) * H + place.unit; // in a slot [D, B, H]
    let own = own_parameters(d, place.unit);
    var old = given(0u, d, place.row, place.unit);
    let fours = turns() * shares; // of a row in `memory`, with zeros past the last
    let all = TERMS == 4u * fours;
    var kept0: Kept;
    var kept1: Kept;
    var kept2: Kept;
    var kept3: Kept;
    if turns() <= MOST_KEPT {
        kept0 = kept(d, place.unit, place.share, all);
        kept1 = kept(d, place.unit, place.share + shares, all);
        kept2 = kept(d, place.unit, place.share + 2u * shares, all);
        kept3 = kept(d, place.unit, place.share + 3u * shares, all);
    }
    let arrivals = p.site + 1u + d * groups.y + group.y;
    var spins = p.zoneout_c;
    var done = 0u; // steps
    while done < p.steps {
        let step = done;
        // In time for the next step.
        let next_xw = xw[p.xw_offset / 4u + min(step + 1u, p.steps - 1u) * slot + at];
        for (var k = local.x; k < ROWS * fours; k += THREADS) {
            let b = min(place.first_row + k / fours, place.last_row);
            let term = min(4u * (k % fours), max(TERMS, 4u) - 4u);
            let four = h[(p.h_in + step * slot + (d * p.batch + b) * H + term) / 4u];
            memory[k] = select(vec4f(), four, 4u * (k % fours) < TERMS);
        }
        workgroupBarrier();
        var sums: Sums;
        if turns() <= MOST_KEPT {
            sums = add_four(sums, widened(kept0), place.share, fours);
            if turns() >= 2u {
                sums = add_four(sums, widened(kept1), place.share + shares, fours);
            }
            if turns() >= 3u {
                sums = add_four(sums, widened(kept2), place.share + 2u * shares, fours);
            }
            if turns() >= 4u {
                sums = add_four(sums, widened(kept3), place.share + 3u * shares, fours);
            }
        } else {
            for (var turn = 0u; turn < turns(); turn++) {
                let four = turn * shares + place.share;
                sums = add_four(sums, widened(kept(d, place.unit, four, all)), four, fours);
            }
        }
        workgroupBarrier();
        let rh = gathered(local.x, sums);
        if place.finishes {
            let made = cell_step(step, d, place.row, place.unit, own, old, product_of(d, place.unit, rh));
            old = Given(next_xw, made.c, made.h);
        }
        // Right behind the stores of h: RADV of Mesa 22 forgets to wait for them at a barrier beyond the loop's end.
        if step + 1u < p.steps && !all_arrived(local.x, arrivals, (step + 1u) * groups.x, &spins) {
            break;
        }
        done = step + 1u;
    }
    // The dispatch's results count only if every workgroup gets here with all steps done.
    storageBarrier();
    if local.x == 0u && done == p.steps {
        atomicAdd(&barrier[p.site], 1u);
    }
}
