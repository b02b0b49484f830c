// Time steps that grid_forward.wgsl should have computed, if not all of its workgroups finished: from the state before its first step, and
// without waiting for other workgroups. A workgroup carries a batch row with all its units through time, and h' goes from step to step
// through workgroup memory. Slow, but it ends on every device. H is a multiple of 4, UNITS is H, ROWS is 1.
//
// Of the parameters, `site` is the word of `barrier` that counts the workgroups that have finished, `zoneout_h` how many there are. The
// first word of `barrier` counts repairs, for the host.

// h' and h of the row, [2, fours of units]. Numbers of their own, not vectors: a store to a component may write the whole vector.
var<workgroup> state: array<array<f32, 4>, MEMORY>;
var<workgroup> finished: u32;

@compute @workgroup_size(THREADS, 1, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let row = group.y; // b
    let d = group.z;
    if local.x == 0u {
        finished = atomicLoad(&barrier[p.site]);
    }
    if workgroupUniformLoad(&finished) == p.zoneout_h {
        return;
    }
    if local.x == 0u && row == 0u && d == 0u {
        atomicAdd(&barrier[0], 1u);
    }
    let fours = H / 4u;
    for (var k = local.x; k < fours; k += THREADS) {
        let four = h[(p.h_in + (d * p.batch + row) * H) / 4u + k];
        state[k] = array<f32, 4>(four.x, four.y, four.z, four.w);
    }
    workgroupBarrier();
    for (var step = 0u; step < p.steps; step++) {
        let before = step % 2u * fours;
        let after = fours - before;
        // A constant number of iterations, as in scan_forward.wgsl.
        for (var skipped = 0u; skipped < UNITS; skipped += THREADS) {
            let unit = skipped + local.x;
            if unit >= H {
                continue;
            }
            var rh = vec4f();
            for (var four = 0u; four < fours; four++) {
                let s = state[before + four];
                rh = added(rh, widened(kept(d, unit, four, true)), vec4f(s[0], s[1], s[2], s[3]));
            }
            let old = given(step, d, row, unit);
            let made = cell_step(step, d, row, unit, own_parameters(d, unit), old, product_of(d, unit, rh));
            state[after + unit / 4u][unit % 4u] = made.h;
        }
        workgroupBarrier();
    }
}
