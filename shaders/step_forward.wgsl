// One time step of all directions of a layer: the recurrent product of the four gates, then the cell.
// A thread makes one hidden unit for ROWS (1 or 4) batch rows: a weight load brings the four gates of the unit, which lie
// side by side, and serves all rows; neighbouring threads read neighbouring weights; h is the same for all of them.

struct Params {
    batch: u32,
    directions: u32,
    biases: u32,
    xw_offset: u32,
    h_in: u32,
    h_out: u32,
    c_in: u32,
    c_out: u32,
    saved_offset: u32,
}

override H: u32;
override TRAIN: u32;
override ROWS: u32;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> xw: array<vec4f>;        // [steps, D, B, H] of 4 gates: W·x
@group(0) @binding(2) var<storage, read> r: array<vec4f>;         // [D, H (from), H (to)] of 4 gates
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;      // [D, biases, H] of 4 gates
@group(0) @binding(4) var<storage, read_write> h: array<f32>;     // [slots, D, B, H]
@group(0) @binding(5) var<storage, read_write> c: array<f32>;     // [slots, D, B, H]
@group(0) @binding(6) var<storage, read_write> saved: array<f32>; // [steps, SAVED, D, B, H]

// The cell of one row, from its recurrent product.
fn finish(d: u32, row: u32, unit: u32, rh: vec4f) {
    if row >= p.batch {
        return;
    }
    var b = vec4f();
    for (var n = 0u; n < p.biases; n++) {
        b += bias[(d * p.biases + n) * H + unit];
    }
    let at = (d * p.batch + row) * H + unit; // in a slot [D, B, H]
    let out = cell_forward(xw[p.xw_offset / 4u + at], rh, b, c[p.c_in + at]);
    h[p.h_out + at] = out.h;
    c[p.c_out + at] = out.c;
    if TRAIN == 1u {
        for (var q = 0u; q < SAVED; q++) {
            saved[p.saved_offset + q * p.directions * p.batch * H + at] = out.saved[q];
        }
    }
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(workgroup_id) group: vec3u) {
    let unit = id.x;
    let first = group.y * ROWS; // b
    let d = group.z;
    if unit >= H {
        return;
    }
    // Rows past the last read its state again and are thrown away.
    let last = p.batch - 1u;
    let h_first = p.h_in + d * p.batch * H;
    let h0 = h_first + first * H;
    let h1 = h_first + min(first + 1u, last) * H;
    let h2 = h_first + min(first + 2u, last) * H;
    let h3 = h_first + min(first + 3u, last) * H;
    var rh0 = vec4f();
    var rh1 = vec4f();
    var rh2 = vec4f();
    var rh3 = vec4f();
    let column = d * H * H + unit;
    for (var k = 0u; k < H; k++) {
        let weights = r[column + k * H];
        rh0 += h[h0 + k] * weights;
        if ROWS == 4u {
            rh1 += h[h1 + k] * weights;
            rh2 += h[h2 + k] * weights;
            rh3 += h[h3 + k] * weights;
        }
    }
    finish(d, first, unit, rh0);
    if ROWS == 4u {
        finish(d, first + 1u, unit, rh1);
        finish(d, first + 2u, unit, rh2);
        finish(d, first + 3u, unit, rh3);
    }
}
