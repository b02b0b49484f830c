// Time steps of all directions of a layer: in each, the recurrent product of the four gates, then the cell.
// A workgroup carries UNITS hidden units of ROWS (1, 4 or 8) batch rows. Where UNITS is H it needs nothing from other
// workgroups and goes through many steps; else a dispatch is one step.
// A thread makes all its rows of SPAN (1 or 2) units at once: a weight load brings the four gates of a unit, which lie side
// by side, and serves every row; a load of h serves every unit; neighbouring threads read neighbouring weights.

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
}

override H: u32;
override TRAIN: u32;
override ROWS: u32;
override UNITS: u32;
override SPAN: u32;
override THREADS: u32;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> xw: array<vec4f>;        // [steps, D, B, H] of 4 gates: W·x
@group(0) @binding(2) var<storage, read> r: array<Weights>;       // [D, H (from), H (to)] of 4 gates
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;      // [D, biases, H] of 4 gates
@group(0) @binding(4) var<storage, read_write> h: array<vec4f>;   // [1 + steps, D, B, H], four units an element
@group(0) @binding(5) var<storage, read_write> c: array<f32>;     // [slots, D, B, H]
@group(0) @binding(6) var<storage, read_write> saved: array<f32>; // [steps, SAVED, D, B, H]

// The cell of one row, from its recurrent product.
fn finish(step: u32, d: u32, row: u32, unit: u32, rh: vec4f) {
    if row >= p.batch {
        return;
    }
    var b = vec4f();
    for (var n = 0u; n < p.biases; n++) {
        b += bias[(d * p.biases + n) * H + unit];
    }
    let slot = p.directions * p.batch * H;
    let at = (d * p.batch + row) * H + unit; // in a slot [D, B, H]
    // Training keeps c of every step; inference goes on in the slot that it writes.
    let c_out = p.c_out + at + select(0u, step * slot, TRAIN == 1u);
    let c_prev = c[select(c_out - select(0u, slot, TRAIN == 1u), p.c_in + at, step == 0u)];
    let out = cell_forward(xw[p.xw_offset / 4u + step * slot + at], rh, b, c_prev);
    let h_out = p.h_in + (step + 1u) * slot + at;
    h[h_out / 4u][h_out % 4u] = out.h;
    c[c_out] = out.c;
    if TRAIN == 1u {
        for (var q = 0u; q < SAVED; q++) {
            saved[p.saved_offset + (step * SAVED + q) * slot + at] = out.saved[q];
        }
    }
}

// h of four units of each of four rows (columns are rows), or of one unit, where H is no multiple of 4 (the others zero).
fn load_h(at: vec4u) -> mat4x4f {
    if H % 4u == 0u {
        let i = at / 4u;
        return mat4x4f(h[i.x], h[i.y], h[i.z], h[i.w]);
    }
    return mat4x4f(one_h(at.x), one_h(at.y), one_h(at.z), one_h(at.w));
}

fn one_h(at: u32) -> vec4f {
    return vec4f(h[at / 4u][at % 4u], 0.0, 0.0, 0.0);
}

// The weights from as many units to one: columns are units, their elements gates.
fn load_r(at: u32) -> mat4x4f {
    if H % 4u == 0u {
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
    // Rows past the last read its state again and are thrown away.
    let last = p.batch - 1u;
    let rows0 = H * min(vec4u(first, first + 1u, first + 2u, first + 3u), vec4u(last));
    let rows1 = H * min(vec4u(first + 4u, first + 5u, first + 6u, first + 7u), vec4u(last));
    let end = min(H, (group.x + 1u) * UNITS);
    for (var step = 0u; step < p.steps; step++) {
        let h_first = p.h_in + (step * p.directions + d) * p.batch * H;
        let at0 = rows0 + h_first;
        let at1 = rows1 + h_first;
        for (var unit = group.x * UNITS + local.x; unit < end; unit += SPAN * THREADS) {
            let column = d * H * H + unit;
            let many = select(1u, 4u, H % 4u == 0u); // units at a time
            if ROWS == 1u {
                var rh = vec4f();
                for (var k = 0u; k < H; k += many) {
                    if many == 4u {
                        rh += load_r(column + k * H) * h[(at0.x + k) / 4u];
                    } else {
                        rh += weights(r[column + k * H]) * one_h(at0.x + k).x;
                    }
                }
                finish(step, d, first, unit, rh);
            } else {
                let other = min(unit + THREADS, end - 1u); // a second unit; past the last it is thrown away
                let second = d * H * H + other;
                var rh0 = mat4x4f(); // first four rows
                var rh1 = mat4x4f();
                var rh2 = mat4x4f(); // of the second unit
                var rh3 = mat4x4f();
                for (var k = 0u; k < H; k += many) {
                    let own = load_r(column + k * H);
                    let h0 = load_h(at0 + k);
                    rh0 += own * h0;
                    if SPAN == 2u {
                        rh2 += load_r(second + k * H) * h0;
                    }
                    if ROWS == 8u {
                        let h1 = load_h(at1 + k);
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
