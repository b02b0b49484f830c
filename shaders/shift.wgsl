// dst[s, b, f] (+)= src[t, b, f] at t = s + shift + by_row · the row's own part, both counted in time; 0 where the source has no
// such step. ROW and LIMIT are numbered as in RowShift and ShiftLimit (src/kernel/shift.rs).

struct Params {
    steps: u32,
    batch: u32,
    features: u32,
    src_offset: u32,
    src_steps: u32,
    src_time: i32,
    dst_offset: u32,
    time: i32,
    shift: i32,
    by_row: i32,
    window: u32,
    stride: u32,
    first_step: u32,
    total_steps: u32,
    accumulate: u32,
}

override ROW: u32;
override LIMIT: u32;
override RAGGED: u32;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> words: array<u32>;     // [2 + B]: key of random bits, lengths
@group(0) @binding(2) var<storage, read> src: array<f32>;       // [src_steps, B, features] from src_offset
@group(0) @binding(3) var<storage, read_write> dst: array<f32>; // [steps, B, features] from dst_offset

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    let slot = p.batch * p.features;
    if i >= p.steps * slot {
        return;
    }
    var len = p.total_steps;
    if RAGGED == 1u {
        let all = words[2u + i % slot / p.features];
        len = min(all - min(all, p.first_step), p.total_steps);
    }
    var own = 0u;
    if ROW == 1u {
        own = same_padding(len, p.window, p.stride);
    } else if ROW == 2u {
        own = len;
    }
    let to_time = p.time + i32(i / slot);
    let time = to_time + p.shift + p.by_row * i32(own);
    var within = true;
    if LIMIT == 1u {
        within = time >= 0 && time < i32(len);
    } else if LIMIT == 2u {
        within = to_time >= 0 && to_time < i32(len);
    }
    let step = time - p.src_time;
    var value = 0.0;
    if within && step >= 0 && step < i32(p.src_steps) {
        value = src[p.src_offset + u32(step) * slot + i % slot];
    } else if p.accumulate == 1u {
        return;
    }
    let to = p.dst_offset + i;
    dst[to] = value + select(0.0, dst[to], p.accumulate == 1u);
}
