// y[r, f] = e^(y[r, f] − m) / Σ e^(y[r, ·] − m), in place, m the row's largest; LOG: the logarithm of that. One thread a row.

struct Params {
    rows: u32,
    features: u32,
    y_offset: u32,
}

override LOG: u32;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // [rows, features] from y_offset

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let row = id.y * groups.x * 64u + id.x;
    if row >= p.rows {
        return;
    }
    let first = p.y_offset + row * p.features;
    var most = y[first];
    for (var f = 1u; f < p.features; f++) {
        most = max(most, y[first + f]);
    }
    var sum = 0.0;
    for (var f = 0u; f < p.features; f++) {
        sum += exp(y[first + f] - most);
    }
    for (var f = 0u; f < p.features; f++) {
        let z = y[first + f] - most;
        y[first + f] = select(exp(z) / sum, z - log(sum), LOG == 1u);
    }
}
