// y[r] = weight[index[r]].

struct Params {
    rows: u32,
    features: u32,
    entries: u32,
    index_offset: u32,
    y_offset: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weight: array<f32>;  // [entries, features]
@group(0) @binding(2) var<storage, read> index: array<f32>;   // [rows] from index_offset: whole numbers below entries
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [rows, features] from y_offset

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    if i >= p.rows * p.features {
        return;
    }
    let entry = min(u32(index[p.index_offset + i / p.features]), p.entries - 1u);
    y[p.y_offset + i] = weight[entry * p.features + i % p.features];
}
