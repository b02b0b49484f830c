// Division of a forward step's product among threads that share terms: a thread has one unit and every SHARES-th four of its terms,
// SHARES = THREADS / UNITS, which is at least ROWS; SPAN is 1.

// What a thread of a workgroup [groups of units, groups of rows, ...] computes: a share of a unit's terms, and, if it finishes, a row of it.
struct Place {
    unit: u32,
    share: u32,
    row: u32,        // b
    finishes: bool,
    first_unit: u32, // of the workgroup
    first_row: u32,  // of the workgroup
    last_row: u32,   // of the batch
}

// Units and rows past the last compute with those of the last; their results are discarded.
fn place_of(group: vec3u, thread: u32) -> Place {
    let share = thread / UNITS;
    let first_unit = group.x * UNITS;
    let first_row = group.y * ROWS;
    let own_unit = first_unit + thread % UNITS;
    let own_row = first_row + share;
    let last_row = p.batch - 1u;
    let finishes = share < ROWS && own_row <= last_row && own_unit < H;
    return Place(min(own_unit, H - 1u), share, min(own_row, last_row), finishes, first_unit, first_row, last_row);
}

// Shares from which on adding them up by eights is worth a barrier.
const MANY_SHARES = 32u;

// The sum of eight shares, the first of which is at `at` in `memory`. All loads are under way at once.
fn eight_shares(at: u32) -> vec4f {
    let s0 = memory[at];
    let s1 = memory[at + UNITS];
    let s2 = memory[at + 2u * UNITS];
    let s3 = memory[at + 3u * UNITS];
    let s4 = memory[at + 4u * UNITS];
    let s5 = memory[at + 5u * UNITS];
    let s6 = memory[at + 6u * UNITS];
    let s7 = memory[at + 7u * UNITS];
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7));
}

// Adds up many shares by eights, each by a thread of its own, which leaves the sum in the place of the first of the eight. The thread of a
// row and unit then has few left to add, in the same order.
fn add_eights(thread: u32) {
    let shares = THREADS / UNITS;
    let of_row = max(shares / 8u, 1u) * UNITS; // threads
    if shares >= MANY_SHARES {
        if thread < min(ROWS, 4u) * of_row {
            let eight = thread % of_row / UNITS;
            let at = thread / of_row * THREADS + 8u * eight * UNITS + thread % UNITS;
            memory[at] = eight_shares(at);
        }
        workgroupBarrier();
    }
}

// The sum of all shares of a row (of those handed over) and unit.
fn unit_sum(row: u32, lane: u32) -> vec4f {
    let shares = THREADS / UNITS;
    let at = row * THREADS + lane;
    var sum = vec4f();
    for (var eight = 0u; eight < shares / 8u; eight++) {
        let first = at + 8u * eight * UNITS;
        if shares < MANY_SHARES {
            sum += eight_shares(first);
        } else {
            sum += memory[first];
        }
    }
    for (var share = shares / 8u * 8u; share < shares; share++) {
        sum += memory[at + share * UNITS];
    }
    return sum;
}

// The whole sum of a thread's row and unit: thread t has row t / UNITS and unit t % UNITS.
fn gathered(thread: u32, sums: Sums) -> vec4f {
    let row = thread / UNITS;
    var sum = sums.rows0[0];
    if THREADS == UNITS {
        return sum;
    }
    for (var four = 0u; four < (ROWS + 3u) / 4u; four++) {
        let first = 4u * four;
        if four == 0u {
            hand_over(0u, thread, sums.rows0);
        } else {
            workgroupBarrier();
            hand_over(0u, thread, sums.rows1);
        }
        workgroupBarrier();
        add_eights(thread);
        if row >= first && row < min(ROWS, first + 4u) {
            sum = unit_sum(row - first, thread % UNITS);
        }
    }
    return sum;
}
