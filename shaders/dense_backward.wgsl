// dy[i] *= activation'(y[i])

struct Params {
    n: u32,
    y_offset: u32,
    dy_offset: u32,
    alpha: f32,
    beta: f32,
}

override ACTIVATION: u32;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> y: array<f32>;        // [n] from y_offset
@group(0) @binding(2) var<storage, read_write> dy: array<f32>; // [n] from dy_offset

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    if i < p.n {
        dy[p.dy_offset + i] *= activation_slope(ACTIVATION, p.alpha, p.beta, y[p.y_offset + i]);
    }
}
