// dst[s, b, f] = src[s, b, f] where the time of step s is before the row's length, else 0.

struct Params {
    steps: u32,
    batch: u32,
    features: u32,
    src_offset: u32,
    src_step: i32,
    src_row: i32,
    dst_offset: u32,
    dst_step: i32,
    dst_row: i32,
    time: u32,
    time_step: i32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> words: array<u32>;     // [2 + B]: key of random bits, lengths
@group(0) @binding(2) var<storage, read> src: array<f32>;       // [steps, B, features] by strides
@group(0) @binding(3) var<storage, read_write> dst: array<f32>; // [steps, B, features] by strides

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    let f = i32(i % p.features);
    let row = i32(i / p.features % p.batch);
    let step = i32(i / p.features / p.batch);
    if step >= i32(p.steps) {
        return;
    }
    let inside = i32(p.time) + step * p.time_step < i32(words[2 + row]);
    let value = src[i32(p.src_offset) + step * p.src_step + row * p.src_row + f];
    dst[i32(p.dst_offset) + step * p.dst_step + row * p.dst_row + f] = select(0.0, value, inside);
}
