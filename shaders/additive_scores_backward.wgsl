// dx[i, b, f] (+)= scale[f]·Σ_j ds[i, b, j]·(1 − tanh²(x[i, b, f] + y[j, b, f])): gradient of additive attention's queries x with keys
// y, or of its keys x with queries y. PARTS: parts[i, b, f] (+)= Σ_j ds[i, b, j]·tanh(x + y), whose sum over i and b is that of
// scale. A thread computes one element; neighbouring threads read neighbouring features.

struct Params {
    steps: u32,
    batch: u32,
    others: u32,
    features: u32,
    accumulate: u32,
    x_offset: u32,
    x_step: u32,
    x_row: u32,
    y_offset: u32,
    y_step: u32,
    y_row: u32,
    ds_offset: u32,
    ds_step: u32,
    ds_row: u32,
    ds_other: u32,
    dx_offset: u32,
    parts_offset: u32,
}

override PARTS: u32;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;           // [steps, B, features] by strides
@group(0) @binding(2) var<storage, read> y: array<f32>;           // [others, B, features] by strides
@group(0) @binding(3) var<storage, read> ds: array<f32>;          // [steps, B, others] by strides
@group(0) @binding(4) var<storage, read> scale: array<f32>;       // [features]
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;    // [steps, B, features] from dx_offset
@group(0) @binding(6) var<storage, read_write> parts: array<f32>; // [steps, B, features] from parts_offset, where PARTS

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let n = linear_index(id, groups);
    if n >= p.steps * p.batch * p.features {
        return;
    }
    let f = n % p.features;
    let row = n / p.features % p.batch;
    let step = n / p.features / p.batch;
    let own = x[p.x_offset + step * p.x_step + row * p.x_row + f];
    var at_y = p.y_offset + row * p.y_row + f;
    var at_ds = p.ds_offset + step * p.ds_step + row * p.ds_row;
    var sums = vec2f();
    for (var j = 0u; j < p.others; j++) {
        sums += ds[at_ds] * tanh_and_slope(own + y[at_y]);
        at_y += p.y_step;
        at_ds += p.ds_other;
    }
    let to = p.dx_offset + n;
    dx[to] = scale[f] * sums.y + select(0.0, dx[to], p.accumulate == 1u);
    if PARTS == 1u {
        let part = p.parts_offset + n;
        parts[part] = sums.x + select(0.0, parts[part], p.accumulate == 1u);
    }
}
