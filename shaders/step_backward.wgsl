// One time step backward, all directions: the hidden state's gradient is that of the output plus what the later step
// sends back through the recurrent product; the cell turns it into gate gradients.
// A thread makes one hidden unit of one batch row. The weights come transposed, so that neighbouring threads read
// neighbouring ones.

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

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> saved: array<f32>;        // [steps, SAVED, D, B, H]
@group(0) @binding(2) var<storage, read> c: array<f32>;            // [slots, D, B, H]
@group(0) @binding(3) var<storage, read> dy: array<f32>;           // [steps, D, B, H] by strides
@group(0) @binding(4) var<storage, read> rt: array<f32>;           // [D, 4H (from), H (to)]
@group(0) @binding(5) var<storage, read_write> dg: array<vec4f>;   // [slots, D, B, H] of 4 gates
@group(0) @binding(6) var<storage, read_write> dc: array<f32>;     // [D, B, H]
@group(0) @binding(7) var<storage, read_write> dbias: array<vec4f>; // [D, B, H] of 4 gates, summed over time

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u) {
    let row = id.x / H; // b
    let unit = id.x % H;
    let d = id.y;
    if row >= p.batch {
        return;
    }
    let cell = d * p.batch * H + id.x; // index in a slot [D, B, H]

    var dh = 0.0;
    if p.has_next == 1u {
        let dg_row = p.dg_next / 4u + d * p.batch * H + row * H;
        let rt_column = d * 4u * H * H + unit;
        for (var k = 0u; k < H; k++) {
            let at = rt_column + 4u * k * H;
            dh += dot(dg[dg_row + k], vec4f(rt[at], rt[at + H], rt[at + 2u * H], rt[at + 3u * H]));
        }
    }
    if p.has_dy == 1u {
        dh += dy[p.dy_offset + d * p.dy_direction + row * p.dy_row + unit];
    }

    var kept: array<f32, SAVED>;
    for (var q = 0u; q < SAVED; q++) {
        kept[q] = saved[p.saved_offset + q * p.directions * p.batch * H + cell];
    }
    let out = cell_backward(kept, c[p.c_in + cell], c[p.c_out + cell], dh, dc[cell]);
    dg[p.dg_offset / 4u + cell] = out.gates;
    dc[cell] = out.c_prev;
    dbias[cell] = out.bias + select(dbias[cell], vec4f(), p.first == 1u);
}
