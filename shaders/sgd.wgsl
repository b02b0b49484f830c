// Gradient descent: velocity = momentum·velocity + g; weight -= lr·velocity, or with Nesterov's lookahead
// lr·(g + momentum·velocity).

struct Params {
    n: u32,
    momentum: f32,
    nesterov: u32,
    limit: f32,
    l2: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> hyper: array<f32>;          // [5]: see Optimiser::hyper
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
    let w = weight[i];
    let g = clipped(gradient[i] * scale[0], p.limit) + p.l2 * w;
    var v = p.momentum * velocity[i] + g;
    velocity[i] = v;
    if p.nesterov == 1u {
        v = g + p.momentum * v;
    }
    weight[i] = hyper[4] * w - hyper[0] * v;
}
