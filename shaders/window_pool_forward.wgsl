// y[s, b, f] from x[t, b, f] over the times of window s within the row: the largest, or the mean. Called for one chunk of x after
// another. KIND is numbered as in WindowPoolKind (src/kernel/window_pool.rs).

struct Params {
    steps: u32,
    batch: u32,
    features: u32,
    x_offset: u32,
    time: u32,
    out_steps: u32,
    out_time: u32,
    y_offset: u32,
    total_steps: u32,
    size: u32,
    stride: u32,
    left: u32,
    accumulate: u32,
}

override KIND: u32;
override RAGGED: u32;
override SAME: u32; // 1: the padding in front is that of the row's own length

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> words: array<u32>;    // [2 + B]: key of random bits, lengths
@group(0) @binding(2) var<storage, read> x: array<f32>;        // [steps, B, features] from x_offset
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // [out_steps, B, features] from y_offset
@group(0) @binding(4) var<storage, read_write> at: array<u32>; // [out_steps, B, features]: the time of the largest

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    let slot = p.batch * p.features;
    if i >= p.out_steps * slot {
        return;
    }
    var len = p.total_steps;
    if RAGGED == 1u {
        len = min(words[2u + i % slot / p.features], p.total_steps);
    }
    var left = p.left;
    if SAME == 1u {
        left = same_padding(len, p.size, p.stride);
    }
    let start = i32((p.out_time + i / slot) * p.stride) - i32(left);
    let first = max(start, 0);
    let end = min(start + i32(p.size), i32(len));
    let count = f32(select(i32(p.size), end - first, KIND == 1u));
    let to = p.y_offset + i;
    var value = 0.0;
    var best = 0xffffffffu;
    if p.accumulate == 1u {
        value = y[to];
        if KIND == 0u {
            best = at[i];
        }
    }
    for (var t = max(first, i32(p.time)); t < min(end, i32(p.time + p.steps)); t++) {
        let given = x[p.x_offset + (u32(t) - p.time) * slot + i % slot];
        if KIND != 0u {
            value += given / count;
        } else if best == 0xffffffffu || given > value {
            value = given;
            best = u32(t);
        }
    }
    y[to] = value;
    if KIND == 0u {
        at[i] = best;
    }
}
