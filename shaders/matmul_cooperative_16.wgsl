// C[m, n] (+)= Σ_k A[m, k]·B[k, n] by cooperative matrices of 16 x 16: A and B rounded to f16, sums in f32. Terms of A lie side by side, and
// terms or columns of B; all sizes and strides are multiples of 4.
//
// A workgroup computes a tile of TILE x TILE of C: each of four subgroups a quarter of it, as 2 x 2 matrices. Tiles of A and B, DEPTH
// terms deep, pass through workgroup memory, where they are rounded and have zeros past the last term; the next ones are loaded into
// registers, four numbers at once, while the subgroups multiply. Where subgroups are smaller than the device's largest, those past the
// fourth repeat the others' work. Parts and axes are those of matmul.wgsl.

override THREADS: u32;   // of a workgroup: four of the largest subgroups, 128 or 256
override B_ALONG_N: u32; // 1: a load brings four columns of a term of B; 0: four terms of a column

alias MatrixA = coop_mat16x16<f16, A>; // [m, k]
alias MatrixB = coop_mat16x16<f16, B>; // [k, n]
alias MatrixC = coop_mat16x16<f32, C>; // [m, n]
const SIDE = 16u;

@group(0) @binding(1) var<storage, read> a: array<vec4f>;     // [m, k/4] by strides
@group(0) @binding(2) var<storage, read> b: array<vec4f>;     // [k, n/4] or [k/4, n] by strides
@group(0) @binding(3) var<storage, read_write> c: array<f32>; // [parts, m, n] by strides, columns contiguous

const TILE = 64u;   // rows and columns of a workgroup's C
const DEPTH = 32u;  // terms of a tile of A or B
const FOURS = 512u; // of a tile of A, and of one of B
// Rows of tiles end with 8 f16 that nobody reads, so that rows begin at other memory banks and at multiples of 16 bytes.
const TERMS = DEPTH + 8u;
const COLUMNS = TILE + 8u;

var<workgroup> tile_a: array<f16, TILE * TERMS>; // [TILE, TERMS]
var<workgroup> tile_b: array<f16, TILE * TERMS>; // [DEPTH, COLUMNS], or [TILE, TERMS] where terms of B lie side by side
// A matrix of each subgroup, on its way to C: [4, SIDE, SIDE].
var<workgroup> results: array<f32, 4u * SIDE * SIDE>;

// A thread's fours of a tile: up to four, every THREADS-th.
struct Fours {
    v0: vec4f,
    v1: vec4f,
    v2: vec4f,
    v3: vec4f,
}

// The thread's n-th four, of all FOURS.
fn four_of(thread: u32, n: u32) -> u32 {
    return (thread + n * THREADS) % FOURS;
}

// A row of A is loaded by eight neighbouring threads. Rows past the last are the last again; their results are discarded.
fn a_at(first_m: u32, k0: u32, end: u32, four: u32) -> vec4f {
    let row = min(first_m + four / 8u, p.m - 1u);
    let term = k0 + 4u * (four % 8u);
    let at = i32(p.a_offset) + split(row, p.m_split, p.a_m_hi, p.a_m_lo) + along_k(min(term, end - 4u), p.a_k_hi, p.a_k_lo);
    return select(vec4f(), a[at / 4], term < end);
}

fn b_at(first_n: u32, k0: u32, end: u32, four: u32) -> vec4f {
    var column = min(first_n + 4u * (four % 16u), p.n - 4u);
    var term = k0 + four / 16u;
    var last = end - 1u;
    if B_ALONG_N == 0u {
        column = min(first_n + four / 8u, p.n - 1u);
        term = k0 + 4u * (four % 8u);
        last = end - 4u;
    }
    let at = i32(p.b_offset) + along_k(min(term, last), p.b_k_hi, p.b_k_lo) + i32(column) * p.b_n;
    return select(vec4f(), b[at / 4], term < end);
}

fn load_a(thread: u32, first_m: u32, k0: u32, end: u32) -> Fours {
    var fours: Fours;
    fours.v0 = a_at(first_m, k0, end, four_of(thread, 0u));
    fours.v1 = a_at(first_m, k0, end, four_of(thread, 1u));
    if 2u * THREADS < FOURS {
        fours.v2 = a_at(first_m, k0, end, four_of(thread, 2u));
        fours.v3 = a_at(first_m, k0, end, four_of(thread, 3u));
    }
    return fours;
}

fn load_b(thread: u32, first_n: u32, k0: u32, end: u32) -> Fours {
    var fours: Fours;
    fours.v0 = b_at(first_n, k0, end, four_of(thread, 0u));
    fours.v1 = b_at(first_n, k0, end, four_of(thread, 1u));
    if 2u * THREADS < FOURS {
        fours.v2 = b_at(first_n, k0, end, four_of(thread, 2u));
        fours.v3 = b_at(first_n, k0, end, four_of(thread, 3u));
    }
    return fours;
}

fn put_a(four: u32, value: vec4f) {
    let at = four / 8u * TERMS + 4u * (four % 8u);
    tile_a[at] = f16(value.x);
    tile_a[at + 1u] = f16(value.y);
    tile_a[at + 2u] = f16(value.z);
    tile_a[at + 3u] = f16(value.w);
}

fn put_b(four: u32, value: vec4f) {
    var at = four / 16u * COLUMNS + 4u * (four % 16u);
    if B_ALONG_N == 0u {
        at = four / 8u * TERMS + 4u * (four % 8u);
    }
    tile_b[at] = f16(value.x);
    tile_b[at + 1u] = f16(value.y);
    tile_b[at + 2u] = f16(value.z);
    tile_b[at + 3u] = f16(value.w);
}

fn put(thread: u32, next_a: Fours, next_b: Fours) {
    put_a(four_of(thread, 0u), next_a.v0);
    put_a(four_of(thread, 1u), next_a.v1);
    put_b(four_of(thread, 0u), next_b.v0);
    put_b(four_of(thread, 1u), next_b.v1);
    if 2u * THREADS < FOURS {
        put_a(four_of(thread, 2u), next_a.v2);
        put_a(four_of(thread, 3u), next_a.v3);
        put_b(four_of(thread, 2u), next_b.v2);
        put_b(four_of(thread, 3u), next_b.v3);
    }
}

// Writes matrices (i, j) of all quarters, which lie in `results`, to C.
fn write_results(group: vec3u, thread: u32, i: u32, j: u32) {
    workgroupBarrier();
    for (var at = thread; at < 4u * SIDE * SIDE; at += THREADS) {
        let quarter = at / (SIDE * SIDE);
        let m = group.y * TILE + quarter / 2u * (2u * SIDE) + i * SIDE + at / SIDE % SIDE;
        let n = group.x * TILE + quarter % 2u * (2u * SIDE) + j * SIDE + at % SIDE;
        if m < p.m && n < p.n {
            let to = i32(p.c_offset + group.z * p.c_part + n) + split(m, p.m_split, p.c_m_hi, p.c_m_lo);
            c[to] = results[at] + select(0.0, c[to], p.accumulate == 1u);
        }
    }
    workgroupBarrier();
}

@compute @workgroup_size(THREADS, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let first_m = group.y * TILE;
    let first_n = group.x * TILE;
    let first_k = group.z * p.part;
    let end = select(min(p.k, first_k + p.part), p.k, p.part == 0u);

    // This subgroup's quarter of C, as named matrices: some compilers keep arrays of them in memory.
    let row = subgroup / 2u % 2u * (2u * SIDE);
    let column = subgroup % 2u * (2u * SIDE);
    var sum00 = MatrixC();
    var sum01 = MatrixC();
    var sum10 = MatrixC();
    var sum11 = MatrixC();

    var next_a = load_a(thread, first_m, first_k, end);
    var next_b = load_b(thread, first_n, first_k, end);
    for (var k0 = first_k; k0 < end; k0 += DEPTH) {
        put(thread, next_a, next_b);
        workgroupBarrier();
        // The last turn loads the last terms once more: in a branch, compilers would wait for the loads at its end.
        next_a = load_a(thread, first_m, k0 + DEPTH, end);
        next_b = load_b(thread, first_n, k0 + DEPTH, end);
        for (var k = 0u; k < DEPTH; k += SIDE) {
            let at_a = row * TERMS + k;
            let rows0 = coopLoadT<MatrixA>(&tile_a[at_a], TERMS);
            let rows1 = coopLoadT<MatrixA>(&tile_a[at_a + SIDE * TERMS], TERMS);
            var columns0: MatrixB;
            var columns1: MatrixB;
            if B_ALONG_N == 1u {
                let at_b = k * COLUMNS + column;
                columns0 = coopLoadT<MatrixB>(&tile_b[at_b], COLUMNS);
                columns1 = coopLoadT<MatrixB>(&tile_b[at_b + SIDE], COLUMNS);
            } else {
                let at_b = column * TERMS + k;
                columns0 = coopLoad<MatrixB>(&tile_b[at_b], TERMS);
                columns1 = coopLoad<MatrixB>(&tile_b[at_b + SIDE * TERMS], TERMS);
            }
            sum00 = coopMultiplyAdd(rows0, columns0, sum00);
            sum10 = coopMultiplyAdd(rows1, columns0, sum10);
            sum01 = coopMultiplyAdd(rows0, columns1, sum01);
            sum11 = coopMultiplyAdd(rows1, columns1, sum11);
        }
        workgroupBarrier();
    }

    let own = min(subgroup, 3u) * (SIDE * SIDE);
    // Repeated work has no place of its own.
    let leaves = subgroup < 4u;
    if leaves {
        coopStoreT(sum00, &results[own], SIDE);
    }
    write_results(group, thread, 0u, 0u);
    if leaves {
        coopStoreT(sum01, &results[own], SIDE);
    }
    write_results(group, thread, 0u, 1u);
    if leaves {
        coopStoreT(sum10, &results[own], SIDE);
    }
    write_results(group, thread, 1u, 0u);
    if leaves {
        coopStoreT(sum11, &results[own], SIDE);
    }
    write_results(group, thread, 1u, 1u);
}
