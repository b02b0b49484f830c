// dst[i] = src[i], or dst[i] += src[i], over a block [n0, n1, n2, n3] with a stride for each axis on each side.

struct Params {
    n0: u32,
    n1: u32,
    n2: u32,
    n3: u32,
    src_offset: u32,
    src_0: i32,
    src_1: i32,
    src_2: i32,
    src_3: i32,
    dst_offset: u32,
    dst_0: i32,
    dst_1: i32,
    dst_2: i32,
    dst_3: i32,
    add: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> src: array<f32>;       // [n0, n1, n2, n3] by strides
@group(0) @binding(2) var<storage, read_write> dst: array<f32>; // [n0, n1, n2, n3] by strides

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    var rest = linear_index(id, groups);
    let i3 = i32(rest % p.n3);
    rest /= p.n3;
    let i2 = i32(rest % p.n2);
    rest /= p.n2;
    let i1 = i32(rest % p.n1);
    let i0 = i32(rest / p.n1);
    if i0 >= i32(p.n0) {
        return;
    }
    let from_ = i32(p.src_offset) + i0 * p.src_0 + i1 * p.src_1 + i2 * p.src_2 + i3 * p.src_3;
    let to = i32(p.dst_offset) + i0 * p.dst_0 + i1 * p.dst_1 + i2 * p.dst_2 + i3 * p.dst_3;
    dst[to] = src[from_] + select(0.0, dst[to], p.add == 1u);
}
