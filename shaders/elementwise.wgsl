// y[s, b, f] = y·x or max(y, x), in place. Where both are equal, their maximum is y.

struct Params {
    steps: u32,
    batch: u32,
    features: u32,
    x_offset: u32,
    x_step: u32,
    x_row: u32,
    x_feature: u32,
    y_offset: u32,
    y_step: u32,
    y_row: u32,
}

override KIND: u32; // 0: product, 1: maximum

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;       // [steps, B, features] by strides
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [steps, B, features] by strides

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let n = linear_index(id, groups);
    if n >= p.steps * p.batch * p.features {
        return;
    }
    let f = n % p.features;
    let row = n / p.features % p.batch;
    let step = n / p.features / p.batch;
    let given = x[p.x_offset + step * p.x_step + row * p.x_row + f * p.x_feature];
    let at = p.y_offset + step * p.y_step + row * p.y_row + f;
    let held = y[at];
    y[at] = select(held * given, select(held, given, given > held), KIND == 1u);
}
