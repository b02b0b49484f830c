// C[m, n] (+)= Σ_k A[m, k]·B[k, n]
//
// A workgroup computes a 64 x 64 tile of C, each thread a 4 x 4 block of it (rows and columns 16 apart, so that
// neighbouring threads read neighbouring columns). Tiles of A and B, 16 deep, pass through workgroup memory.
// If C has few tiles, several workgroups share one: each sums `part` of the terms, to a part of C of its own.
// The axes m and k are split in two (see kernel/product.rs): rows (t, b) of a sequence have a stride for t, which may
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
    part: u32,
    c_part: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;       // [m, k] by strides
@group(0) @binding(2) var<storage, read> b: array<f32>;       // [k, n] by strides
@group(0) @binding(3) var<storage, read_write> c: array<f32>; // [parts, m, n] by strides, columns contiguous

const TILE = 64u;
const DEPTH = 16u;
const ROW = 65u; // padded, so that a column of threads does not hit one memory bank

var<workgroup> a_tile: array<f32, 1040>; // [DEPTH, ROW]
var<workgroup> b_tile: array<f32, 1040>; // [DEPTH, ROW]

fn split(index: u32, size: u32, hi: i32, lo: i32) -> i32 {
    return i32(index / size) * hi + i32(index % size) * lo;
}

// First element of a row of A.
fn a_begin(m: u32) -> i32 {
    return i32(p.a_offset) + split(m, p.m_split, p.a_m_hi, p.a_m_lo);
}

// A[m, k], or 0 outside the matrix and past the last term.
fn load_a(begin: i32, m: u32, k: u32, end: u32, at_k: i32) -> f32 {
    if m < p.m && k < end {
        return a[begin + at_k];
    }
    return 0.0;
}

// B[k, n], or 0 outside the matrix and past the last term.
fn load_b(k: u32, end: u32, n: u32) -> f32 {
    if k < end && n < p.n {
        return b[i32(p.b_offset) + split(k, p.k_split, p.b_k_hi, p.b_k_lo) + i32(n) * p.b_n];
    }
    return 0.0;
}

fn store(at: i32, n: u32, value: f32) {
    if n < p.n {
        c[at + i32(n)] = value + select(0.0, c[at + i32(n)], p.accumulate == 1u);
    }
}

fn store_row(part: u32, m: u32, n: u32, sum: vec4f) {
    if m < p.m {
        let row = i32(p.c_offset + part * p.c_part) + split(m, p.m_split, p.c_m_hi, p.c_m_lo);
        store(row, n, sum.x);
        store(row, n + 16u, sum.y);
        store(row, n + 32u, sum.z);
        store(row, n + 48u, sum.w);
    }
}

@compute @workgroup_size(16, 16, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let thread = local.y * 16u + local.x;
    let first_m = group.y * TILE;
    let first_n = group.x * TILE;

    // Each thread loads four elements of each tile: of A at k = thread % 16, of B at n = thread % 64. No array is
    // indexed by a variable, so that everything stays in registers.
    let ak = thread % 16u;
    let am = first_m + thread / 16u;
    let begin0 = a_begin(am);
    let begin1 = a_begin(am + 16u);
    let begin2 = a_begin(am + 32u);
    let begin3 = a_begin(am + 48u);
    let a_to = ak * ROW + thread / 16u;
    let bk = thread / 64u;
    let bn = first_n + thread % 64u;
    let b_to = bk * ROW + thread % 64u;

    var sum0 = vec4f(); // columns of this thread's first row
    var sum1 = vec4f();
    var sum2 = vec4f();
    var sum3 = vec4f();
    let first_k = group.z * p.part;
    let end = select(min(p.k, first_k + p.part), p.k, p.part == 0u);
    for (var k0 = first_k; k0 < end; k0 += DEPTH) {
        let k = k0 + ak;
        let at_k = split(k, p.k_split, p.a_k_hi, p.a_k_lo);
        a_tile[a_to] = load_a(begin0, am, k, end, at_k);
        a_tile[a_to + 16u] = load_a(begin1, am + 16u, k, end, at_k);
        a_tile[a_to + 32u] = load_a(begin2, am + 32u, k, end, at_k);
        a_tile[a_to + 48u] = load_a(begin3, am + 48u, k, end, at_k);
        b_tile[b_to] = load_b(k0 + bk, end, bn);
        b_tile[b_to + 4u * ROW] = load_b(k0 + bk + 4u, end, bn);
        b_tile[b_to + 8u * ROW] = load_b(k0 + bk + 8u, end, bn);
        b_tile[b_to + 12u * ROW] = load_b(k0 + bk + 12u, end, bn);
        workgroupBarrier();
        for (var k = 0u; k < min(DEPTH, end - k0); k++) {
            let at = k * ROW + local.y;
            let bt = k * ROW + local.x;
            let columns = vec4f(b_tile[bt], b_tile[bt + 16u], b_tile[bt + 32u], b_tile[bt + 48u]);
            sum0 += a_tile[at] * columns;
            sum1 += a_tile[at + 16u] * columns;
            sum2 += a_tile[at + 32u] * columns;
            sum3 += a_tile[at + 48u] * columns;
        }
        workgroupBarrier();
    }

    let m = first_m + local.y;
    let n = first_n + local.x;
    store_row(group.z, m, n, sum0);
    store_row(group.z, m + 16u, n, sum1);
    store_row(group.z, m + 32u, n, sum2);
    store_row(group.z, m + 48u, n, sum3);
}
