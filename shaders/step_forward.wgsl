// One time step of all directions of a layer: the recurrent product of the four gates, then the cell.
// A thread makes one hidden unit of one batch row; the four gates of a unit lie side by side, so that a weight load
// brings all four and neighbouring threads read neighbouring weights.

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

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> xw: array<vec4f>;        // [steps, D, B, H] of 4 gates: W·x
@group(0) @binding(2) var<storage, read> r: array<vec4f>;         // [D, H (from), H (to)] of 4 gates
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;      // [D, biases, H] of 4 gates
@group(0) @binding(4) var<storage, read_write> h: array<f32>;     // [slots, D, B, H]
@group(0) @binding(5) var<storage, read_write> c: array<f32>;     // [slots, D, B, H]
@group(0) @binding(6) var<storage, read_write> saved: array<f32>; // [steps, SAVED, D, B, H]

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u) {
    let row = id.x / H; // b
    let unit = id.x % H;
    let d = id.y;
    if row >= p.batch {
        return;
    }
    let cell = d * p.batch * H + id.x; // index in a slot [D, B, H]

    var rh = vec4f();
    let h_row = p.h_in + d * p.batch * H + row * H;
    let r_column = d * H * H + unit;
    for (var k = 0u; k < H; k++) {
        rh += h[h_row + k] * r[r_column + k * H];
    }

    var b = vec4f();
    for (var n = 0u; n < p.biases; n++) {
        b += bias[(d * p.biases + n) * H + unit];
    }

    let out = cell_forward(xw[p.xw_offset / 4u + cell], rh, b, c[p.c_in + cell]);
    h[p.h_out + cell] = out.h;
    c[p.c_out + cell] = out.c;
    if TRAIN == 1u {
        for (var q = 0u; q < SAVED; q++) {
            saved[p.saved_offset + q * p.directions * p.batch * H + cell] = out.saved[q];
        }
    }
}
