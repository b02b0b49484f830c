// The gradient of norm_forward.wgsl's input, and what the weight's gradient is the sum of: dy·(x − mean) / sqrt(variance + ε).

struct Params {
    rows: u32,
    features: u32,
    x_offset: u32,
    dy_offset: u32,
    dx_offset: u32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weight: array<f32>;        // [features]
@group(0) @binding(2) var<storage, read> x: array<f32>;             // [rows, features] from x_offset
@group(0) @binding(3) var<storage, read> dy: array<f32>;            // [rows, features] from dy_offset
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;      // [rows, features] from dx_offset
@group(0) @binding(5) var<storage, read_write> dweight: array<f32>; // [rows, features], to be summed over rows

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let row = id.y * groups.x * 64u + id.x;
    if row >= p.rows {
        return;
    }
    let at = row * p.features;
    let count = f32(p.features);
    var sum = 0.0;
    for (var f = 0u; f < p.features; f++) {
        sum += x[p.x_offset + at + f];
    }
    let mean = sum / count;
    var squares = 0.0;
    for (var f = 0u; f < p.features; f++) {
        let d = x[p.x_offset + at + f] - mean;
        squares += d * d;
    }
    let scale = inverseSqrt(squares / count + p.epsilon);
    var straight = 0.0; // mean of weight·dy
    var along = 0.0;    // mean of weight·dy·normalised x
    for (var f = 0u; f < p.features; f++) {
        let normal = (x[p.x_offset + at + f] - mean) * scale;
        let d = dy[p.dy_offset + at + f];
        straight += weight[f] * d / count;
        along += weight[f] * d * normal / count;
        dweight[at + f] = d * normal;
    }
    for (var f = 0u; f < p.features; f++) {
        let normal = (x[p.x_offset + at + f] - mean) * scale;
        let d = weight[f] * dy[p.dy_offset + at + f];
        dx[p.dx_offset + at + f] = scale * (d - straight - normal * along);
    }
}
