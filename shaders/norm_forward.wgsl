// y[r] = weight·(x[r] − mean) / sqrt(variance + ε) + bias, over the features of a row; one thread a row.

struct Params {
    rows: u32,
    features: u32,
    x_offset: u32,
    y_offset: u32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weight: array<f32>;  // [features]
@group(0) @binding(2) var<storage, read> bias: array<f32>;    // [features]
@group(0) @binding(3) var<storage, read> x: array<f32>;       // [rows, features] from x_offset
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [rows, features] from y_offset

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let row = id.y * groups.x * 64u + id.x;
    if row >= p.rows {
        return;
    }
    let from_ = p.x_offset + row * p.features;
    var sum = 0.0;
    for (var f = 0u; f < p.features; f++) {
        sum += x[from_ + f];
    }
    let mean = sum / f32(p.features);
    var squares = 0.0;
    for (var f = 0u; f < p.features; f++) {
        let d = x[from_ + f] - mean;
        squares += d * d;
    }
    let scale = inverseSqrt(squares / f32(p.features) + p.epsilon);
    for (var f = 0u; f < p.features; f++) {
        y[p.y_offset + row * p.features + f] = weight[f] * (x[from_ + f] - mean) * scale + bias[f];
    }
}
