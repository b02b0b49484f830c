// dx[t, b, f] (+)= from dy[s, b, f] of the windows that hold the time: all of it where the time was the largest, or a share (mean).
// KIND is numbered as in WindowPoolKind (src/kernel/window_pool.rs).

struct Params {
    steps: u32,
    batch: u32,
    features: u32,
    dx_offset: u32,
    time: u32,
    out_steps: u32,
    out_time: u32,
    dy_offset: u32,
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
@group(0) @binding(2) var<storage, read> dy: array<f32>;       // [out_steps, B, features] from dy_offset
@group(0) @binding(3) var<storage, read> at: array<u32>;       // [out_steps, B, features]: the time of the largest
@group(0) @binding(4) var<storage, read_write> dx: array<f32>; // [steps, B, features] from dx_offset

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    let slot = p.batch * p.features;
    if i >= p.steps * slot {
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
    let time = p.time + i / slot;
    let padded = time + left; // counted from the start of the padding
    var sum = 0.0;
    if time < len {
        let past = padded + 1u - min(padded + 1u, p.size);
        let first = max((past + p.stride - 1u) / p.stride, p.out_time);
        for (var s = first; s <= padded / p.stride && s < p.out_time + p.out_steps; s++) {
            let from_ = (s - p.out_time) * slot + i % slot;
            let given = dy[p.dy_offset + from_];
            if KIND == 0u {
                sum += select(0.0, given, at[from_] == time);
            } else {
                let start = i32(s * p.stride) - i32(left);
                let count = min(start + i32(p.size), i32(len)) - max(start, 0);
                sum += given / f32(select(i32(p.size), count, KIND == 1u));
            }
        }
    }
    let to = p.dx_offset + i;
    dx[to] = sum + select(0.0, dx[to], p.accumulate == 1u);
}
