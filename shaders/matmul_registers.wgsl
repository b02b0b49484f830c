// C[m, n] (+)= Σ_k A[m, k]·B[k, n], like matmul.wgsl, without workgroup memory.
//
// A thread makes 8 rows and 8 columns of C (columns 16 apart, so that neighbouring threads read neighbouring ones): 16
// loads serve 64 products. For devices where workgroup memory is no faster than any other (software), and for products of
// few rows, whose tiles would be mostly empty.

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

const ROWS = 8u;     // of a thread
const COLUMNS = 16u; // threads side by side

fn split(index: u32, size: u32, hi: i32, lo: i32) -> i32 {
    return i32(index / size) * hi + i32(index % size) * lo;
}

// Where four rows of A begin; rows past the last read it again and are thrown away.
fn a_begin(m: u32) -> vec4i {
    let last = p.m - 1u;
    return i32(p.a_offset) + vec4i(
        split(min(m, last), p.m_split, p.a_m_hi, p.a_m_lo),
        split(min(m + 1u, last), p.m_split, p.a_m_hi, p.a_m_lo),
        split(min(m + 2u, last), p.m_split, p.a_m_hi, p.a_m_lo),
        split(min(m + 3u, last), p.m_split, p.a_m_hi, p.a_m_lo),
    );
}

// Where four columns of B begin, likewise.
fn b_begin(n: u32) -> vec4i {
    let columns = min(vec4u(n, n + COLUMNS, n + 2u * COLUMNS, n + 3u * COLUMNS), vec4u(p.n - 1u));
    return i32(p.b_offset) + vec4i(columns) * p.b_n;
}

fn load_a(at: vec4i) -> vec4f {
    return vec4f(a[at.x], a[at.y], a[at.z], a[at.w]);
}

fn load_b(at: vec4i) -> vec4f {
    return vec4f(b[at.x], b[at.y], b[at.z], b[at.w]);
}

// Columns of the matrix are rows of C.
fn outer(columns: vec4f, rows: vec4f) -> mat4x4f {
    return mat4x4f(columns * rows.x, columns * rows.y, columns * rows.z, columns * rows.w);
}

fn store(at: i32, n: u32, value: f32) {
    if n < p.n {
        c[at + i32(n)] = value + select(0.0, c[at + i32(n)], p.accumulate == 1u);
    }
}

fn store_row(m: u32, n: u32, sum: vec4f) {
    if m < p.m {
        let row = i32(p.c_offset) + split(m, p.m_split, p.c_m_hi, p.c_m_lo);
        store(row, n, sum.x);
        store(row, n + COLUMNS, sum.y);
        store(row, n + 2u * COLUMNS, sum.z);
        store(row, n + 3u * COLUMNS, sum.w);
    }
}

fn store_block(m: u32, n: u32, sums: mat4x4f) {
    store_row(m, n, sums[0]);
    store_row(m + 1u, n, sums[1]);
    store_row(m + 2u, n, sums[2]);
    store_row(m + 3u, n, sums[3]);
}

@compute @workgroup_size(16, 4, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let m = (group.y * 4u + local.y) * ROWS;
    let n = group.x * 8u * COLUMNS + local.x;
    if m >= p.m || n >= p.n {
        return;
    }
    let a0 = a_begin(m);
    let a1 = a_begin(m + 4u);
    let b0 = b_begin(n);
    let b1 = b_begin(n + 4u * COLUMNS);
    var sum00 = mat4x4f(); // first four rows and columns
    var sum01 = mat4x4f();
    var sum10 = mat4x4f();
    var sum11 = mat4x4f();
    for (var first = 0u; first < p.k; first += p.k_split) {
        var at_a = i32(first / p.k_split) * p.a_k_hi;
        var at_b = i32(first / p.k_split) * p.b_k_hi;
        let terms = min(p.k_split, p.k - first);
        for (var k = 0u; k < terms; k++) {
            let rows0 = load_a(a0 + at_a);
            let rows1 = load_a(a1 + at_a);
            let columns0 = load_b(b0 + at_b);
            let columns1 = load_b(b1 + at_b);
            sum00 += outer(columns0, rows0);
            sum01 += outer(columns1, rows0);
            sum10 += outer(columns0, rows1);
            sum11 += outer(columns1, rows1);
            at_a += p.a_k_lo;
            at_b += p.b_k_lo;
        }
    }
    store_block(m, n, sum00);
    store_block(m, n + 4u * COLUMNS, sum01);
    store_block(m + 4u, n, sum10);
    store_block(m + 4u, n + 4u * COLUMNS, sum11);
}
