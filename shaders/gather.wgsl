// dst[t, b, f] = src[at[1 + b], at[0] + step + t, f]: a batch by the sequences' indices, in the order of time.

struct Params {
    steps: u32,
    batch: u32,
    features: u32,
    sequences: u32,
    src_steps: u32,
    step: u32,
    dst_offset: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> at: array<u32>;        // [1 + B]: first step, sequences
@group(0) @binding(2) var<storage, read> src: array<f32>;       // [sequences, src_steps, features]
@group(0) @binding(3) var<storage, read_write> dst: array<f32>; // [steps, B, features] from dst_offset

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    let step = i / p.features / p.batch;
    if step >= p.steps {
        return;
    }
    // The host chose them; they are bounded because what a buffer holds must not lead outside another.
    let n = min(at[1u + i / p.features % p.batch], p.sequences - 1u);
    let t = min(min(at[0], p.src_steps) + p.step + step, p.src_steps - 1u);
    dst[p.dst_offset + i] = src[(n * p.src_steps + t) * p.features + i % p.features];
}
