// dx = weight / sqrt(variance + ε) · (dy − mean(dy) − normalised x · mean(dy·normalised x)), with means over the steps of the batch.
// Rows past the end of their sequence do not count in the moments, so theirs is weight / sqrt(variance + ε) · dy.

struct Params {
    steps: u32,
    batch: u32,
    features: u32,
    x_offset: u32,
    dy_offset: u32,
    dx_offset: u32,
    time: u32,
    epsilon: f32,
}

override RAGGED: u32;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> words: array<u32>;    // [2 + B]: key of random bits, lengths
@group(0) @binding(2) var<storage, read> weight: array<f32>;   // [features]
@group(0) @binding(3) var<storage, read> moments: array<f32>;  // [1 + 2·features]: number of steps, means, variances
@group(0) @binding(4) var<storage, read> sums: array<f32>;     // [2, features]: sums of dy·normalised x, and of dy
@group(0) @binding(5) var<storage, read> x: array<f32>;        // [steps, B, features] from x_offset
@group(0) @binding(6) var<storage, read> dy: array<f32>;       // [steps, B, features] from dy_offset
@group(0) @binding(7) var<storage, read_write> dx: array<f32>; // [steps, B, features] from dx_offset

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    if i >= p.steps * p.batch * p.features {
        return;
    }
    let f = i % p.features;
    let row = i / p.features;
    let scale = inverseSqrt(moments[1u + p.features + f] + p.epsilon);
    let normal = (x[p.x_offset + i] - moments[1u + f]) * scale;
    let mean = vec2f(sums[f], sums[p.features + f]) / moments[0];
    var through = mean.y + normal * mean.x;
    if RAGGED == 1u && p.time + row / p.batch >= words[2u + row % p.batch] {
        through = 0.0;
    }
    dx[p.dx_offset + i] = weight[f] * scale * (dy[p.dy_offset + i] - through);
}
