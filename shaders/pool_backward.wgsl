// dx[t, b, f] from dy[b, f]: all of it at the time that was pooled (last, largest), or, at each time before the row's end, all of
// it (sum) or a share (mean).

struct Params {
    steps: u32,
    batch: u32,
    features: u32,
    dx_offset: u32,
    dy_offset: u32,
    time: u32,
    total_steps: u32,
}

override KIND: u32;
override RAGGED: u32;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> words: array<u32>;    // [2 + B]: key of random bits, lengths
@group(0) @binding(2) var<storage, read> dy: array<f32>;       // [B, features]
@group(0) @binding(3) var<storage, read> at: array<u32>;       // [B, features]: the time that was pooled
@group(0) @binding(4) var<storage, read_write> dx: array<f32>; // [steps, B, features]

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let n = linear_index(id, groups);
    let slot = p.batch * p.features;
    if n >= p.steps * slot {
        return;
    }
    let i = n % slot;
    let time = p.time + n / slot;
    var len = p.total_steps;
    if RAGGED == 1u {
        len = words[2u + i / p.features];
    }
    var factor = 0.0;
    if KIND == 1u {
        factor = select(0.0, 1.0 / f32(max(len, 1u)), time < len);
    } else if KIND == 3u {
        factor = select(0.0, 1.0, time < len);
    } else {
        factor = select(0.0, 1.0, time == at[i]);
    }
    dx[p.dx_offset + n] = factor * dy[p.dy_offset + i];
}
