// s[t, b, j] = Σ_f scale[f]·tanh(q[t, b, f] + k[j, b, f]): scores of additive attention.
// A workgroup computes 16 x 16 scores of a row, a thread each; 16 features of their queries and keys at a time pass through workgroup
// memory.

struct Params {
    steps: u32,
    batch: u32,
    keys: u32,
    features: u32,
    q_offset: u32,
    q_step: u32,
    q_row: u32,
    k_offset: u32,
    k_step: u32,
    k_row: u32,
    s_offset: u32,
    s_step: u32,
    s_row: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;       // [steps, B, features] by strides
@group(0) @binding(2) var<storage, read> k: array<f32>;       // [keys, B, features] by strides
@group(0) @binding(3) var<storage, read> scale: array<f32>;   // [features]
@group(0) @binding(4) var<storage, read_write> s: array<f32>; // [steps, B, keys] by strides, keys contiguous

const SIDE = 16u;
const ROW = 17u; // padded, so that a column of threads does not hit one memory bank

var<workgroup> q_tile: array<f32, 272>;   // [16 queries, ROW]
var<workgroup> k_tile: array<f32, 272>;   // [16 keys, ROW]
var<workgroup> scale_tile: array<f32, 16>;

@compute @workgroup_size(16, 16, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let query = group.y * SIDE + local.y;
    let key = group.x * SIDE + local.x;
    let key_loaded = group.x * SIDE + local.y;
    let q_begin = p.q_offset + query * p.q_step + group.z * p.q_row;
    let k_begin = p.k_offset + key_loaded * p.k_step + group.z * p.k_row;
    var sum = 0.0;
    for (var f0 = 0u; f0 < p.features; f0 += SIDE) {
        let f = f0 + local.x;
        var q_value = 0.0;
        if query < p.steps && f < p.features {
            q_value = q[q_begin + f];
        }
        var k_value = 0.0;
        if key_loaded < p.keys && f < p.features {
            k_value = k[k_begin + f];
        }
        q_tile[local.y * ROW + local.x] = q_value;
        k_tile[local.y * ROW + local.x] = k_value;
        if local.y == 0u && f < p.features {
            scale_tile[local.x] = scale[f];
        }
        workgroupBarrier();
        for (var i = 0u; i < min(SIDE, p.features - f0); i++) {
            sum += scale_tile[i] * safe_tanh(q_tile[local.y * ROW + i] + k_tile[local.x * ROW + i]);
        }
        workgroupBarrier();
    }
    if query < p.steps && key < p.keys {
        s[p.s_offset + query * p.s_step + group.z * p.s_row + key] = sum;
    }
}
