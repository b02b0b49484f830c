// dst[k] = src[2k] and src[2k + 1] as f16, the first in the lower half. WGSL has these conversions on every device.

struct Params {
    n: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> src: array<vec2f>;     // [n] pairs
@group(0) @binding(2) var<storage, read_write> dst: array<u32>; // [n] pairs

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    if i < p.n {
        dst[i] = pack2x16float(src[i]);
    }
}
