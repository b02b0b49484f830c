// C[m, n] (+)= Σ_k A[m, k]·B[k, n]
//
// A workgroup computes a tile of ROWS x COLUMNS of C, each thread a block of ROWS/16 x COLUMNS/16 of it (rows and columns 16
// apart, so that neighbouring threads load and store neighbouring columns). Tiles of A and B, DEPTH terms deep, pass through
// workgroup memory; the next ones are loaded into registers while the threads multiply.
// If C has few tiles, several workgroups share one: each sums `part` of the terms, to a part of C of its own.
// The axes m and k are split in two (see kernel/product.rs): rows (t, b) of a sequence have a stride for t, which may
// be negative, and one for b.

override ROWS: u32;      // of a tile of C: 64 or 128
override COLUMNS: u32;   // of a tile of C: 64, or 128 where ROWS is
override DEPTH: u32;     // terms of a tile of A or B: 16, or 8 where COLUMNS is 128 (workgroup memory)
override A_ALONG_K: u32; // 1: neighbouring threads load neighbouring terms of a row of A; 0: rows of a term
override B_ALONG_N: u32; // 1: neighbouring threads load neighbouring columns of a term of B; 0: terms of a column

@group(0) @binding(1) var<storage, read> a: array<f32>;       // [m, k] by strides
@group(0) @binding(2) var<storage, read> b: array<f32>;       // [k, n] by strides
@group(0) @binding(3) var<storage, read_write> c: array<f32>; // [parts, m, n] by strides, columns contiguous

// Tiles of A, [DEPTH, ROWS/4 + 1], and B, [DEPTH, COLUMNS/4 + 1]. An element has four rows (columns) that are 16 apart; rows of
// the tiles are padded, so that threads that store neighbouring terms do not hit one memory bank.
var<workgroup> tiles: array<vec4f, 800>;

const APART = vec4u(0, 16, 32, 48);

// First elements of four rows of A. Rows past the last read the last again; their results are discarded.
fn a_rows(m: u32) -> vec4i {
    let row = min(m + APART, vec4u(p.m - 1u));
    return i32(p.a_offset) + vec4i(
        split(row.x, p.m_split, p.a_m_hi, p.a_m_lo),
        split(row.y, p.m_split, p.a_m_hi, p.a_m_lo),
        split(row.z, p.m_split, p.a_m_hi, p.a_m_lo),
        split(row.w, p.m_split, p.a_m_hi, p.a_m_lo),
    );
}

// First elements of four columns of B, likewise.
fn b_columns(n: u32) -> vec4i {
    return i32(p.b_offset) + vec4i(min(n + APART, vec4u(p.n - 1u))) * p.b_n;
}

fn a_at(at: vec4i) -> vec4f {
    return vec4f(a[at.x], a[at.y], a[at.z], a[at.w]);
}

fn b_at(at: vec4i) -> vec4f {
    return vec4f(b[at.x], b[at.y], b[at.z], b[at.w]);
}

// The element of a tile's row that a thread loads, and its term: (element, term).
fn slot(thread: u32, terms_first: bool) -> vec2u {
    let elements = 256u / DEPTH;
    if terms_first {
        return vec2u(thread / DEPTH, thread % DEPTH);
    }
    return vec2u(thread % elements, thread / elements);
}

// First of the four rows (columns) of an element of a tile's row.
fn first_of(element: u32) -> u32 {
    return element / 16u * 64u + element % 16u;
}

// Four columns of a row of C, 16 apart.
fn store(at: i32, n: u32, sums: vec4f) {
    let column = n + APART;
    var values = sums;
    if p.accumulate == 1u {
        let held = at + vec4i(min(column, vec4u(p.n - 1u)));
        values += vec4f(c[held.x], c[held.y], c[held.z], c[held.w]);
    }
    if column.x < p.n {
        c[at + i32(column.x)] = values.x;
    }
    if column.y < p.n {
        c[at + i32(column.y)] = values.y;
    }
    if column.z < p.n {
        c[at + i32(column.z)] = values.z;
    }
    if column.w < p.n {
        c[at + i32(column.w)] = values.w;
    }
}

fn store_row(part: u32, m: u32, n: u32, sums: vec4f, more: vec4f) {
    if m < p.m {
        let at = i32(p.c_offset + part * p.c_part) + split(m, p.m_split, p.c_m_hi, p.c_m_lo);
        store(at, n, sums);
        if COLUMNS == 128u {
            store(at, n + 64u, more);
        }
    }
}

@compute @workgroup_size(16, 16, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let thread = local.y * 16u + local.x;
    let first_m = group.y * ROWS;
    let first_n = group.x * COLUMNS;
    let first_k = group.z * p.part;
    let end = select(min(p.k, first_k + p.part), p.k, p.part == 0u);

    let a_row = ROWS / 4u + 1u;
    let b_row = COLUMNS / 4u + 1u;
    let b_tile = DEPTH * a_row;
    let a_slot = slot(thread, A_ALONG_K == 1u);
    let b_slot = slot(thread, B_ALONG_N == 0u);
    let a_to = a_slot.y * a_row + a_slot.x;
    let b_to = b_tile + b_slot.y * b_row + b_slot.x;
    let a_begin = a_rows(first_m + first_of(a_slot.x));
    let b_begin = b_columns(first_n + first_of(b_slot.x));
    // 16 terms of 128 rows are two elements a thread.
    let two = ROWS == 128u && DEPTH == 16u;
    var a_begin_64 = vec4i();
    if two {
        a_begin_64 = a_rows(first_m + a_slot.x + 64u);
    }

    // Sums of this thread: of rows 0, 16, ... 112 from its own, columns 0, 16, 32, 48; then of columns 64, 80, 96, 112.
    var s0 = vec4f();
    var s1 = vec4f();
    var s2 = vec4f();
    var s3 = vec4f();
    var s4 = vec4f();
    var s5 = vec4f();
    var s6 = vec4f();
    var s7 = vec4f();
    var t0 = vec4f();
    var t1 = vec4f();
    var t2 = vec4f();
    var t3 = vec4f();
    var t4 = vec4f();
    var t5 = vec4f();
    var t6 = vec4f();
    var t7 = vec4f();

    // Terms past the last are loaded as the last again, and count as 0.
    var at_a = along_k(min(first_k + a_slot.y, end - 1u), p.a_k_hi, p.a_k_lo);
    var at_b = along_k(min(first_k + b_slot.y, end - 1u), p.b_k_hi, p.b_k_lo);
    var next_a = a_at(a_begin + at_a);
    var next_a_64 = vec4f();
    if two {
        next_a_64 = a_at(a_begin_64 + at_a);
    }
    var next_b = b_at(b_begin + at_b);
    for (var k0 = first_k; k0 < end; k0 += DEPTH) {
        if k0 + DEPTH > end {
            next_a = select(vec4f(), next_a, k0 + a_slot.y < end);
            next_a_64 = select(vec4f(), next_a_64, k0 + a_slot.y < end);
            next_b = select(vec4f(), next_b, k0 + b_slot.y < end);
        }
        tiles[a_to] = next_a;
        if two {
            tiles[a_to + 16u] = next_a_64;
        }
        tiles[b_to] = next_b;
        workgroupBarrier();
        // The last turn loads the last term once more: in a branch, compilers would wait for the loads at its end.
        let next = k0 + DEPTH;
        at_a = along_k(min(next + a_slot.y, end - 1u), p.a_k_hi, p.a_k_lo);
        at_b = along_k(min(next + b_slot.y, end - 1u), p.b_k_hi, p.b_k_lo);
        next_a = a_at(a_begin + at_a);
        if two {
            next_a_64 = a_at(a_begin_64 + at_a);
        }
        next_b = b_at(b_begin + at_b);
        for (var k = 0u; k < DEPTH; k++) {
            let rows = tiles[k * a_row + local.y];
            let columns = tiles[b_tile + k * b_row + local.x];
            s0 = fma(vec4f(rows.x), columns, s0);
            s1 = fma(vec4f(rows.y), columns, s1);
            s2 = fma(vec4f(rows.z), columns, s2);
            s3 = fma(vec4f(rows.w), columns, s3);
            if ROWS == 128u {
                let rows_64 = tiles[k * a_row + local.y + 16u];
                s4 = fma(vec4f(rows_64.x), columns, s4);
                s5 = fma(vec4f(rows_64.y), columns, s5);
                s6 = fma(vec4f(rows_64.z), columns, s6);
                s7 = fma(vec4f(rows_64.w), columns, s7);
                if COLUMNS == 128u {
                    let columns_64 = tiles[b_tile + k * b_row + local.x + 16u];
                    t0 = fma(vec4f(rows.x), columns_64, t0);
                    t1 = fma(vec4f(rows.y), columns_64, t1);
                    t2 = fma(vec4f(rows.z), columns_64, t2);
                    t3 = fma(vec4f(rows.w), columns_64, t3);
                    t4 = fma(vec4f(rows_64.x), columns_64, t4);
                    t5 = fma(vec4f(rows_64.y), columns_64, t5);
                    t6 = fma(vec4f(rows_64.z), columns_64, t6);
                    t7 = fma(vec4f(rows_64.w), columns_64, t7);
                }
            }
        }
        workgroupBarrier();
    }

    let m = first_m + local.y;
    let n = first_n + local.x;
    store_row(group.z, m, n, s0, t0);
    store_row(group.z, m + 16u, n, s1, t1);
    store_row(group.z, m + 32u, n, s2, t2);
    store_row(group.z, m + 48u, n, s3, t3);
    if ROWS == 128u {
        store_row(group.z, m + 64u, n, s4, t4);
        store_row(group.z, m + 80u, n, s5, t5);
        store_row(group.z, m + 96u, n, s6, t6);
        store_row(group.z, m + 112u, n, s7, t7);
    }
}
