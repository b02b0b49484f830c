// Sums over rows: dy·normalised x, the gradient of the weight, and dy, that of the bias. A workgroup takes 16 features with 16
// threads each; the threads' parts are added in a fixed order.

struct Params {
    rows: u32,
    features: u32,
    x_offset: u32,
    dy_offset: u32,
    epsilon: f32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> moments: array<f32>;    // [1 + 2·features]: number of steps, means, variances
@group(0) @binding(2) var<storage, read> x: array<f32>;          // [rows, features] from x_offset
@group(0) @binding(3) var<storage, read> dy: array<f32>;         // [rows, features] from dy_offset
@group(0) @binding(4) var<storage, read_write> sums: array<f32>; // [2, features]: dy·normalised x, dy

var<workgroup> along: array<f32, 256>;    // [16 threads, 16 features]
var<workgroup> straight: array<f32, 256>; // [16 threads, 16 features]

@compute @workgroup_size(16, 16, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let f = group.x * 16u + local.x;
    let own = local.y * 16u + local.x;
    var sum = vec2f(0.0);
    if f < p.features {
        let mean = moments[1u + f];
        let scale = inverseSqrt(moments[1u + p.features + f] + p.epsilon);
        for (var row = local.y; row < p.rows; row += 16u) {
            let d = dy[p.dy_offset + row * p.features + f];
            sum += vec2f(d * (x[p.x_offset + row * p.features + f] - mean) * scale, d);
        }
    }
    along[own] = sum.x;
    straight[own] = sum.y;
    workgroupBarrier();
    if local.y == 0u && f < p.features {
        var total = vec2f(0.0);
        for (var part = 0u; part < 16u; part++) {
            total += vec2f(along[part * 16u + local.x], straight[part * 16u + local.x]);
        }
        sums[f] = total.x + select(0.0, sums[f], p.accumulate == 1u);
        sums[p.features + f] = total.y + select(0.0, sums[p.features + f], p.accumulate == 1u);
    }
}
