// The mean of each feature over the steps of a batch, or, with the means known, its variance. Rows past the end of their sequence do
// not count. A workgroup takes 16 features with 16 threads each; the threads' parts are added in a fixed order.

struct Params {
    steps: u32,
    batch: u32,
    features: u32,
    x_offset: u32,
    time: u32,
    total_steps: u32,
    accumulate: u32,
}

override VARIANCE: u32; // 1: the variance, 0: the mean, and the number of steps
override RAGGED: u32;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> words: array<u32>;         // [2 + B]: key of random bits, lengths
@group(0) @binding(2) var<storage, read> x: array<f32>;             // [steps, B, features] from x_offset
@group(0) @binding(3) var<storage, read_write> moments: array<f32>; // [1 + 2·features]: number of steps, means, variances

var<workgroup> parts: array<f32, 256>; // [16 threads, 16 features]
var<workgroup> lengths: array<u32, 256>;

@compute @workgroup_size(16, 16, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let f = group.x * 16u + local.x;
    let own = local.y * 16u + local.x;
    var sum = 0.0;
    if f < p.features {
        var mean = 0.0;
        if VARIANCE == 1u {
            mean = moments[1u + f];
        }
        for (var row = local.y; row < p.steps * p.batch; row += 16u) {
            if RAGGED == 1u && p.time + row / p.batch >= words[2u + row % p.batch] {
                continue;
            }
            let d = x[p.x_offset + row * p.features + f] - mean;
            sum += select(d, d * d, VARIANCE == 1u);
        }
    }
    parts[own] = sum;
    var length = 0u;
    if RAGGED == 1u && VARIANCE == 0u {
        for (var row = own; row < p.batch; row += 256u) {
            length += min(words[2u + row], p.total_steps);
        }
    }
    lengths[own] = length;
    workgroupBarrier();
    if local.y == 0u && f < p.features {
        var count = f32(p.batch) * f32(p.total_steps);
        if VARIANCE == 1u {
            count = moments[0];
        } else if RAGGED == 1u {
            var whole = 0u;
            for (var part = 0u; part < 256u; part++) {
                whole += lengths[part];
            }
            count = f32(max(whole, 1u));
        }
        var total = 0.0;
        for (var part = 0u; part < 16u; part++) {
            total += parts[part * 16u + local.x];
        }
        let at = 1u + f + select(0u, p.features, VARIANCE == 1u);
        moments[at] = total / count + select(0.0, moments[at], p.accumulate == 1u);
        if VARIANCE == 0u && f == 0u {
            moments[0] = count;
        }
    }
}
