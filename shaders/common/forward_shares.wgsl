// Division of a forward step's product among threads that share terms: a thread has one unit and every SHARES-th four of its terms,
// SHARES = THREADS / UNITS, which is at least ROWS; SPAN is 1.

// The sum of all shares of a row (of those handed over) and unit. Eight loads are under way at once.
fn unit_sum(row: u32, lane: u32) -> vec4f {
    let shares = THREADS / UNITS;
    let at = row * THREADS + lane;
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

// The whole sum of a thread's row and unit: thread t has row t / UNITS and unit t % UNITS.
fn gathered(thread: u32, sums: Sums) -> vec4f {
    let share = thread / UNITS;
    var sum = sums.rows0[0];
    if THREADS == UNITS {
        return sum;
    }
    hand_over(0u, thread, sums.rows0);
    workgroupBarrier();
    if share < min(ROWS, 4u) {
        sum = unit_sum(share, thread % UNITS);
    }
    if ROWS == 8u {
        workgroupBarrier();
        hand_over(0u, thread, sums.rows1);
        workgroupBarrier();
        if share >= 4u && share < 8u {
            sum = unit_sum(share - 4u, thread % UNITS);
        }
    }
    return sum;
}
