// C_b[m, n] (+)= Σ_k A_b[m, k]·B_b[k, n], for each b of a batch.
//
// A workgroup computes a 32 x 32 tile of one C_b, each thread a 4 x 4 block of it (rows and columns 8 apart, so that
// neighbouring threads read neighbouring columns). Tiles of A and B, 16 deep, pass through workgroup memory. Each tile is loaded along
// the axis on which its elements lie side by side.

struct Params {
    batch: u32,
    m: u32,
    n: u32,
    k: u32,
    accumulate: u32,
    a_offset: u32,
    a_b: i32,
    a_m: i32,
    a_k: i32,
    b_offset: u32,
    b_b: i32,
    b_k: i32,
    b_n: i32,
    c_offset: u32,
    c_b: i32,
    c_m: i32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;       // [batch, m, k] by strides
@group(0) @binding(2) var<storage, read> b: array<f32>;       // [batch, k, n] by strides
@group(0) @binding(3) var<storage, read_write> c: array<f32>; // [batch, m, n] by strides, columns contiguous

const TILE = 32u;
const DEPTH = 16u;
const ROW = 33u; // padded, so that a column of threads does not hit one memory bank

var<workgroup> a_tile: array<f32, 528>; // [DEPTH, ROW]
var<workgroup> b_tile: array<f32, 528>; // [DEPTH, ROW]

fn store(at: i32, n: u32, value: f32) {
    if n < p.n {
        c[at + i32(n)] = value + select(0.0, c[at + i32(n)], p.accumulate == 1u);
    }
}

fn store_row(begin: i32, m: u32, n: u32, sum: vec4f) {
    if m < p.m {
        let row = begin + i32(m) * p.c_m;
        store(row, n, sum.x);
        store(row, n + 8u, sum.y);
        store(row, n + 16u, sum.z);
        store(row, n + 24u, sum.w);
    }
}

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let thread = local.y * 8u + local.x;
    let first_m = group.y * TILE;
    let first_n = group.x * TILE;
    let a_begin = i32(p.a_offset) + i32(group.z) * p.a_b;
    let b_begin = i32(p.b_offset) + i32(group.z) * p.b_b;

    var sum0 = vec4f(); // columns of this thread's first row
    var sum1 = vec4f();
    var sum2 = vec4f();
    var sum3 = vec4f();
    for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
        for (var e = thread; e < TILE * DEPTH; e += 64u) {
            let a_depth = select(e / TILE, e % DEPTH, p.a_k == 1);
            let a_side = select(e % TILE, e / DEPTH, p.a_k == 1);
            var value = 0.0;
            if first_m + a_side < p.m && k0 + a_depth < p.k {
                value = a[a_begin + i32(first_m + a_side) * p.a_m + i32(k0 + a_depth) * p.a_k];
            }
            a_tile[a_depth * ROW + a_side] = value;
            let b_depth = select(e / TILE, e % DEPTH, p.b_k == 1);
            let b_side = select(e % TILE, e / DEPTH, p.b_k == 1);
            value = 0.0;
            if first_n + b_side < p.n && k0 + b_depth < p.k {
                value = b[b_begin + i32(k0 + b_depth) * p.b_k + i32(first_n + b_side) * p.b_n];
            }
            b_tile[b_depth * ROW + b_side] = value;
        }
        workgroupBarrier();
        for (var k = 0u; k < min(DEPTH, p.k - k0); k++) {
            let at = k * ROW + local.y;
            let bt = k * ROW + local.x;
            let columns = vec4f(b_tile[bt], b_tile[bt + 8u], b_tile[bt + 16u], b_tile[bt + 24u]);
            sum0 += a_tile[at] * columns;
            sum1 += a_tile[at + 8u] * columns;
            sum2 += a_tile[at + 16u] * columns;
            sum3 += a_tile[at + 24u] * columns;
        }
        workgroupBarrier();
    }

    let c_begin = i32(p.c_offset) + i32(group.z) * p.c_b;
    let m = first_m + local.y;
    let n = first_n + local.x;
    store_row(c_begin, m, n, sum0);
    store_row(c_begin, m + 8u, n, sum1);
    store_row(c_begin, m + 16u, n, sum2);
    store_row(c_begin, m + 24u, n, sum3);
}
