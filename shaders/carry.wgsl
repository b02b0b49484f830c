// dst[d, b, f] (+)= src[d, b, f] in rows that are past the end of their sequence at a step's time; other rows stay unchanged.

struct Params {
    batch: u32,
    directions: u32,
    features: u32,
    src_offset: u32,
    dst_offset: u32,
    step: u32,
    total_steps: u32,
    backwards: u32,
    add: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> words: array<u32>;     // [2 + B]: key of random bits, lengths
@group(0) @binding(2) var<storage, read> src: array<f32>;       // [D, B, features] at src_offset
@group(0) @binding(3) var<storage, read_write> dst: array<f32>; // [D, B, features] at dst_offset

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    let row = i / p.features; // d·B + b
    if row >= p.directions * p.batch {
        return;
    }
    let time = select(p.step, p.total_steps - 1u - p.step, row >= p.batch || p.backwards == 1u);
    let before = dst[p.dst_offset + i];
    let after = src[p.src_offset + i] + select(0.0, before, p.add == 1u);
    dst[p.dst_offset + i] = select(after, before, time < words[2u + row % p.batch]);
}
