// reset_forward.wgsl backward: from the gradient of s = r ⊙ h' to that of r's argument and to its part of the gradient of h'.

struct Params {
    batch: u32,
    directions: u32,
    hidden: u32,
    saved_offset: u32,
    h_offset: u32,
    dg_offset: u32,
    clipped: u32,
    alpha: f32,
    beta: f32,
    clip: f32,
}

override KIND: u32; // of the gates' activation

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> ds: array<f32>;           // [D, B, H]
@group(0) @binding(2) var<storage, read> saved: array<f32>;        // [D, B, H] at saved_offset: r as activations save it
@group(0) @binding(3) var<storage, read> h: array<f32>;            // [D, B, H] at h_offset: h' as products read it
@group(0) @binding(4) var<storage, read_write> dg: array<vec4f>;   // [D, B, H] of 4 columns at dg_offset: r is written
@group(0) @binding(5) var<storage, read_write> dr: array<vec4f>;   // [D, B, H] of 4 columns at dg_offset: r and z, else 0
@group(0) @binding(6) var<storage, read_write> back: array<f32>;   // [D, B, H]: the gradient of h' by way of s
@group(0) @binding(7) var<storage, read_write> sums: array<vec4f>; // [D, B, H] of 4 columns: the bias's gradient, r is added to

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    if i >= p.directions * p.batch * p.hidden {
        return;
    }
    let of_r = saved[p.saved_offset + i];
    let r = restored(KIND, p.alpha, p.beta, of_r);
    let whole = p.clipped == 0u || inside(KIND, p.alpha, p.beta, p.clip, r.slope, of_r);
    let d = ds[i] * h[p.h_offset + i] * select(0.0, r.slope, whole);
    let at = p.dg_offset / 4u + i;
    let gates = vec4f(d, dg[at].yzw);
    dg[at] = gates;
    dr[at] = vec4f(gates.xy, 0.0, 0.0);
    back[i] = ds[i] * r.value;
    sums[i] += vec4f(d, 0.0, 0.0, 0.0);
}
