// a[t, b, j] = e^(scale·s[t, b, j] − m) / Σ e^(scale·s[t, b, ·] − m), in place, over the keys j that query t of row b may attend to, m
// the largest of them; 0 for all other keys. A query past the end of its sequence attends to none. One workgroup a row.

struct Params {
    steps: u32,
    batch: u32,
    keys: u32,
    a_offset: u32,
    time: u32,
    scale: f32,
}

override CAUSAL: u32;         // 1: keys up to the query's own step
override RAGGED_QUERIES: u32; // 1: query sequences have lengths
override RAGGED_KEYS: u32;    // 1: key sequences have lengths

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> query_words: array<u32>; // [2 + B]: key of random bits, lengths, where RAGGED_QUERIES
@group(0) @binding(2) var<storage, read> key_words: array<u32>;   // [2 + B]: the same, where RAGGED_KEYS
@group(0) @binding(3) var<storage, read_write> a: array<f32>;     // [steps, B, keys] from a_offset

// The largest of all threads' values, for all threads.
fn largest(thread: u32, value: f32) -> f32 {
    shares[thread] = value;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread < half {
            shares[thread] = max(shares[thread], shares[thread + half]);
        }
    }
    workgroupBarrier();
    return shares[0];
}

@compute @workgroup_size(64, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.steps * p.batch {
        return;
    }
    let query = p.time + row / p.batch;
    var allowed = p.keys;
    if RAGGED_KEYS == 1u {
        allowed = min(allowed, key_words[2u + row % p.batch]);
    }
    if CAUSAL == 1u {
        allowed = min(allowed, query + 1u);
    }
    if RAGGED_QUERIES == 1u {
        allowed = select(0u, allowed, query < query_words[2u + row % p.batch]);
    }
    let first = p.a_offset + row * p.keys;
    var own = -3.0e38;
    for (var j = local.x; j < allowed; j += 64u) {
        own = max(own, p.scale * a[first + j]);
    }
    let most = largest(local.x, own);
    var sum = 0.0;
    for (var j = local.x; j < allowed; j += 64u) {
        sum += exp(p.scale * a[first + j] - most);
    }
    let all = total(local.x, sum);
    for (var j = local.x; j < p.keys; j += 64u) {
        var weight = 0.0;
        if j < allowed {
            weight = exp(p.scale * a[first + j] - most) / all;
        }
        a[first + j] = weight;
    }
}
