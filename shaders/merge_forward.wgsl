// y[r, k] from the two halves of x[r, 2K]: their sum (KIND 0), product (1) or mean (2).

struct Params {
    rows: u32,
    width: u32,
    x_offset: u32,
    y_offset: u32,
}

override KIND: u32;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;       // [rows, 2K]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [rows, K]

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups);
    if i >= p.rows * p.width {
        return;
    }
    let at = p.x_offset + i / p.width * 2u * p.width + i % p.width;
    let one = x[at];
    let other = x[at + p.width];
    y[p.y_offset + i] = select(select(one + other, one * other, KIND == 1u), 0.5 * (one + other), KIND == 2u);
}
