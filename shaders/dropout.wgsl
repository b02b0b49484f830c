// dst[t, b, f] = src[t, b, f]·m: m is 0 where the random bits of the index are below the threshold, else the scale.

struct Params {
    steps: u32,
    rows: u32,
    features: u32,
    src_offset: u32,
    src_step: u32,
    src_row: u32,
    dst_offset: u32,
    dst_step: u32,
    dst_row: u32,
    index: u32,
    index_step: u32,
    site: u32,
    threshold: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> words: array<u32>;     // [2]: key of random bits
@group(0) @binding(2) var<storage, read> src: array<f32>;       // [steps, rows, features] by strides
@group(0) @binding(3) var<storage, read_write> dst: array<f32>; // [steps, rows, features] by strides

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    let f = i % p.features;
    let row = i / p.features % p.rows;
    let t = i / p.features / p.rows;
    if t >= p.steps {
        return;
    }
    let counter = vec2u(p.index + t * p.index_step + row * p.features + f, p.site);
    let drop = random_bits(vec2u(words[0], words[1]), counter).x < p.threshold;
    let value = src[p.src_offset + t * p.src_step + row * p.src_row + f];
    dst[p.dst_offset + t * p.dst_step + row * p.dst_row + f] = select(value * p.scale, 0.0, drop);
}
