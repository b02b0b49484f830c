// The gradient of l1·Σ|w| + ½·l2·Σw², added.

struct Params {
    n: u32,
    l1: f32,
    l2: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weight: array<f32>;         // [n]
@group(0) @binding(2) var<storage, read_write> gradient: array<f32>; // [n]

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    if i >= p.n {
        return;
    }
    let w = weight[i];
    gradient[i] += p.l1 * sign(w) + p.l2 * w;
}
