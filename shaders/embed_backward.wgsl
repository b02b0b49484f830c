// dweight[index[r]] += dy[r]. A thread sums one feature over all rows, so that sums have a fixed order.

struct Params {
    rows: u32,
    features: u32,
    entries: u32,
    index_offset: u32,
    dy_offset: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>;            // [rows, features] from dy_offset
@group(0) @binding(2) var<storage, read> index: array<f32>;         // [rows] from index_offset: whole numbers below entries
@group(0) @binding(3) var<storage, read_write> dweight: array<f32>; // [entries, features]

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u) {
    let f = id.x;
    if f >= p.features {
        return;
    }
    for (var row = 0u; row < p.rows; row++) {
        let entry = min(u32(index[p.index_offset + row]), p.entries - 1u);
        dweight[entry * p.features + f] += dy[p.dy_offset + row * p.features + f];
    }
}
