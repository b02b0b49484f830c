// Scales vectors inside a matrix, or inside several, down to at most a norm; one thread a vector.

struct Params {
    vectors: u32,
    length: u32,
    inner: u32,
    outer_stride: u32,
    inner_stride: u32,
    stride: u32,
    limit: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> weight: array<f32>; // vector (o, i): first element o·outer_stride + i·inner_stride

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let vector = linear_index(id, groups);
    if vector >= p.vectors {
        return;
    }
    let first = vector / p.inner * p.outer_stride + vector % p.inner * p.inner_stride;
    var sum = 0.0;
    for (var k = 0u; k < p.length; k++) {
        let w = weight[first + k * p.stride];
        sum += w * w;
    }
    let factor = min(1.0, p.limit / (sqrt(sum) + 1e-7));
    for (var k = 0u; k < p.length; k++) {
        weight[first + k * p.stride] *= factor;
    }
}
