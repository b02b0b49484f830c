// One time step backward, all directions: the hidden state's gradient is that of the output plus what the later step
// sends back through the recurrent product; the cell turns it into gate gradients.
// A thread makes one hidden unit for ROWS (1 or 4) batch rows, so that a weight load serves them all. The weights come
// transposed, so that neighbouring threads read neighbouring ones.

struct Params {
    batch: u32,
    directions: u32,
    has_dy: u32,
    has_next: u32,
    first: u32,
    dy_offset: u32,
    dy_direction: u32,
    dy_row: u32,
    saved_offset: u32,
    c_in: u32,
    c_out: u32,
    dg_next: u32,
    dg_offset: u32,
}

override H: u32;
override ROWS: u32;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> saved: array<f32>;        // [steps, SAVED, D, B, H]
@group(0) @binding(2) var<storage, read> c: array<f32>;            // [slots, D, B, H]
@group(0) @binding(3) var<storage, read> dy: array<f32>;           // [steps, D, B, H] by strides
@group(0) @binding(4) var<storage, read> rt: array<f32>;           // [D, 4H (from), H (to)]
@group(0) @binding(5) var<storage, read_write> dg: array<vec4f>;   // [slots, D, B, H] of 4 gates
@group(0) @binding(6) var<storage, read_write> dc: array<f32>;     // [D, B, H]
@group(0) @binding(7) var<storage, read_write> dbias: array<vec4f>; // [D, B, H] of 4 gates, summed over time

// The cell of one row, from what the later step sends back to its hidden state.
fn finish(d: u32, row: u32, unit: u32, recurrent: f32) {
    if row >= p.batch {
        return;
    }
    var dh = recurrent;
    if p.has_dy == 1u {
        dh += dy[p.dy_offset + d * p.dy_direction + row * p.dy_row + unit];
    }
    let at = (d * p.batch + row) * H + unit; // in a slot [D, B, H]
    var kept: array<f32, SAVED>;
    for (var q = 0u; q < SAVED; q++) {
        kept[q] = saved[p.saved_offset + q * p.directions * p.batch * H + at];
    }
    let out = cell_backward(kept, c[p.c_in + at], c[p.c_out + at], dh, dc[at]);
    dg[p.dg_offset / 4u + at] = out.gates;
    dc[at] = out.c_prev;
    dbias[at] = out.bias + select(dbias[at], vec4f(), p.first == 1u);
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(workgroup_id) group: vec3u) {
    let unit = id.x;
    let first = group.y * ROWS; // b
    let d = group.z;
    if unit >= H {
        return;
    }
    var dh = vec4f(); // one of each row
    if p.has_next == 1u {
        // Rows past the last read its gradients again and are thrown away.
        let last = p.batch - 1u;
        let dg_first = p.dg_next / 4u + d * p.batch * H;
        let dg0 = dg_first + first * H;
        let dg1 = dg_first + min(first + 1u, last) * H;
        let dg2 = dg_first + min(first + 2u, last) * H;
        let dg3 = dg_first + min(first + 3u, last) * H;
        let column = d * 4u * H * H + unit;
        for (var k = 0u; k < H; k++) {
            let at = column + 4u * k * H;
            let weights = vec4f(rt[at], rt[at + H], rt[at + 2u * H], rt[at + 3u * H]);
            dh.x += dot(dg[dg0 + k], weights);
            if ROWS == 4u {
                dh.y += dot(dg[dg1 + k], weights);
                dh.z += dot(dg[dg2 + k], weights);
                dh.w += dot(dg[dg3 + k], weights);
            }
        }
    }
    finish(d, first, unit, dh.x);
    if ROWS == 4u {
        finish(d, first + 1u, unit, dh.y);
        finish(d, first + 2u, unit, dh.z);
        finish(d, first + 3u, unit, dh.w);
    }
}
