// C[m, n] (+)= Σ_k A[m, k]·B[k, n] by cooperative matrices of 8 x 8: A and B rounded to f16, sums in f32
//
// A workgroup computes a tile of TILE x TILE of C: each of four subgroups a quarter of it, as 4 x 4 matrices. Tiles of A and B, DEPTH
// terms deep, pass through workgroup memory, where they are rounded and have zeros past the last term; the next ones are loaded into
// registers while the subgroups multiply. Where subgroups are smaller than the device's largest, those past the fourth repeat the
// others' work. Parts and axes are those of matmul.wgsl.

override THREADS: u32;   // of a workgroup: four of the largest subgroups
override DEPTH: u32;     // terms of a tile of A or B: as many as make 16 elements a thread
override A_ALONG_K: u32; // 1: neighbouring threads load neighbouring terms of a row of A; 0: rows of a term
override B_ALONG_N: u32; // 1: neighbouring threads load neighbouring columns of a term of B; 0: terms of a column

alias MatrixA = coop_mat8x8<f16, A>; // [m, k]
alias MatrixB = coop_mat8x8<f16, B>; // [k, n]
alias MatrixC = coop_mat8x8<f32, C>; // [m, n]
const SIDE = 8u;

@group(0) @binding(1) var<storage, read> a: array<f32>;       // [m, k] by strides
@group(0) @binding(2) var<storage, read> b: array<f32>;       // [k, n] by strides
@group(0) @binding(3) var<storage, read_write> c: array<f32>; // [parts, m, n] by strides, columns contiguous

const TILE = 8u * SIDE; // rows and columns of a workgroup's C
const EACH = 16u;       // elements of a tile of A, and of one of B, that a thread loads
const PAD = 8u;         // f16 after each row of a tile, so that rows begin at other memory banks and at multiples of 16 bytes

// Tiles of A, [TILE, DEPTH + PAD], and of B transposed, likewise: lanes of a matrix read their terms side by side.
var<workgroup> tile_a: array<f16, 5120>;
var<workgroup> tile_b: array<f16, 5120>;
// A matrix of each subgroup, on its way to C: [8, SIDE, SIDE].
var<workgroup> results: array<f32, 8u * SIDE * SIDE>;

// Row or column of a tile, and its term, for the j-th load of a thread: neighbouring threads have neighbouring terms, or a thread has
// them and neighbouring threads have neighbouring rows or columns.
fn slot(thread: u32, j: u32, terms_first: bool) -> vec2u {
    if terms_first {
        return vec2u(thread / DEPTH + j * (THREADS / DEPTH), thread % DEPTH);
    }
    let run = min(EACH, DEPTH);
    return vec2u(thread % TILE + j / run * THREADS, thread / TILE * run + j % run);
}

// Its place in the tile.
fn place(at: vec2u) -> u32 {
    return at.x * (DEPTH + PAD) + at.y;
}

@compute @workgroup_size(THREADS, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let a_terms = A_ALONG_K == 1u;
    let b_terms = B_ALONG_N == 0u;
    let first_m = group.y * TILE;
    let first_n = group.x * TILE;
    let first_k = group.z * p.part;
    let end = select(min(p.k, first_k + p.part), p.k, p.part == 0u);

    // First elements of rows of A and columns of B. Those past the last are the last again; their results are discarded.
    var a_begin: array<i32, 16>;
    var b_begin: array<i32, 16>;
    for (var j = 0u; j < EACH; j++) {
        let row = min(first_m + slot(thread, j, a_terms).x, p.m - 1u);
        let column = min(first_n + slot(thread, j, b_terms).x, p.n - 1u);
        a_begin[j] = i32(p.a_offset) + split(row, p.m_split, p.a_m_hi, p.a_m_lo);
        b_begin[j] = i32(p.b_offset) + i32(column) * p.b_n;
    }

    // Terms past the last are loaded as the last again, and count as 0.
    var next_a: array<f32, 16>;
    var next_b: array<f32, 16>;
    for (var j = 0u; j < EACH; j++) {
        let a_term = min(first_k + slot(thread, j, a_terms).y, end - 1u);
        let b_term = min(first_k + slot(thread, j, b_terms).y, end - 1u);
        next_a[j] = a[a_begin[j] + along_k(a_term, p.a_k_hi, p.a_k_lo)];
        next_b[j] = b[b_begin[j] + along_k(b_term, p.b_k_hi, p.b_k_lo)];
    }

    // This subgroup's quarter of C.
    let row = subgroup / 2u % 2u * (4u * SIDE);
    let column = subgroup % 2u * (4u * SIDE);
    var sums: array<MatrixC, 16>; // [4, 4]
    for (var j = 0u; j < 16u; j++) {
        sums[j] = MatrixC();
    }
    for (var k0 = first_k; k0 < end; k0 += DEPTH) {
        for (var j = 0u; j < EACH; j++) {
            let at_a = slot(thread, j, a_terms);
            let at_b = slot(thread, j, b_terms);
            tile_a[place(at_a)] = f16(select(0.0, next_a[j], k0 + at_a.y < end));
            tile_b[place(at_b)] = f16(select(0.0, next_b[j], k0 + at_b.y < end));
        }
        workgroupBarrier();
        // The last turn loads the last terms once more: in a branch, compilers would wait for the loads at its end.
        for (var j = 0u; j < EACH; j++) {
            let a_term = min(k0 + DEPTH + slot(thread, j, a_terms).y, end - 1u);
            let b_term = min(k0 + DEPTH + slot(thread, j, b_terms).y, end - 1u);
            next_a[j] = a[a_begin[j] + along_k(a_term, p.a_k_hi, p.a_k_lo)];
            next_b[j] = b[b_begin[j] + along_k(b_term, p.b_k_hi, p.b_k_lo)];
        }
        for (var k = 0u; k < DEPTH; k += SIDE) {
            var rows: array<MatrixA, 4>;
            for (var i = 0u; i < 4u; i++) {
                rows[i] = coopLoadT<MatrixA>(&tile_a[place(vec2u(row + i * SIDE, k))], DEPTH + PAD);
            }
            for (var j = 0u; j < 4u; j++) {
                let columns = coopLoad<MatrixB>(&tile_b[place(vec2u(column + j * SIDE, k))], DEPTH + PAD);
                for (var i = 0u; i < 4u; i++) {
                    sums[4u * i + j] = coopMultiplyAdd(rows[i], columns, sums[4u * i + j]);
                }
            }
        }
        workgroupBarrier();
    }

    // A matrix of each subgroup at a time.
    let own = min(subgroup, 7u) * (SIDE * SIDE);
    for (var index = 0u; index < 16u; index++) {
        coopStoreT(sums[index], &results[own], SIDE);
        workgroupBarrier();
        for (var at = thread; at < 4u * SIDE * SIDE; at += THREADS) {
            let quarter = at / (SIDE * SIDE);
            let m = first_m + quarter / 2u * (4u * SIDE) + index / 4u * SIDE + at / SIDE % SIDE;
            let n = first_n + quarter % 2u * (4u * SIDE) + index % 4u * SIDE + at % SIDE;
            if m < p.m && n < p.n {
                let to = i32(p.c_offset + group.z * p.c_part + n) + split(m, p.m_split, p.c_m_hi, p.c_m_lo);
                c[to] = results[at] + select(0.0, c[to], p.accumulate == 1u);
            }
        }
        workgroupBarrier();
    }
}
