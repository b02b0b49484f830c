// sums[n] (+)= Σ_row a[row, n], written `copies` times.
// A workgroup sums 16 columns with 16 threads each; the threads' parts are added in a fixed order.

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

var<workgroup> parts: array<f32, 256>; // [16 threads, 16 columns]

@compute @workgroup_size(16, 16, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let column = group.x * 16u + local.x;
    var sum = 0.0;
    if column < p.columns {
        for (var row = local.y; row < p.rows; row += 16u) {
            sum += a[p.a_offset + row * p.columns + column];
        }
    }
    parts[local.y * 16u + local.x] = sum;
    workgroupBarrier();
    if local.y == 0u && column < p.columns {
        var total = 0.0;
        for (var part = 0u; part < 16u; part++) {
            total += parts[part * 16u + local.x];
        }
        for (var copy = 0u; copy < p.copies; copy++) {
            let at = p.out_offset + copy * p.columns + column;
            sums[at] = total + select(0.0, sums[at], p.accumulate == 1u);
        }
    }
}
