// The gradient of softmax_forward.wgsl's input, in place: y·(dy − Σ y·dy); LOG: dy − e^y·Σ dy. One thread a row.

struct Params {
    rows: u32,
    features: u32,
    y_offset: u32,
    dy_offset: u32,
}

override LOG: u32;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> y: array<f32>;        // [rows, features] from y_offset
@group(0) @binding(2) var<storage, read_write> dy: array<f32>; // [rows, features] from dy_offset

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let row = id.y * groups.x * 64u + id.x;
    if row >= p.rows {
        return;
    }
    let at = row * p.features;
    var sum = 0.0;
    for (var f = 0u; f < p.features; f++) {
        let d = dy[p.dy_offset + at + f];
        sum += select(y[p.y_offset + at + f] * d, d, LOG == 1u);
    }
    for (var f = 0u; f < p.features; f++) {
        let value = y[p.y_offset + at + f];
        let d = dy[p.dy_offset + at + f];
        dy[p.dy_offset + at + f] = select(value * (d - sum), d - exp(value) * sum, LOG == 1u);
    }
}
