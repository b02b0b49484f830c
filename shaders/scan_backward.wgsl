// Time steps backward, all directions, from the last to the first: the hidden state's gradient is that of the output
// plus that of the later step through the recurrent product; the cell turns it into gate gradients.
// Workgroups share the work as in scan_forward.wgsl; a thread computes all its rows of SPAN units at once: 1, or 4
// side by side if a head's units are a multiple of 4. The weights are transposed, so that neighbouring threads read neighbouring
// ones.

struct Params {
    batch: u32,
    directions: u32,
    biases: u32,
    steps: u32,
    has_next: u32,
    first: u32,
    dy_from: u32,
    dy_offset: u32,
    dy_step: u32,
    dy_direction: u32,
    dy_row: u32,
    dy_whole: u32,
    saved_offset: u32,
    saved_step: u32,
    c_in: u32,
    dg_next: u32,
    dg_offset: u32,
    first_step: u32,
    total_steps: u32,
    backwards: u32,
    site: u32,
    zoneout_h: u32,
    zoneout_c: u32,
    drop_site: u32,
    drop: u32,
    drop_scale: f32,
    gate_alpha: f32,
    gate_beta: f32,
    candidate_alpha: f32,
    candidate_beta: f32,
    output_alpha: f32,
    output_beta: f32,
    clip: f32,
    cell_clip: f32,
}

override H: u32;
override DROP: u32;    // 1: h' was multiplied by a mask before the product
override CARRIES: u32; // 1: sequences have lengths, 2: zoneout, 3: both
override KINDS: u32;   // of activations, as src/cell/settings.rs packs them
override ROWS: u32;
override UNITS: u32;
override SPAN: u32;
override THREADS: u32;
override TERMS: u32;   // of the recurrent product: H / HEADS, or 0 if there is none
override HEADS: u32;   // groups of units without recurrent weights between them

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> saved: array<f32>;        // [steps, SAVED, D, B, H], steps by stride
@group(0) @binding(2) var<storage, read> c: array<f32>;            // [1 + steps, STATES, D, B, H]
@group(0) @binding(3) var<storage, read> dy: array<f32>;           // [steps, D, B, H] by strides
@group(0) @binding(4) var<storage, read> rt: array<Weights>;       // [D, 4H / HEADS (from), H (to)], four units (to) an element
@group(0) @binding(5) var<storage, read_write> dg: array<vec4f>;   // [slots, D, B, H] of 4 gates
// [1 + EXTRA, D, B, H] of 4 gates: gradients of the bias and of the further parameters, summed over time; then, one number
// after the other, the gradients of the states [STATES, D, B, H] and of the hidden state where it is carried past the cell [D, B, H]
@group(0) @binding(6) var<storage, read_write> sums: array<vec4f>;
@group(0) @binding(7) var<storage, read> words: array<u32>;        // [2 + B]: key of random bits, lengths
@group(0) @binding(8) var<storage, read> bias: array<vec4f>;       // [D, biases + EXTRA, H] of 4 gates

// True if the time of a step is before the end of a row's sequence.
fn takes_part(step: u32, d: u32, row: u32) -> bool {
    let s = p.first_step + step;
    let time = select(s, p.total_steps - 1u - s, d == 1u || p.backwards == 1u);
    return CARRIES % 2u == 0u || time < words[2u + row];
}

fn add_up(at: u32, value: vec4f, overwrite: bool) {
    let before = select(sums[at], vec4f(), overwrite);
    sums[at] = value + before;
}

// The cell of one row, from the gradient of its hidden state through the later step's recurrent product.
fn finish(step: u32, d: u32, row: u32, unit: u32, recurrent: f32) {
    if row >= p.batch {
        return;
    }
    let slot = p.directions * p.batch * H;
    let at = (d * p.batch + row) * H + unit; // in a slot [D, B, H]
    let key = vec2u(words[0], words[1]);
    let on = takes_part(step, d, row);
    var dh = recurrent;
    if DROP == 1u {
        dh *= select(p.drop_scale, 0.0, random_bits(key, vec2u(at, p.drop_site)).x < p.drop);
    }
    if step >= p.dy_from && (on || p.dy_whole == 1u) {
        dh += dy[p.dy_offset + (step - p.dy_from) * p.dy_step + d * p.dy_direction + row * p.dy_row + unit];
    }
    let dc_at = 4u * (1u + EXTRA) * slot + at;
    let carry_at = dc_at + STATES * slot;
    var dc = State();
    for (var s = 0u; s < STATES; s++) {
        let at_plane = dc_at + s * slot;
        dc = with_plane(dc, s, sums[at_plane / 4u][at_plane % 4u]);
    }
    var dc_past = State(); // past the cell
    if CARRIES > 0u {
        dh += sums[carry_at / 4u][carry_at % 4u];
        var past = vec2<bool>(!on);
        if CARRIES >= 2u {
            let index = (p.first_step + step) * slot + at;
            past = past | (random_bits(key, vec2u(index, p.site)) < vec2u(p.zoneout_h, p.zoneout_c));
        }
        let dh_past = select(0.0, dh, past.x);
        dh = select(dh, 0.0, past.x);
        dc_past = select(State(), dc, past.y);
        dc = select(dc, State(), past.y);
        sums[carry_at / 4u][carry_at % 4u] = dh_past;
    }
    var kept: array<f32, SAVED>;
    for (var q = 0u; q < SAVED; q++) {
        kept[q] = saved[p.saved_offset + step * p.saved_step + q * slot + at];
    }
    var extra = vec4f();
    if EXTRA == 1u {
        extra = bias[(d * (p.biases + 1u) + p.biases) * H + unit];
    }
    let c_in = p.c_in + step * STATES * slot + at;
    var c_prev = State();
    var c_new = State();
    for (var s = 0u; s < STATES; s++) {
        c_prev = with_plane(c_prev, s, c[c_in + s * slot]);
        c_new = with_plane(c_new, s, c[c_in + (STATES + s) * slot]);
    }
    let out = cell_backward(kept, c_prev, c_new, dh, dc, extra);
    // Rows past the end of their sequence have gradients of 0; their saved values are undefined.
    dg[p.dg_offset / 4u + step * slot + at] = select(vec4f(), out.gates, on);
    dc = dc_past + select(State(), out.c_prev, on);
    for (var s = 0u; s < STATES; s++) {
        let at_plane = dc_at + s * slot;
        sums[at_plane / 4u][at_plane % 4u] = plane(dc, s);
    }
    let overwrite = p.first == 1u && step + 1u == p.steps;
    add_up(at, select(vec4f(), out.bias, on), overwrite);
    if EXTRA == 1u {
        add_up(slot + at, select(vec4f(), out.extra, on), overwrite);
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
