// Time steps backward, all directions, from the last to the first: the hidden state's gradient is that of the output
// plus that of the later step through the recurrent product; the cell turns it into gate gradients.
// Workgroups share the work as in scan_forward.wgsl; a thread computes all its rows of SPAN units at once: 1, or 4
// side by side if a head's units are a multiple of 4. The weights are transposed, so that neighbouring threads read neighbouring
// ones.

// The cell of one row, from the gradient of its hidden state through the later step's recurrent product.
fn finish(step: u32, d: u32, row: u32, unit: u32, recurrent: f32) {
    if row < p.batch {
        let at = (d * p.batch + row) * H + unit; // in a slot [D, B, H]
        let extra = extra_parameters(d, unit);
        let made = cell_step(step, d, row, unit, extra, given(step, d, row, unit), carried(step, at), recurrent);
        leave(at, made.carried);
    }
}

// The first unit of a unit's head.
fn first_of_head(unit: u32) -> u32 {
    if HEADS == 1u {
        return 0u;
    }
    return unit / (H / HEADS) * (H / HEADS);
}

fn weight(at: u32) -> f32 {
    return weights(rt[at / 4u])[at % 4u];
}

fn four(step: u32, d: u32, first: u32, unit: u32, dh: vec4f) {
    finish(step, d, first, unit, dh.x);
    finish(step, d, first + 1u, unit, dh.y);
    finish(step, d, first + 2u, unit, dh.z);
    finish(step, d, first + 3u, unit, dh.w);
}

// Finishes four or eight rows of a unit.
fn eight(step: u32, d: u32, first: u32, unit: u32, dh0: vec4f, dh1: vec4f) {
    four(step, d, first, unit, dh0);
    if ROWS == 8u {
        four(step, d, first + 4u, unit, dh1);
    }
}

@compute @workgroup_size(THREADS, 1, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let first = group.y * ROWS; // b
    let d = group.z;
    // Rows past the last read its gradients again; their results are discarded.
    let last = p.batch - 1u;
    let rows0 = H * min(vec4u(first, first + 1u, first + 2u, first + 3u), vec4u(last));
    let rows1 = H * min(vec4u(first + 4u, first + 5u, first + 6u, first + 7u), vec4u(last));
    let end = min(H, (group.x + 1u) * UNITS);
    for (var back = 0u; back < p.steps; back++) {
        let step = p.steps - 1u - back;
        let later = back > 0u || p.has_next == 1u;
        let slot = p.directions * p.batch * H;
        let next = select(p.dg_next / 4u, p.dg_offset / 4u + (step + 1u) * slot, back > 0u);
        let at0 = rows0 + next + d * p.batch * H;
        let at1 = rows1 + next + d * p.batch * H;
        for (var unit = group.x * UNITS + SPAN * local.x; unit < end; unit += SPAN * THREADS) {
            let column = d * 4u * (H / HEADS) * H;
            let own0 = at0 + first_of_head(unit);
            let own1 = at1 + first_of_head(unit);
            if SPAN == 4u {
                var dh0 = mat4x4f(); // four rows, of four units each
                var dh1 = mat4x4f();
                if later {
                    for (var k = 0u; k < TERMS; k++) {
                        let from0 = mat4x4f(dg[own0.x + k], dg[own0.y + k], dg[own0.z + k], dg[own0.w + k]);
                        let at = (column + unit) / 4u + k * H; // four weights an element
                        let own = mat4x4f(
                            weights(rt[at]),
                            weights(rt[at + H / 4u]),
                            weights(rt[at + H / 2u]),
                            weights(rt[at + 3u * H / 4u]),
                        );
                        dh0 += own * from0;
                        if ROWS == 8u {
                            let from1 = mat4x4f(dg[own1.x + k], dg[own1.y + k], dg[own1.z + k], dg[own1.w + k]);
                            dh1 += own * from1;
                        }
                    }
                }
                let rows0 = transpose(dh0); // four units, of four rows each
                let rows1 = transpose(dh1);
                eight(step, d, first, unit, rows0[0], rows1[0]);
                eight(step, d, first, unit + 1u, rows0[1], rows1[1]);
                eight(step, d, first, unit + 2u, rows0[2], rows1[2]);
                eight(step, d, first, unit + 3u, rows0[3], rows1[3]);
                continue;
            }
            var dh0 = vec4f(); // one of each row
            var dh1 = vec4f();
            if later {
                for (var k = 0u; k < TERMS; k++) {
                    let at = column + unit + 4u * k * H;
                    let own = vec4f(weight(at), weight(at + H), weight(at + 2u * H), weight(at + 3u * H));
                    dh0.x += dot(dg[own0.x + k], own);
                    if ROWS >= 4u {
                        dh0.y += dot(dg[own0.y + k], own);
                        dh0.z += dot(dg[own0.z + k], own);
                        dh0.w += dot(dg[own0.w + k], own);
                    }
                    if ROWS == 8u {
                        dh1.x += dot(dg[own1.x + k], own);
                        dh1.y += dot(dg[own1.y + k], own);
                        dh1.z += dot(dg[own1.z + k], own);
                        dh1.w += dot(dg[own1.w + k], own);
                    }
                }
            }
            if ROWS == 1u {
                finish(step, d, first, unit, dh0.x);
            } else {
                eight(step, d, first, unit, dh0, dh1);
            }
        }
        // The step before reads what all threads of this workgroup have written.
        storageBarrier();
    }
}
