// The gradient of masked_softmax_forward.wgsl's scores, in place: scale·a·(da − Σ a·da), over the keys of a row. Where a weight is 0
// because of a mask, so is the gradient. One workgroup a row.

struct Params {
    rows: u32,
    keys: u32,
    a_offset: u32,
    da_offset: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;        // [rows, keys] from a_offset
@group(0) @binding(2) var<storage, read_write> da: array<f32>; // [rows, keys] from da_offset

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
    let weights = p.a_offset + row * p.keys;
    let gradients = p.da_offset + row * p.keys;
    var own = 0.0;
    for (var j = local.x; j < p.keys; j += 64u) {
        own += a[weights + j] * da[gradients + j];
    }
    let sum = total(local.x, own);
    for (var j = local.x; j < p.keys; j += 64u) {
        da[gradients + j] = p.scale * a[weights + j] * (da[gradients + j] - sum);
    }
}
