// The reset gate of a GRU that acts before the recurrent product: r = gate(W·x + R·h' + b), s = r ⊙ h'. R·h' of the gates r and z
// is added to W·x.

struct Params {
    batch: u32,
    directions: u32,
    hidden: u32,
    biases: u32,
    xw_offset: u32,
    h_offset: u32,
    s_offset: u32,
    alpha: f32,
    beta: f32,
    clip: f32,
}

override KIND: u32; // of the gates' activation

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> rh: array<vec4f>;        // [D, B, H] of 4 columns: R·h'
@group(0) @binding(2) var<storage, read> bias: array<vec4f>;      // [D, biases, H] of 4 columns
@group(0) @binding(3) var<storage, read> h: array<f32>;           // [D, B, H] at h_offset: h' as products read it
@group(0) @binding(4) var<storage, read_write> xw: array<vec4f>;  // [D, B, H] of 4 columns at xw_offset: W·x
@group(0) @binding(5) var<storage, read_write> s: array<f32>;     // [D, B, H] at s_offset

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    if i >= p.directions * p.batch * p.hidden {
        return;
    }
    let unit = i % p.hidden;
    let d = i / p.hidden / p.batch;
    var b = 0.0;
    for (var n = 0u; n < p.biases; n++) {
        b += bias[(d * p.biases + n) * p.hidden + unit].x;
    }
    let at = p.xw_offset / 4u + i;
    let sums = xw[at] + vec4f(rh[i].xy, 0.0, 0.0);
    xw[at] = sums;
    s[p.s_offset + i] = activate(KIND, p.alpha, p.beta, clamp(sums.x + b, -p.clip, p.clip)) * h[p.h_offset + i];
}
