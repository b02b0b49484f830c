// The gradients of both halves of x[r, 2K] from that of their sum (KIND 0), product (1) or mean (2).

struct Params {
    rows: u32,
    width: u32,
    x_offset: u32,
    dy_offset: u32,
    dx_offset: u32,
}

override KIND: u32;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [rows, 2K]
@group(0) @binding(2) var<storage, read> dy: array<f32>;       // [rows, K]
@group(0) @binding(3) var<storage, read_write> dx: array<f32>; // [rows, 2K]

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    if i >= p.rows * p.width {
        return;
    }
    let at = i / p.width * 2u * p.width + i % p.width;
    let d = dy[p.dy_offset + i];
    var factors = vec2f(select(1.0, 0.5, KIND == 2u));
    if KIND == 1u {
        factors = vec2f(x[p.x_offset + at + p.width], x[p.x_offset + at]);
    }
    dx[p.dx_offset + at] = d * factors.x;
    dx[p.dx_offset + at + p.width] = d * factors.y;
}
