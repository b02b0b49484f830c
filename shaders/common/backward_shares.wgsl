// Division of a backward step's product among threads that share terms: a thread has four units side by side (SPAN is 4) and every
// SHARES-th unit whose gates are terms, SHARES = 4 THREADS / UNITS, which is at least 4 ROWS. The units of each head are padded to a
// multiple of four, here and in the transposed weights.

// Units of a head with padding.
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

// Weights from the gates of unit k of a head to the four units in a column of `rt`. Units past the last have gradients of 0,
// whatever their weights are.
fn kept(d: u32, k: u32, column: u32) -> Kept {
    let row = padded_units() / 4u;
    let at = 4u * row * (d * TERMS + min(k, max(TERMS, 1u) - 1u)) + column;
    return Kept(rt[at], rt[at + row], rt[at + 2u * row], rt[at + 3u * row]);
}

// The sum of all shares of a row (of those handed over) and unit (of the workgroup's, padded). Eight loads are under way at once.
fn unit_sum(begin: u32, row: u32, unit: u32) -> f32 {
    let shares = THREADS / lanes();
    let at = begin + row * THREADS + unit / 4u;
    let n = unit % 4u;
    var sum = 0.0;
    for (var eight = 0u; eight < shares / 8u; eight++) {
        let first = at + 8u * eight * lanes();
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
    for (var four = 0u; four < (ROWS + 3u) / 4u; four++) {
        let first = 4u * four;
        if four == 0u {
            hand_over(begin, thread, sums.rows0);
        } else {
            workgroupBarrier();
            hand_over(begin, thread, sums.rows1);
        }
        workgroupBarrier();
        if row >= first && row < min(ROWS, first + 4u) {
            sum = unit_sum(begin, row - first, thread % UNITS);
        }
    }
    return sum;
}
