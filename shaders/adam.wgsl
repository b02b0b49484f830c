// Adam (Kingma and Ba 2015, algorithm 1), Nadam, which also steps along the gradient itself, and RMSprop, which steps along the
// gradient alone and has no mean of gradients. Bias corrections are folded into the numbers of `hyper`, which
// the host computes in f64 for each step: 1 - 0.999^t has too few digits in f32.

struct Params {
    n: u32,
    means: u32, // 1: there is a mean of gradients
    beta1: f32,
    take1: f32, // 1 - beta1, rounded once
    beta2: f32,
    take2: f32, // 1 - beta2
    limit: f32,
    l2: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> hyper: array<f32>;        // [5]: see Optimiser::hyper
@group(0) @binding(2) var<storage, read> scale: array<f32>;        // [2]: factor, norm
@group(0) @binding(3) var<storage, read> gradient: array<f32>;     // [n]
@group(0) @binding(4) var<storage, read_write> weight: array<f32>; // [n]
@group(0) @binding(5) var<storage, read_write> m: array<f32>;      // [n] mean of gradients, if there is one
@group(0) @binding(6) var<storage, read_write> v: array<f32>;      // [n] mean of squares

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    if i >= p.n {
        return;
    }
    let w = weight[i];
    let g = clipped(gradient[i] * scale[0], p.limit) + p.l2 * w;
    let square = p.beta2 * v[i] + p.take2 * g * g;
    v[i] = square;
    var step = hyper[1] * g;
    if p.means == 1u {
        let mean = p.beta1 * m[i] + p.take1 * g;
        m[i] = mean;
        step += hyper[0] * mean;
    }
    weight[i] = hyper[4] * w - step / (sqrt(square + hyper[3]) + hyper[2]);
}
