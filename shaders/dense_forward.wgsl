// y[r, f] = activation(y[r, f] + bias[f])

struct Params {
    rows: u32,
    features: u32,
    has_bias: u32,
    y_offset: u32,
    alpha: f32,
    beta: f32,
}

override ACTIVATION: u32;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> bias: array<f32>;    // [features]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [rows, features] from y_offset

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    if i >= p.rows * p.features {
        return;
    }
    var z = y[p.y_offset + i];
    if p.has_bias == 1u {
        z += bias[i % p.features];
    }
    y[p.y_offset + i] = activate(ACTIVATION, p.alpha, p.beta, z);
}
