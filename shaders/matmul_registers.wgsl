// C[m, n] (+)= Σ_k A[m, k]·B[k, n], like matmul.wgsl, without workgroup memory and by vec4 loads.
//
// A thread computes ROWS rows (8, or 4 or 1 if C has no more) and 8 columns of C; with 8 rows, sixteen loads serve the 256
// products of four terms. For devices whose workgroup memory is no faster than global memory (software). The scheduler takes this
// kernel only where offsets, strides and sizes are multiples of 4 as its loads need them.

override ROWS: u32;      // of a thread: 8, 4, or 1 (with A_ALONG_K)
override A_ALONG_K: u32; // 1: four terms of a row of A lie side by side; 0: four rows of a term
override B_ALONG_N: u32; // 1: four columns of a term of B lie side by side; 0: four terms of a column

@group(0) @binding(1) var<storage, read> a: array<vec4f>;       // [m, k] by strides
@group(0) @binding(2) var<storage, read> b: array<vec4f>;       // [k, n] by strides
@group(0) @binding(3) var<storage, read_write> c: array<vec4f>; // [m, n] by strides, columns contiguous

// First elements of four rows of A. Rows past the last read the last again; their results are discarded.
fn a_begin(m: u32) -> vec4i {
    let last = p.m - 1u;
    return i32(p.a_offset) + vec4i(
        split(min(m, last), p.m_split, p.a_m_hi, p.a_m_lo),
        split(min(m + 1u, last), p.m_split, p.a_m_hi, p.a_m_lo),
        split(min(m + 2u, last), p.m_split, p.a_m_hi, p.a_m_lo),
        split(min(m + 3u, last), p.m_split, p.a_m_hi, p.a_m_lo),
    );
}

// First elements of four columns of B, likewise.
fn b_begin(n: u32) -> vec4i {
    return i32(p.b_offset) + vec4i(min(vec4u(n, n + 1u, n + 2u, n + 3u), vec4u(p.n - 1u))) * p.b_n;
}

// Four terms of four rows: columns are rows of A, their elements terms.
fn a_block(begin: vec4i, k: i32) -> mat4x4f {
    if A_ALONG_K == 1u {
        let at = (begin + k) / 4;
        return mat4x4f(a[at.x], a[at.y], a[at.z], a[at.w]);
    }
    let at = (begin.x + k + vec4i(0, 1, 2, 3) * p.a_k_lo) / 4;
    return transpose(mat4x4f(a[at.x], a[at.y], a[at.z], a[at.w]));
}

// Four terms of four columns: columns are terms, their elements columns of B.
fn b_block(begin: vec4i, k: i32) -> mat4x4f {
    if B_ALONG_N == 1u {
        let at = (begin.x + k + vec4i(0, 1, 2, 3) * p.b_k_lo) / 4;
        return mat4x4f(b[at.x], b[at.y], b[at.z], b[at.w]);
    }
    let at = (begin + k) / 4;
    return transpose(mat4x4f(b[at.x], b[at.y], b[at.z], b[at.w]));
}

// One term of four rows and four columns, if both are contiguous.
fn outer(at_a: i32, at_b: i32) -> mat4x4f {
    let rows = a[at_a / 4];
    let columns = b[at_b / 4];
    return mat4x4f(columns * rows.x, columns * rows.y, columns * rows.z, columns * rows.w);
}

fn store(m: u32, n: u32, sums: vec4f) {
    if m < p.m && n < p.n {
        let at = (i32(p.c_offset + n) + split(m, p.m_split, p.c_m_hi, p.c_m_lo)) / 4;
        c[at] = sums + select(vec4f(), c[at], p.accumulate == 1u);
    }
}

fn store_block(m: u32, n: u32, sums: mat4x4f) {
    store(m, n, sums[0]);
    store(m + 1u, n, sums[1]);
    store(m + 2u, n, sums[2]);
    store(m + 3u, n, sums[3]);
}

@compute @workgroup_size(16, 4, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let m = (group.y * 4u + local.y) * ROWS;
    let n = (group.x * 16u + local.x) * 8u;
    if m >= p.m || n >= p.n {
        return;
    }
    let a0 = a_begin(m);
    let a1 = a_begin(select(m, m + 4u, m + 4u < p.m));
    let b0 = b_begin(n);
    let b1 = b_begin(select(n, n + 4u, n + 4u < p.n));
    var sum00 = mat4x4f(); // columns are rows of C: the first four, of the first four columns
    var sum01 = mat4x4f();
    var sum10 = mat4x4f();
    var sum11 = mat4x4f();
    for (var first = 0u; first < p.k; first += p.k_split) {
        var at_a = i32(first / p.k_split) * p.a_k_hi;
        var at_b = i32(first / p.k_split) * p.b_k_hi;
        let terms = min(p.k_split, p.k - first);
        for (var k = 4u; k <= terms; k += 4u) {
            if ROWS == 1u {
                let row = a[(a0.x + at_a) / 4];
                sum00[0] += b_block(b0, at_b) * row;
                sum01[0] += b_block(b1, at_b) * row;
                at_a += 4 * p.a_k_lo;
                at_b += 4 * p.b_k_lo;
                continue;
            }
            let rows0 = a_block(a0, at_a);
            let columns0 = b_block(b0, at_b);
            let columns1 = b_block(b1, at_b);
            sum00 += columns0 * rows0;
            sum01 += columns1 * rows0;
            if ROWS == 8u {
                let rows1 = a_block(a1, at_a);
                sum10 += columns0 * rows1;
                sum11 += columns1 * rows1;
            }
            at_a += 4 * p.a_k_lo;
            at_b += 4 * p.b_k_lo;
        }
        if A_ALONG_K == 0u && B_ALONG_N == 1u {
            for (var k = terms / 4u * 4u; k < terms; k++) {
                sum00 += outer(a0.x + at_a, b0.x + at_b);
                sum01 += outer(a0.x + at_a, b1.x + at_b);
                if ROWS == 8u {
                    sum10 += outer(a1.x + at_a, b0.x + at_b);
                    sum11 += outer(a1.x + at_a, b1.x + at_b);
                }
                at_a += p.a_k_lo;
                at_b += p.b_k_lo;
            }
        }
    }
    if ROWS == 1u {
        store(m, n, sum00[0]);
        store(m, n + 4u, sum01[0]);
        return;
    }
    store_block(m, n, sum00);
    store_block(m, n + 4u, sum01);
    if ROWS == 8u {
        store_block(m + 4u, n, sum10);
        store_block(m + 4u, n + 4u, sum11);
    }
}
