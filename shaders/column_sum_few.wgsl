// sums[n] (+)= Σ_row a[row, n], written `copies` times, like column_sum.wgsl, with a thread a column, for few rows: the parts of a
// product. Rows are added in their order, four loaded at once.

struct Params {
    rows: u32,
    columns: u32,
    a_offset: u32,
    out_offset: u32,
    copies: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;          // [rows, columns] from a_offset
@group(0) @binding(2) var<storage, read_write> sums: array<f32>; // [copies, columns] from out_offset

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let column = linear_index(id, groups);
    if column >= p.columns {
        return;
    }
    let begin = p.a_offset + column;
    var total = 0.0;
    for (var first = 0u; first < p.rows; first += 4u) {
        let row = first + vec4u(0, 1, 2, 3);
        let at = begin + min(row, vec4u(p.rows - 1u)) * p.columns;
        let values = select(vec4f(), vec4f(a[at.x], a[at.y], a[at.z], a[at.w]), row < vec4u(p.rows));
        total = total + values.x + values.y + values.z + values.w;
    }
    for (var copy = 0u; copy < p.copies; copy++) {
        let at = p.out_offset + copy * p.columns + column;
        sums[at] = total + select(0.0, sums[at], p.accumulate == 1u);
    }
}
