// y[r, f] = weight[f]·(x[r, f] − mean[f]) / sqrt(variance[f] + ε) + bias[f].

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
@group(0) @binding(3) var<storage, read> moments: array<f32>; // [1 + 2·features]: number of steps, means, variances
@group(0) @binding(4) var<storage, read> x: array<f32>;       // [rows, features] from x_offset
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // [rows, features] from y_offset

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    if i >= p.rows * p.features {
        return;
    }
    let f = i % p.features;
    let scale = inverseSqrt(moments[1u + p.features + f] + p.epsilon);
    y[p.y_offset + i] = weight[f] * (x[p.x_offset + i] - moments[1u + f]) * scale + bias[f];
}
