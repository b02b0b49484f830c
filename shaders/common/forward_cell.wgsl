// How the forward steps whose W·x other kernels have computed read and write their tensors.

// h of a unit in a slot of the history: [D, B, K].
fn one_h(at: u32) -> f32 {
    return h[at / 4u][at % 4u];
}

// Where a step leaves c. Training keeps that of every step; inference overwrites one slot.
fn c_after(step: u32, at: u32) -> u32 {
    return p.c_out + at + select(0u, step * STATES * slot_size(), TRAIN == 1u);
}

fn given(step: u32, d: u32, row: u32, unit: u32) -> Given {
    let at = (d * p.batch + row) * H + unit; // in a slot [D, B, H]
    let slot = slot_size();
    let c_in = select(c_after(step, at) - select(0u, STATES * slot, TRAIN == 1u), p.c_in + at, step == 0u);
    var c_prev = State();
    for (var s = 0u; s < STATES; s++) {
        c_prev = with_plane(c_prev, s, c[c_in + s * slot]);
    }
    var before = 0.0;
    if CARRIES > 0u && K == H {
        before = one_h(p.h_in + step * slot + at);
    }
    return Given(xw[p.xw_offset / 4u + step * slot + at], c_prev, before);
}

// The cell of one row and unit from its recurrent product; stores the new state, and in training what backward needs.
fn cell_step(step: u32, d: u32, row: u32, unit: u32, own: Own, old: Given, rh: vec4f) -> Advanced {
    let slot = slot_size();
    let at = (d * p.batch + row) * H + unit;
    let made = advance(step, d, row, unit, own, old, rh);
    let c_out = c_after(step, at);
    for (var s = 0u; s < STATES; s++) {
        c[c_out + s * slot] = plane(made.c, s);
    }
    let planes = TRAIN * SAVED + select(1u, 0u, K == H);
    let keep = p.saved_offset + step * planes * slot + at;
    if K == H {
        let h_out = p.h_in + (step + 1u) * slot + at;
        h[h_out / 4u][h_out % 4u] = made.h;
    } else {
        saved[keep + (planes - 1u) * slot] = made.h;
    }
    if TRAIN == 1u {
        for (var q = 0u; q < SAVED; q++) {
            saved[keep + q * slot] = made.saved[q];
        }
    }
    return made;
}
