// Gradient of recurrent weights of heads with few units: for each head, the products of its hidden units with the gradients of its
// gates, summed over steps and rows. A thread computes one weight; neighbouring threads read neighbouring gradients.

struct Params {
    steps: u32,
    batch: u32,
    heads: u32,
    units: u32,
    accumulate: u32,
    h_offset: u32,
    h_step: u32,
    h_row: u32,
    dg_offset: u32,
    dg_step: u32,
    dr_offset: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> h: array<f32>;        // [steps, B, K] by strides
@group(0) @binding(2) var<storage, read> dg: array<f32>;       // [steps, B, 4H], steps by stride
@group(0) @binding(3) var<storage, read_write> dr: array<f32>; // [units, 4H]

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let index = linear_index(id, groups);
    let columns = 4u * p.heads * p.units;
    if index >= p.units * columns {
        return;
    }
    let column = index % columns;
    let unit = column / (4u * p.units) * p.units + index / columns; // that the weight comes from
    var sum = 0.0;
    if p.accumulate == 1u {
        sum = dr[p.dr_offset + index];
    }
    for (var s = 0u; s < p.steps; s++) {
        for (var b = 0u; b < p.batch; b++) {
            let state = h[p.h_offset + s * p.h_step + b * p.h_row + unit];
            sum += state * dg[p.dg_offset + s * p.dg_step + b * columns + column];
        }
    }
    dr[p.dr_offset + index] = sum;
}
