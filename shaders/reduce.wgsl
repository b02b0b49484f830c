// sums[group] = Σ values, or Σ values², of a slice of `per_group` elements. The order of additions is fixed.

struct Params {
    n: u32,
    offset: u32,
    per_group: u32,
    out_offset: u32,
    square: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> values: array<f32>;     // [n] from offset
@group(0) @binding(2) var<storage, read_write> sums: array<f32>; // [slices] from out_offset

var<workgroup> parts: array<f32, 256>;

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let first = group.x * p.per_group;
    let end = min(first + p.per_group, p.n);
    var sum = 0.0;
    for (var i = first + local.x; i < end; i += 256u) {
        let value = values[p.offset + i];
        sum += value * select(1.0, value, p.square == 1u);
    }
    parts[local.x] = sum;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if local.x < half {
            parts[local.x] += parts[local.x + half];
        }
    }
    if local.x == 0u {
        sums[p.out_offset + group.x] = parts[0];
    }
}
