// Time steps of all directions of a layer: in each, the recurrent product of the four gates, then the cell. A unit has recurrent
// weights from the hidden units of its own head.
// A workgroup computes UNITS hidden units of ROWS (1, 4 or 8) batch rows. If UNITS is H, it does not depend on other workgroups
// and goes through many steps; else a dispatch is one step.
// A thread computes all its rows of SPAN (1 or 2) units at once: one load brings the weights of a unit's four gates, which lie
// side by side, for every row; a load of h serves every unit; neighbouring threads read neighbouring weights.

struct Params {
    batch: u32,
    directions: u32,
    biases: u32,
    steps: u32,
    xw_offset: u32,
    h_in: u32,
    c_in: u32,
    c_out: u32,
    saved_offset: u32,
    first_step: u32,
    total_steps: u32,
    backwards: u32,
    site: u32,
    zoneout_h: u32,
    zoneout_c: u32,
    keep_h: f32,
    keep_c: f32,
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
override K: u32; // width of the recurrent state: H, or less if another kernel projects the hidden state
override TRAIN: u32;
override DROP: u32;    // 1: the mask multiplies h' before the product
override CARRIES: u32; // 1: sequences have lengths, 2: zoneout, 3: both
override KINDS: u32;   // of activations, as src/cell/settings.rs packs them
override ROWS: u32;
override UNITS: u32;
override SPAN: u32;
override THREADS: u32;
override TERMS: u32;   // of the recurrent product: K / HEADS, or 0 if there is none or if other kernels have added it to xw
override HEADS: u32;   // groups of units without recurrent weights between them

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> xw: array<vec4f>;        // [steps, D, B, H] of 4 gates: W·x
@group(0) @binding(2) var<storage, read> r: array<Weights>;       // [D, K / HEADS (from), H (to)] of 4 gates
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;      // [D, biases + EXTRA, H] of 4 gates
@group(0) @binding(4) var<storage, read_write> h: array<vec4f>;   // [1 + steps, D, B, K], four units an element
@group(0) @binding(5) var<storage, read_write> c: array<f32>;     // [slots, STATES, D, B, H]
@group(0) @binding(6) var<storage, read_write> saved: array<f32>; // [steps, SAVED (in training) + 1 (if projected), D, B, H]
@group(0) @binding(7) var<storage, read> words: array<u32>;       // [2 + B]: key of random bits, lengths
@group(0) @binding(8) var<storage, read> mask: array<f32>;        // [D, B, K] where DROP

// True if the time of a step is before the end of a row's sequence.
fn takes_part(step: u32, d: u32, row: u32) -> bool {
    let s = p.first_step + step;
    let time = select(s, p.total_steps - 1u - s, d == 1u || p.backwards == 1u);
    return CARRIES % 2u == 0u || time < words[2u + row];
}

// The cell of one row, from its recurrent product.
fn finish(step: u32, d: u32, row: u32, unit: u32, rh: vec4f) {
    if row >= p.batch {
        return;
    }
    var b = vec4f();
    let parameters = d * (p.biases + EXTRA);
    for (var n = 0u; n < p.biases; n++) {
        b += bias[(parameters + n) * H + unit];
    }
    var extra = vec4f();
    if EXTRA == 1u {
        extra = bias[(parameters + p.biases) * H + unit];
    }
    let slot = p.directions * p.batch * H;
    let at = (d * p.batch + row) * H + unit; // in a slot [D, B, H]
    // Training keeps c of every step; inference overwrites one slot.
    let c_out = p.c_out + at + select(0u, step * STATES * slot, TRAIN == 1u);
    let c_in = select(c_out - select(0u, STATES * slot, TRAIN == 1u), p.c_in + at, step == 0u);
    var c_prev = State();
    for (var s = 0u; s < STATES; s++) {
        c_prev = with_plane(c_prev, s, c[c_in + s * slot]);
    }
    let out = cell_forward(xw[p.xw_offset / 4u + step * slot + at], rh, b, c_prev, extra);
    let h_in = p.h_in + step * slot + at;
    var h_new = out.h;
    var c_new = out.c;
    if CARRIES >= 2u { // zoneout: in training a unit keeps its old state at random, in inference a share of it
        let before = h[h_in / 4u][h_in % 4u];
        if TRAIN == 1u {
            let index = (p.first_step + step) * slot + at;
            let chance = random_bits(vec2u(words[0], words[1]), vec2u(index, p.site));
            h_new = select(h_new, before, chance.x < p.zoneout_h);
            c_new = select(c_new, c_prev, chance.y < p.zoneout_c);
        } else {
            h_new += p.keep_h * (before - h_new);
            c_new += p.keep_c * (c_prev - c_new);
        }
    }
    let on = takes_part(step, d, row);
    if !on {
        c_new = c_prev;
        h_new = 0.0; // to be projected, and then replaced by the old state
        if K == H {
            h_new = h[h_in / 4u][h_in % 4u];
        }
    }
    for (var s = 0u; s < STATES; s++) {
        c[c_out + s * slot] = plane(c_new, s);
    }
    let planes = TRAIN * SAVED + select(1u, 0u, K == H);
    let keep = p.saved_offset + step * planes * slot + at;
    if K == H {
        let h_out = h_in + slot;
        h[h_out / 4u][h_out % 4u] = h_new;
    } else {
        saved[keep + (planes - 1u) * slot] = h_new;
    }
    if TRAIN == 1u {
        for (var q = 0u; q < SAVED; q++) {
            saved[keep + q * slot] = select(0.0, out.saved[q], on);
        }
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
    return mat4x4f(one_h(at.x, base), one_h(at.y, base), one_h(at.z, base), one_h(at.w, base));
}

fn four_h(at: u32, base: u32) -> vec4f {
    if DROP == 1u {
        let m = at - base;
        return h[at / 4u] * vec4f(mask[m], mask[m + 1u], mask[m + 2u], mask[m + 3u]);
    }
    return h[at / 4u];
}

fn one_h(at: u32, base: u32) -> vec4f {
    var value = h[at / 4u][at % 4u];
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
        for (var unit = group.x * UNITS + local.x; unit < end; unit += SPAN * THREADS) {
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
                        rh += weights(r[column + k * H]) * one_h(seen0.x + k, base).x;
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
