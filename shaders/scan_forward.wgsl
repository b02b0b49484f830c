// Time steps of all directions of a layer: in each, the recurrent product of the four gates, then the cell. A unit has recurrent
// weights from the hidden units of its own head.
// A workgroup computes UNITS hidden units of ROWS (1, 4 or 8) batch rows. If UNITS is H, it does not depend on other workgroups
// and goes through many steps; else a dispatch is one step.
// A thread computes all its rows of SPAN (1 or 2) units at once: one load brings the weights of a unit's four gates, which lie
// side by side, for every row; a load of h serves every unit; neighbouring threads read neighbouring weights.

// The cell of one row, from its recurrent product.
fn finish(step: u32, d: u32, row: u32, unit: u32, rh: vec4f) {
    if row < p.batch {
        cell_step(step, d, row, unit, own_parameters(d, unit), given(step, d, row, unit), rh);
    }
}

// The first hidden unit of a unit's head.
fn first_seen(unit: u32) -> u32 {
    if HEADS == 1u {
        return 0u;
    }
    return unit / (H / HEADS) * (K / HEADS);
}

// h of four units in each of four rows (columns are rows); of one unit, the others zero, if a head's width is no multiple of 4.
// `base` is the first element of the step's slot of h, which corresponds to the mask's first element.
fn load_h(at: vec4u, base: u32) -> mat4x4f {
    if (K / HEADS) % 4u == 0u {
        return mat4x4f(four_h(at.x, base), four_h(at.y, base), four_h(at.z, base), four_h(at.w, base));
    }
    return mat4x4f(masked_h(at.x, base), masked_h(at.y, base), masked_h(at.z, base), masked_h(at.w, base));
}

fn four_h(at: u32, base: u32) -> vec4f {
    if DROP == 1u {
        let m = at - base;
        return h[at / 4u] * vec4f(mask[m], mask[m + 1u], mask[m + 2u], mask[m + 3u]);
    }
    return h[at / 4u];
}

fn masked_h(at: u32, base: u32) -> vec4f {
    var value = one_h(at);
    if DROP == 1u {
        value *= mask[at - base];
    }
    return vec4f(value, 0.0, 0.0, 0.0);
}

// The weights from these units to one unit: columns are units, their elements gates.
fn load_r(at: u32) -> mat4x4f {
    if (K / HEADS) % 4u == 0u {
        return mat4x4f(weights(r[at]), weights(r[at + H]), weights(r[at + 2u * H]), weights(r[at + 3u * H]));
    }
    return mat4x4f(weights(r[at]), vec4f(), vec4f(), vec4f());
}

fn four(step: u32, d: u32, first: u32, unit: u32, rh: mat4x4f) {
    finish(step, d, first, unit, rh[0]);
    finish(step, d, first + 1u, unit, rh[1]);
    finish(step, d, first + 2u, unit, rh[2]);
    finish(step, d, first + 3u, unit, rh[3]);
}

@compute @workgroup_size(THREADS, 1, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let first = group.y * ROWS; // b
    let d = group.z;
    // Rows past the last read its state again; their results are discarded.
    let last = p.batch - 1u;
    let rows0 = K * min(vec4u(first, first + 1u, first + 2u, first + 3u), vec4u(last));
    let rows1 = K * min(vec4u(first + 4u, first + 5u, first + 6u, first + 7u), vec4u(last));
    let end = min(H, (group.x + 1u) * UNITS);
    for (var step = 0u; step < p.steps; step++) {
        let base = p.h_in + step * p.directions * p.batch * K;
        let at0 = rows0 + base + d * p.batch * K;
        let at1 = rows1 + base + d * p.batch * K;
        // A constant number of iterations, at least one: lavapipe of Mesa 26 reads a null descriptor in a subgroup that skips a
        // loop around a loop that reads a buffer which is used again after it.
        for (var skipped = 0u; skipped < UNITS; skipped += SPAN * THREADS) {
            let unit = group.x * UNITS + skipped + local.x;
            if unit >= end {
                continue;
            }
            let column = d * (K / HEADS) * H + unit;
            let many = select(1u, 4u, (K / HEADS) % 4u == 0u); // units at a time
            let seen0 = at0 + first_seen(unit);
            let seen1 = at1 + first_seen(unit);
            if ROWS == 1u {
                var rh = vec4f();
                for (var k = 0u; k < TERMS; k += many) {
                    if many == 4u {
                        rh += load_r(column + k * H) * four_h(seen0.x + k, base);
                    } else {
                        rh += weights(r[column + k * H]) * masked_h(seen0.x + k, base).x;
                    }
                }
                finish(step, d, first, unit, rh);
            } else {
                let other = min(unit + THREADS, end - 1u); // a second unit, of the same head; past the last its results are discarded
                let second = d * (K / HEADS) * H + other;
                var rh0 = mat4x4f(); // first four rows
                var rh1 = mat4x4f();
                var rh2 = mat4x4f(); // of the second unit
                var rh3 = mat4x4f();
                for (var k = 0u; k < TERMS; k += many) {
                    let own = load_r(column + k * H);
                    let h0 = load_h(seen0 + k, base);
                    rh0 += own * h0;
                    if SPAN == 2u {
                        rh2 += load_r(second + k * H) * h0;
                    }
                    if ROWS == 8u {
                        let h1 = load_h(seen1 + k, base);
                        rh1 += own * h1;
                        if SPAN == 2u {
                            rh3 += load_r(second + k * H) * h1;
                        }
                    }
                }
                four(step, d, first, unit, rh0);
                if ROWS == 8u {
                    four(step, d, first + 4u, unit, rh1);
                }
                if SPAN == 2u && unit + THREADS < end {
                    four(step, d, first, other, rh2);
                    if ROWS == 8u {
                        four(step, d, first + 4u, other, rh3);
                    }
                }
            }
        }
        // The next step reads what all threads of this workgroup have written.
        storageBarrier();
    }
}
