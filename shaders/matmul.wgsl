// C[m, n] (+)= Σ_k A[m, k]·B[k, n]
//
// A workgroup makes a 64 x 64 tile of C, each thread a 4 x 4 block of it (rows and columns 16 apart, so that
// neighbouring threads read neighbouring columns). Tiles of A and B, 16 deep, pass through workgroup memory.
// The axes m and k are split in two (see kernel/params.rs): rows (t, b) of a sequence have a stride for t, which may
// be negative, and one for b.

struct Params {
    m: u32,
    n: u32,
    k: u32,
    accumulate: u32,
    m_split: u32,
    k_split: u32,
    a_offset: u32,
    a_m_hi: i32,
    a_m_lo: i32,
    a_k_hi: i32,
    a_k_lo: i32,
    b_offset: u32,
    b_k_hi: i32,
    b_k_lo: i32,
    b_n: i32,
    c_offset: u32,
    c_m_hi: i32,
    c_m_lo: i32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;       // [m, k] by strides
@group(0) @binding(2) var<storage, read> b: array<f32>;       // [k, n] by strides
@group(0) @binding(3) var<storage, read_write> c: array<f32>; // [m, n] by strides, columns contiguous

const TILE = 64u;
const DEPTH = 16u;
const ROW = 65u; // padded, so that a column of threads does not hit one memory bank

var<workgroup> a_tile: array<f32, 1040>; // [DEPTH, ROW]
var<workgroup> b_tile: array<f32, 1040>; // [DEPTH, ROW]

fn split(index: u32, size: u32, hi: i32, lo: i32) -> i32 {
    return i32(index / size) * hi + i32(index % size) * lo;
}

@compute @workgroup_size(16, 16, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let thread = local.y * 16u + local.x;
    let first_m = group.y * TILE;
    let first_n = group.x * TILE;

    // This thread loads a_tile[k = thread % 16, m = thread / 16 + 16 q] and b_tile[k = thread / 64 + 4 q, n = thread % 64].
    let load_k = thread % 16u;
    var a_row: array<i32, 4>;
    for (var q = 0u; q < 4u; q++) {
        a_row[q] = i32(p.a_offset) + split(first_m + thread / 16u + 16u * q, p.m_split, p.a_m_hi, p.a_m_lo);
    }
    let b_column = i32(p.b_offset) + i32(first_n + thread % 64u) * p.b_n;
    let b_inside = first_n + thread % 64u < p.n;

    var sum: array<vec4f, 4>; // sum[row][column] of this thread's block
    for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
        let ka = k0 + load_k;
        let a_k = split(ka, p.k_split, p.a_k_hi, p.a_k_lo);
        for (var q = 0u; q < 4u; q++) {
            let row = thread / 16u + 16u * q;
            var value = 0.0;
            if ka < p.k && first_m + row < p.m {
                value = a[a_row[q] + a_k];
            }
            a_tile[load_k * ROW + row] = value;
        }
        for (var q = 0u; q < 4u; q++) {
            let row = thread / 64u + 4u * q;
            var value = 0.0;
            if k0 + row < p.k && b_inside {
                value = b[b_column + split(k0 + row, p.k_split, p.b_k_hi, p.b_k_lo)];
            }
            b_tile[row * ROW + thread % 64u] = value;
        }
        workgroupBarrier();
        for (var k = 0u; k < min(DEPTH, p.k - k0); k++) {
            let at = k * ROW + local.y;
            let bt = k * ROW + local.x;
            let columns = vec4f(b_tile[bt], b_tile[bt + 16u], b_tile[bt + 32u], b_tile[bt + 48u]);
            sum[0] += a_tile[at] * columns;
            sum[1] += a_tile[at + 16u] * columns;
            sum[2] += a_tile[at + 32u] * columns;
            sum[3] += a_tile[at + 48u] * columns;
        }
        workgroupBarrier();
    }

    for (var i = 0u; i < 4u; i++) {
        let m = first_m + local.y + 16u * i;
        let row = i32(p.c_offset) + split(m, p.m_split, p.c_m_hi, p.c_m_lo);
        for (var j = 0u; j < 4u; j++) {
            let n = first_n + local.x + 16u * j;
            if m < p.m && n < p.n {
                let at = row + i32(n);
                c[at] = select(0.0, c[at], p.accumulate == 1u) + sum[i][j];
            }
        }
    }
}
