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
@group(0) @binding(2) var<storage, read> r: array<vec4f>;         // [D, H (from), H (to)] of 4 gates
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;      // [D, biases, H] of 4 gates
@group(0) @binding(4) var<storage, read_write> h: array<f32>;     // [1 + steps, D, B, H]
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
    h[p.h_in + (step + 1u) * slot + at] = out.h;
    c[c_out] = out.c;
    if TRAIN == 1u {
        for (var q = 0u; q < SAVED; q++) {
            saved[p.saved_offset + (step * SAVED + q) * slot + at] = out.saved[q];
        }
    }
}

// Columns are rows of the batch: h of four of them times a weight of four gates.
fn outer(weights: vec4f, rows: vec4f) -> mat4x4f {
    return mat4x4f(weights * rows.x, weights * rows.y, weights * rows.z, weights * rows.w);
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
            if ROWS == 1u {
                var rh = vec4f();
                for (var k = 0u; k < H; k++) {
                    rh += h[at0.x + k] * r[column + k * H];
                }
                finish(step, d, first, unit, rh);
            } else {
                let other = min(unit + THREADS, end - 1u); // a second unit; past the last it is thrown away
                let second = d * H * H + other;
                var rh0 = mat4x4f(); // first four rows
                var rh1 = mat4x4f();
                var rh2 = mat4x4f(); // of the second unit
                var rh3 = mat4x4f();
                for (var k = 0u; k < H; k++) {
                    let weights = r[column + k * H];
                    let h0 = vec4f(h[at0.x + k], h[at0.y + k], h[at0.z + k], h[at0.w + k]);
                    rh0 += outer(weights, h0);
                    if SPAN == 2u {
                        rh2 += outer(r[second + k * H], h0);
                    }
                    if ROWS == 8u {
                        let h1 = vec4f(h[at1.x + k], h[at1.y + k], h[at1.z + k], h[at1.w + k]);
                        rh1 += outer(weights, h1);
                        if SPAN == 2u {
                            rh3 += outer(r[second + k * H], h1);
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
