// y[r] (+)= weight·(x[r] − mean) / sqrt(variance + ε) (+ bias), over the features of a row; one workgroup a row.
// Rows may have different weights: groups of `group` consecutive rows cycle through `groups` sets.

struct Params {
    rows: u32,
    features: u32,
    group: u32,
    groups: u32,
    x_offset: u32,
    y_offset: u32,
    epsilon: f32,
}

override BIAS: u32; // 1: there is one
override ADD: u32;  // 1: y is added to

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weight: array<f32>;  // [groups, features]
@group(0) @binding(2) var<storage, read> bias: array<f32>;    // [groups, features] where BIAS
@group(0) @binding(3) var<storage, read> x: array<f32>;       // [rows, features] from x_offset
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [rows, features] from y_offset

@compute @workgroup_size(64, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows {
        return;
    }
    let from_ = p.x_offset + row * p.features;
    let own = row / p.group % p.groups * p.features;
    var sum = 0.0;
    for (var f = local.x; f < p.features; f += 64u) {
        sum += x[from_ + f];
    }
    let mean = total(local.x, sum) / f32(p.features);
    var squares = 0.0;
    for (var f = local.x; f < p.features; f += 64u) {
        let d = x[from_ + f] - mean;
        squares += d * d;
    }
    let scale = inverseSqrt(total(local.x, squares) / f32(p.features) + p.epsilon);
    for (var f = local.x; f < p.features; f += 64u) {
        var value = weight[own + f] * (x[from_ + f] - mean) * scale;
        if BIAS == 1u {
            value += bias[own + f];
        }
        let at = p.y_offset + row * p.features + f;
        if ADD == 1u {
            value += y[at];
        }
        y[at] = value;
    }
}
