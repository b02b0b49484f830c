// C[m, n] (+)= Σ_k A[m, k]·B[k, n], like matmul.wgsl, for up to 16 rows.
//
// A thread computes ROWS rows and 4 columns of C, so that each load of B serves all rows. SHARES threads share the terms of a
// sum, four terms at a time in turns, and their parts are added in a fixed order through workgroup memory: the device is busy with
// one row, too. Terms of A pass through workgroup memory, and the next ones are loaded meanwhile.
// As in matmul.wgsl, several workgroups may share the terms of one sum.

override ROWS: u32;      // of a thread: 1, 2, 4, 8 or 16
override SHARES: u32;    // threads that share the terms of a sum: 4, 8, 16, or 32 where ROWS is up to 8
override B_ALONG_N: u32; // 1: four columns of a term of B lie side by side; 0: four terms of a column

@group(0) @binding(1) var<storage, read> a: array<f32>;       // [m, k] by strides
@group(0) @binding(2) var<storage, read> b: array<vec4f>;     // [k, n] by strides
@group(0) @binding(3) var<storage, read_write> c: array<f32>; // [parts, m, n] by strides, columns contiguous

const WORKGROUP = 256u;
const STAGED = 512u;

// Terms of A, [ROWS, STAGED / ROWS], four to an element; then the shares' sums of two rows, [2, SHARES, 256 / SHARES].
var<workgroup> staged: array<vec4f, STAGED>;

// First of the four terms that are loaded together: the last block of a sum whose terms are no multiple of 4 begins before `k`.
fn first_of(k: u32, end: u32) -> u32 {
    return min(k, end - 4u);
}

// First element of a row of A. Rows past the last are the last again, and their results discarded.
fn a_row(m: u32) -> i32 {
    return i32(p.a_offset) + split(min(m, p.m - 1u), p.m_split, p.a_m_hi, p.a_m_lo);
}

// Four terms of a row of A.
fn a_block(begin: i32, k: u32, end: u32) -> vec4f {
    let at = begin + along_k(first_of(k, end), p.a_k_hi, p.a_k_lo) + vec4i(0, 1, 2, 3) * p.a_k_lo;
    return vec4f(a[at.x], a[at.y], a[at.z], a[at.w]);
}

// The same without those before `k`, which another block has. Where `k` is past the last term, those are all.
fn counted(block: vec4f, k: u32, end: u32) -> vec4f {
    return select(vec4f(), block, first_of(k, end) + vec4u(0, 1, 2, 3) >= vec4u(k));
}

// First elements of four columns of B, in elements of four. Columns past the last are the last again, and their results discarded.
fn b_begin(column: u32) -> vec4i {
    if B_ALONG_N == 1u {
        return vec4i((i32(p.b_offset) + i32(min(column, p.n - 4u))) >> 2u);
    }
    return (i32(p.b_offset) + vec4i(min(column + vec4u(0, 1, 2, 3), vec4u(p.n - 1u))) * p.b_n) >> vec4u(2u);
}

// The same terms of four columns of B: columns are terms, their elements columns of B. Offsets count elements of four.
fn b_block(begin: vec4i, k: u32, end: u32) -> mat4x4f {
    let first = first_of(k, end);
    if B_ALONG_N == 1u {
        let lo = p.b_k_lo >> 2u;
        let at = begin + along_k(first, p.b_k_hi >> 2u, lo) + vec4i(0, 1, 2, 3) * lo;
        return mat4x4f(b[at.x], b[at.y], b[at.z], b[at.w]);
    }
    let at = begin + (along_k(first, p.b_k_hi, 1) >> 2u);
    return transpose(mat4x4f(b[at.x], b[at.y], b[at.z], b[at.w]));
}

// A row's sums with four terms more.
fn plus(sums: vec4f, block: mat4x4f, row: vec4f) -> vec4f {
    let two = fma(vec4f(row.y), block[1], fma(vec4f(row.x), block[0], sums));
    return fma(vec4f(row.w), block[3], fma(vec4f(row.z), block[2], two));
}

// The same with the terms of a turn; terms of A past the last are 0.
fn plus_turn(sums: vec4f, b0: mat4x4f, b1: mat4x4f, b2: mat4x4f, b3: mat4x4f, at: u32) -> vec4f {
    let two = plus(plus(sums, b0, staged[at]), b1, staged[at + SHARES]);
    return plus(plus(two, b2, staged[at + 2u * SHARES]), b3, staged[at + 3u * SHARES]);
}

// Adds the shares of two rows, and stores them.
fn store(group: vec3u, thread: u32, to: u32, row: u32, sums: vec4f, next: vec4f) {
    let lanes = WORKGROUP / SHARES;
    workgroupBarrier();
    staged[to] = sums;
    staged[to + WORKGROUP] = next;
    workgroupBarrier();
    let m = row + thread / lanes;
    let n = (group.x * lanes + thread % lanes) * 4u;
    if thread < 2u * lanes && m < p.m && n < p.n {
        let begin = thread / lanes * WORKGROUP + thread % lanes;
        var total = staged[begin];
        for (var share = 1u; share < SHARES; share++) {
            total += staged[begin + share * lanes];
        }
        let row_at = i32(p.c_offset + group.z * p.c_part) + split(m, p.m_split, p.c_m_hi, p.c_m_lo);
        let columns = min(n + vec4u(0, 1, 2, 3), vec4u(p.n - 1u));
        let at = row_at + vec4i(columns);
        if p.accumulate == 1u {
            total += vec4f(c[at.x], c[at.y], c[at.z], c[at.w]);
        }
        let values = finished(total, columns);
        c[at.x] = values.x;
        if n + 1u < p.n {
            c[at.y] = values.y;
        }
        if n + 2u < p.n {
            c[at.z] = values.z;
        }
        if n + 3u < p.n {
            c[at.w] = values.w;
        }
    }
}

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let lanes = WORKGROUP / SHARES;
    // Neighbouring threads load what lies side by side: columns of a term, or terms of a column.
    let lane = select(thread / SHARES, thread % lanes, B_ALONG_N == 1u);
    let share = select(thread % SHARES, thread / lanes, B_ALONG_N == 1u);
    let first_k = group.z * p.part;
    let end = select(min(p.k, first_k + p.part), p.k, p.part == 0u);
    let begin = b_begin((group.x * lanes + lane) * 4u);

    // Each thread loads two elements of `staged`.
    let width = STAGED / ROWS;
    let chunk = 4u * width; // terms: whole turns
    let begin_0 = a_row(thread / width);
    let begin_1 = a_row((thread + WORKGROUP) / width);
    let term_0 = thread % width * 4u;
    let term_1 = (thread + WORKGROUP) % width * 4u;

    var r0 = vec4f();
    var r1 = vec4f();
    var r2 = vec4f();
    var r3 = vec4f();
    var r4 = vec4f();
    var r5 = vec4f();
    var r6 = vec4f();
    var r7 = vec4f();
    var r8 = vec4f();
    var r9 = vec4f();
    var r10 = vec4f();
    var r11 = vec4f();
    var r12 = vec4f();
    var r13 = vec4f();
    var r14 = vec4f();
    var r15 = vec4f();

    // With few rows a turn has four blocks of B, all loaded before the first is used; with many it has one, and the next one is
    // loaded meanwhile.
    let few = ROWS <= 4u;
    let step = 4u * SHARES;
    let turn = select(step, 4u * step, few);
    var next_b = mat4x4f();
    if !few {
        next_b = b_block(begin, first_k + 4u * share, end);
    }
    var next_0 = a_block(begin_0, first_k + term_0, end);
    var next_1 = a_block(begin_1, first_k + term_1, end);
    for (var first = first_k; first < end; first += chunk) {
        workgroupBarrier();
        staged[thread] = counted(next_0, first + term_0, end);
        staged[thread + WORKGROUP] = counted(next_1, first + term_1, end);
        workgroupBarrier();
        // Past the last chunk these are the last terms once more: in a branch, compilers would wait for the loads at its end.
        next_0 = a_block(begin_0, first + chunk + term_0, end);
        next_1 = a_block(begin_1, first + chunk + term_1, end);
        let stop = min(end, first + chunk);
        for (var k = first + 4u * share; k < stop; k += turn) {
            let at = (k - first) / 4u;
            if few {
                let b0 = b_block(begin, k, end);
                let b1 = b_block(begin, k + step, end);
                let b2 = b_block(begin, k + 2u * step, end);
                let b3 = b_block(begin, k + 3u * step, end);
                r0 = plus_turn(r0, b0, b1, b2, b3, at);
                if ROWS >= 2u {
                    r1 = plus_turn(r1, b0, b1, b2, b3, at + width);
                }
                if ROWS >= 4u {
                    r2 = plus_turn(r2, b0, b1, b2, b3, at + 2u * width);
                    r3 = plus_turn(r3, b0, b1, b2, b3, at + 3u * width);
                }
                continue;
            }
            let block = next_b;
            next_b = b_block(begin, k + step, end);
            r0 = plus(r0, block, staged[at]);
            r1 = plus(r1, block, staged[at + width]);
            r2 = plus(r2, block, staged[at + 2u * width]);
            r3 = plus(r3, block, staged[at + 3u * width]);
            r4 = plus(r4, block, staged[at + 4u * width]);
            r5 = plus(r5, block, staged[at + 5u * width]);
            r6 = plus(r6, block, staged[at + 6u * width]);
            r7 = plus(r7, block, staged[at + 7u * width]);
            if ROWS >= 16u {
                r8 = plus(r8, block, staged[at + 8u * width]);
                r9 = plus(r9, block, staged[at + 9u * width]);
                r10 = plus(r10, block, staged[at + 10u * width]);
                r11 = plus(r11, block, staged[at + 11u * width]);
                r12 = plus(r12, block, staged[at + 12u * width]);
                r13 = plus(r13, block, staged[at + 13u * width]);
                r14 = plus(r14, block, staged[at + 14u * width]);
                r15 = plus(r15, block, staged[at + 15u * width]);
            }
        }
    }

    // Rows move up two by two.
    for (var row = 0u; row < ROWS; row += 2u) {
        store(group, thread, share * lanes + lane, row, r0, r1);
        r0 = r2;
        r1 = r3;
        if ROWS >= 8u {
            r2 = r4;
            r3 = r5;
            r4 = r6;
            r5 = r7;
        }
        if ROWS >= 16u {
            r6 = r8;
            r7 = r9;
            r8 = r10;
            r9 = r11;
            r10 = r12;
            r11 = r13;
            r12 = r14;
            r13 = r15;
        }
    }
}
