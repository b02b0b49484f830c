// y[b, f] from x[t, b, f] over the times before a row's end: the last, their mean, the largest or their sum. Called for one chunk
// of time after another. KIND is numbered as in PoolKind (src/kernel/pool.rs).

struct Params {
    steps: u32,
    batch: u32,
    features: u32,
    x_offset: u32,
    x_step: u32,
    x_row: u32,
    time: u32,
    total_steps: u32,
}

override KIND: u32;
override RAGGED: u32;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> words: array<u32>;    // [2 + B]: key of random bits, lengths
@group(0) @binding(2) var<storage, read> x: array<f32>;        // [steps, B, features] by strides
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // [B, features]
@group(0) @binding(4) var<storage, read_write> at: array<u32>; // [B, features]: the time that was pooled

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    if i >= p.batch * p.features {
        return;
    }
    let row = i / p.features;
    var len = p.total_steps;
    if RAGGED == 1u {
        len = words[2u + row];
    }
    var value = 0.0;
    var best = 0xffffffffu;
    if p.time > 0u {
        value = y[i];
        best = at[i];
    }
    for (var s = 0u; s < p.steps && p.time + s < len; s++) {
        let given = x[p.x_offset + s * p.x_step + row * p.x_row + i % p.features];
        if KIND == 1u {
            value += given / f32(len);
        } else if KIND == 3u {
            value += given;
        } else if KIND == 0u || best == 0xffffffffu || given > value {
            value = given;
            best = p.time + s;
        }
    }
    y[i] = value;
    at[i] = best;
}
