// running += momentum·(moment − running), of means and variances; the variance of N steps is multiplied by N / (N − 1) if `unbiased`.

struct Params {
    features: u32,
    momentum: f32,
    unbiased: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> moments: array<f32>;        // [1 + 2·features]: number of steps, means, variances
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;     // [features]
@group(0) @binding(3) var<storage, read_write> variance: array<f32>; // [features]

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let f = linear_index(id, groups);
    if f >= p.features {
        return;
    }
    let count = moments[0];
    var factor = 1.0; // the variance of a single step is 0 either way
    if p.unbiased == 1u && count > 1.0 {
        factor = count / (count - 1.0);
    }
    mean[f] += p.momentum * (moments[1u + f] - mean[f]);
    variance[f] += p.momentum * (moments[1u + p.features + f] * factor - variance[f]);
}
