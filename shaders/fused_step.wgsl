// One time step of all directions of a layer in inference, from its input: W·x and R·h' are one sum, the terms of which the threads
// of a workgroup share as in step_forward.wgsl. For streams of few rows, where a dispatch costs more than its work. HEADS is 1, K
// is H.
//
// `memory` holds first the input and h' of the rows [ROWS, fours of inputs and of units], then partial sums
// [ROWS (at most 4), THREADS] of 4 gates.

override INPUT: u32; // I

@group(0) @binding(1) var<storage, read> w: array<Weights>;     // [D, I (from), H (to)] of 4 gates
@group(0) @binding(2) var<storage, read> r: array<Weights>;     // [D, H (from), H (to)] of 4 gates
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;    // [D, biases + EXTRA, H] of 4 gates
@group(0) @binding(4) var<storage, read> x: array<f32>;         // [B, I] by rows of `xw_offset` elements
@group(0) @binding(5) var<storage, read> before: array<f32>;    // [D, B, H]: h'
@group(0) @binding(6) var<storage, read_write> h: array<f32>;   // [D, B, H]
@group(0) @binding(7) var<storage, read_write> c: array<f32>;   // [STATES, D, B, H], before and after
@group(0) @binding(8) var<storage, read> words: array<u32>;     // [2 + B]: key of random bits, lengths

// Four inputs of a row, or h' of four of its units; 0 past the last.
fn four_inputs(row: u32, k: u32) -> vec4f {
    let at = p.xw_offset + row * p.saved_offset;
    let last = INPUT - 1u;
    let four = vec4f(
        x[at + min(k, last)],
        x[at + min(k + 1u, last)],
        x[at + min(k + 2u, last)],
        x[at + min(k + 3u, last)],
    );
    return select(vec4f(), four, vec4u(k, k + 1u, k + 2u, k + 3u) < vec4u(INPUT));
}

fn four_states(d: u32, row: u32, k: u32) -> vec4f {
    let at = p.h_in + (d * p.batch + row) * H;
    let last = H - 1u;
    let four = vec4f(
        before[at + min(k, last)],
        before[at + min(k + 1u, last)],
        before[at + min(k + 2u, last)],
        before[at + min(k + 3u, last)],
    );
    return select(vec4f(), four, vec4u(k, k + 1u, k + 2u, k + 3u) < vec4u(TERMS));
}

// Weights of a unit's inputs, or of the units that it sees, from the fourfold of `four` on. Terms past the last are 0, whatever their
// weights are.
fn input_weights(d: u32, unit: u32, four: u32) -> Four {
    let fours = (INPUT + 3u) / 4u;
    if PACKED {
        let packed = w[(d * fours + min(four, fours - 1u)) * H + unit];
        return four_weights(packed, packed, packed, packed);
    }
    let k = 4u * four;
    let at = unit + H * (d * INPUT + min(vec4u(k, k + 1u, k + 2u, k + 3u), vec4u(INPUT - 1u)));
    return four_weights(w[at.x], w[at.y], w[at.z], w[at.w]);
}

fn state_weights(d: u32, unit: u32, four: u32) -> Four {
    let fours = max((TERMS + 3u) / 4u, 1u);
    if PACKED {
        let packed = r[(d * fours + min(four, fours - 1u)) * H + unit];
        return four_weights(packed, packed, packed, packed);
    }
    let k = 4u * four;
    let at = unit + H * (d * TERMS + min(vec4u(k, k + 1u, k + 2u, k + 3u), vec4u(max(TERMS, 1u) - 1u)));
    return four_weights(r[at.x], r[at.y], r[at.z], r[at.w]);
}

// Sums of terms times the factors of their weights.
fn with_factors(sums: Sums, f: vec4f) -> Sums {
    return Sums(
        mat4x4f(sums.rows0[0] * f, sums.rows0[1] * f, sums.rows0[2] * f, sums.rows0[3] * f),
        mat4x4f(sums.rows1[0] * f, sums.rows1[1] * f, sums.rows1[2] * f, sums.rows1[3] * f),
    );
}

// Fours of a thread among `terms`.
fn turns(terms: u32) -> u32 {
    let shares = THREADS / UNITS;
    return ((terms + 3u) / 4u + shares - 1u) / shares;
}

@compute @workgroup_size(THREADS, 1, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let shares = THREADS / UNITS;
    let place = place_of(group, local.x);
    let d = group.z;
    let slot = slot_size();
    let at = (d * p.batch + place.row) * H + place.unit; // in a slot [D, B, H]
    // In time before the sums are there.
    var own: Own;
    var old: Given;
    if place.finishes {
        own = own_parameters(d, place.unit);
        for (var s = 0u; s < STATES; s++) {
            old.c = with_plane(old.c, s, c[p.c_in + s * slot + at]);
        }
        old.h = before[p.h_in + at];
    }
    let inputs = turns(INPUT) * shares; // fours, with zeros past the last
    let stride = inputs + turns(TERMS) * shares;
    for (var k = local.x; k < ROWS * stride; k += THREADS) {
        let b = min(place.first_row + k / stride, place.last_row);
        let four = k % stride;
        if four < inputs {
            memory[k] = four_inputs(b, 4u * four);
        } else {
            memory[k] = four_states(d, b, 4u * (four - inputs));
        }
    }
    workgroupBarrier();
    var sums: Sums;
    // Neighbouring shares take neighbouring fours.
    for (var turn = 0u; turn < turns(INPUT); turn++) {
        let four = turn * shares + place.share;
        sums = add_four(sums, input_weights(d, place.unit, four), four, stride);
    }
    var inputs_alone: Sums;
    if PACKED {
        inputs_alone = with_factors(sums, factors(w[(p.directions * ((INPUT + 3u) / 4u) + d) * H + place.unit]));
        sums = Sums();
    }
    for (var turn = 0u; turn < turns(TERMS); turn++) {
        let four = turn * shares + place.share;
        sums = add_four(sums, state_weights(d, place.unit, four), inputs + four, stride);
    }
    if PACKED {
        if TERMS > 0u {
            sums = with_factors(sums, factors(r[(p.directions * ((TERMS + 3u) / 4u) + d) * H + place.unit]));
        }
        sums.rows0 += inputs_alone.rows0;
        sums.rows1 += inputs_alone.rows1;
    }
    workgroupBarrier();
    let sum = gathered(local.x, sums);
    if place.finishes {
        // Where a gate keeps W·x apart from R·h', R has no third column and W no fourth.
        old.xw = select(vec4f(0.0, 0.0, sum.z, 0.0), sum, TERMS == 0u);
        let made = advance(0u, d, place.row, place.unit, own, old, select(vec4f(sum.xy, 0.0, sum.w), vec4f(), TERMS == 0u));
        h[at] = made.h;
        for (var s = 0u; s < STATES; s++) {
            c[p.c_in + s * slot + at] = plane(made.c, s);
        }
    }
}
