// velocity = momentum·velocity + gradient·scale; weight -= lr·velocity

struct Params {
    n: u32,
    momentum: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> hyper: array<f32>;          // [2]: learning rate, unused
@group(0) @binding(2) var<storage, read> scale: array<f32>;          // [2]: factor, norm
@group(0) @binding(3) var<storage, read> gradient: array<f32>;       // [n]
@group(0) @binding(4) var<storage, read_write> weight: array<f32>;   // [n]
@group(0) @binding(5) var<storage, read_write> velocity: array<f32>; // [n]

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    if i >= p.n {
        return;
    }
    let v = p.momentum * velocity[i] + gradient[i] * scale[0];
    velocity[i] = v;
    weight[i] -= hyper[0] * v;
}
