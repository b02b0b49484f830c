// The gradient of norm_forward.wgsl's input, and the terms of the weight's gradient, dy·(x − mean) / sqrt(variance + ε).
// One workgroup takes a row through all steps and sums these terms over them.

struct Params {
    rows: u32,
    steps: u32,
    features: u32,
    group: u32,
    groups: u32,
    x_offset: u32,
    dy_offset: u32,
    dx_offset: u32,
    epsilon: f32,
}

override ADD: u32; // 1: dweight is added to from the first step on

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weight: array<f32>;        // [groups, features]
@group(0) @binding(2) var<storage, read> x: array<f32>;             // [steps, rows, features] from x_offset
@group(0) @binding(3) var<storage, read> dy: array<f32>;            // [steps, rows, features] from dy_offset
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;      // [steps, rows, features] from dx_offset
@group(0) @binding(5) var<storage, read_write> dweight: array<f32>; // [rows, features], to be summed over rows

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
    let count = f32(p.features);
    let own = row / p.group % p.groups * p.features;
    for (var step = 0u; step < p.steps; step++) {
        let at = (step * p.rows + row) * p.features;
        var sum = 0.0;
        for (var f = local.x; f < p.features; f += 64u) {
            sum += x[p.x_offset + at + f];
        }
        let mean = total(local.x, sum) / count;
        var squares = 0.0;
        for (var f = local.x; f < p.features; f += 64u) {
            let d = x[p.x_offset + at + f] - mean;
            squares += d * d;
        }
        let scale = inverseSqrt(total(local.x, squares) / count + p.epsilon);
        var straight = 0.0; // mean of weight·dy
        var along = 0.0;    // mean of weight·dy·normalised x
        for (var f = local.x; f < p.features; f += 64u) {
            let normal = (x[p.x_offset + at + f] - mean) * scale;
            let d = dy[p.dy_offset + at + f];
            straight += weight[own + f] * d;
            along += weight[own + f] * d * normal;
            let to = row * p.features + f;
            dweight[to] = d * normal + select(0.0, dweight[to], ADD == 1u || step > 0u);
        }
        straight = total(local.x, straight) / count;
        along = total(local.x, along) / count;
        for (var f = local.x; f < p.features; f += 64u) {
            let normal = (x[p.x_offset + at + f] - mean) * scale;
            let d = weight[own + f] * dy[p.dy_offset + at + f];
            dx[p.dx_offset + at + f] = scale * (d - straight - normal * along);
        }
    }
}
