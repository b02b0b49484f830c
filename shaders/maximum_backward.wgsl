// Gradient of one input of a maximum: where x is y, it takes all that `rest` has left, and leaves 0 there for later inputs.

struct Params {
    steps: u32,
    batch: u32,
    features: u32,
    x_offset: u32,
    x_step: u32,
    x_row: u32,
    y_offset: u32,
    rest_offset: u32,
    dx_offset: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;          // [steps, B, features] by strides
@group(0) @binding(2) var<storage, read> y: array<f32>;          // [steps, B, features]
@group(0) @binding(3) var<storage, read_write> rest: array<f32>; // [steps, B, features]
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;   // [steps, B, features]

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let n = linear_index(id, groups);
    if n >= p.steps * p.batch * p.features {
        return;
    }
    let row = n / p.features % p.batch;
    let step = n / p.features / p.batch;
    let own = x[p.x_offset + step * p.x_step + row * p.x_row + n % p.features] == y[p.y_offset + n];
    let left = rest[p.rest_offset + n];
    dx[p.dx_offset + n] = select(0.0, left, own);
    rest[p.rest_offset + n] = select(left, 0.0, own);
}
