// A step of several layers of a stack at once, in inference: layer l takes the step that layer l - 1 took in the dispatch before. So a
// stack of L layers goes through T steps in T + L - 1 dispatches, where a dispatch costs more than its work. Layer 0 has its W·x
// from a product of all steps; W·h of the layer below and R·h' of the others are one sum, as in fused_step.wgsl. One direction, HEADS
// is 1, K is H; `group.z` counts the layers of the dispatch.
//
// `memory` holds first h of the layer below and h' of the rows [ROWS, 2, fours of units], then partial sums [ROWS (at most 4), THREADS] of
// 4 gates.

override LAYERS: u32; // L
override STEPS: u32;  // T

@group(0) @binding(1) var<storage, read> xw: array<vec4f>;      // [T, B, H] of 4 gates: W·x of layer 0
@group(0) @binding(2) var<storage, read> w: array<Weights>;     // [L - 1, H (from), H (to)] of 4 gates
@group(0) @binding(3) var<storage, read> r: array<Weights>;     // [L, H (from), H (to)] of 4 gates
@group(0) @binding(4) var<storage, read> bias: array<vec4f>;    // [L, biases + EXTRA, H] of 4 gates
@group(0) @binding(5) var<storage, read_write> h: array<f32>;   // [L, 1 + T, B, H]
@group(0) @binding(6) var<storage, read_write> c: array<f32>;   // [L, STATES, B, H], before and after
@group(0) @binding(7) var<storage, read> words: array<u32>;     // [2 + B]: key of random bits, lengths

// h of four units of a row, of a slot that begins at `at`; 0 past the last.
fn four_states(at: u32, row: u32, k: u32) -> vec4f {
    let first = at + row * H;
    let last = H - 1u;
    let four = vec4f(
        h[first + min(k, last)],
        h[first + min(k + 1u, last)],
        h[first + min(k + 2u, last)],
        h[first + min(k + 3u, last)],
    );
    return select(vec4f(), four, vec4u(k, k + 1u, k + 2u, k + 3u) < vec4u(H));
}

// First elements of the weights of four terms from term k on. Terms past the last are 0, whatever their weights are.
fn weights_at(layer: u32, unit: u32, k: u32) -> vec4u {
    return unit + H * (layer * H + min(vec4u(k, k + 1u, k + 2u, k + 3u), vec4u(H - 1u)));
}

@compute @workgroup_size(THREADS, 1, 1)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let shares = THREADS / UNITS;
    let place = place_of(group, local.x);
    let layer = p.site + group.z; // the first layer of the dispatch
    let step = p.first_step - layer;
    let slot = p.batch * H;
    let at = place.row * H + place.unit; // in a slot [B, H]
    let own_slot = (layer * (1u + STEPS) + step) * slot; // of h'
    let below = (max(layer, 1u) - 1u) * (1u + STEPS) * slot + (step + 1u) * slot;
    // In time before the sums are there.
    var own: Own;
    var old: Given;
    if place.finishes {
        own = own_parameters(layer, place.unit);
        for (var s = 0u; s < STATES; s++) {
            old.c = with_plane(old.c, s, c[(layer * STATES + s) * slot + at]);
        }
        old.h = h[own_slot + at];
        if layer == 0u {
            old.xw = xw[step * slot + at];
        }
    }
    let turns = ((H + 3u) / 4u + shares - 1u) / shares; // fours of a thread
    let fours = turns * shares;                         // with zeros past the last
    for (var k = local.x; k < ROWS * 2u * fours; k += THREADS) {
        let b = min(place.first_row + k / (2u * fours), place.last_row);
        let four = k % (2u * fours);
        if four >= fours {
            memory[k] = four_states(own_slot, b, 4u * (four - fours));
        } else if layer > 0u {
            memory[k] = four_states(below, b, 4u * four);
        }
    }
    workgroupBarrier();
    var sums: Sums;
    // Neighbouring shares take neighbouring fours.
    if layer > 0u {
        for (var turn = 0u; turn < turns; turn++) {
            let four = turn * shares + place.share;
            let k = weights_at(layer - 1u, place.unit, 4u * four);
            sums = add_four(sums, four_weights(w[k.x], w[k.y], w[k.z], w[k.w]), four, 2u * fours);
        }
    }
    for (var turn = 0u; turn < turns; turn++) {
        let four = turn * shares + place.share;
        let k = weights_at(layer, place.unit, 4u * four);
        sums = add_four(sums, four_weights(r[k.x], r[k.y], r[k.z], r[k.w]), fours + four, 2u * fours);
    }
    workgroupBarrier();
    var sum = gathered(local.x, sums);
    if place.finishes {
        if layer > 0u {
            // Where a gate keeps W·x apart from R·h', R has no third column and W no fourth.
            old.xw = vec4f(0.0, 0.0, sum.z, 0.0);
            sum.z = 0.0;
        }
        let made = advance(0u, 0u, place.row, place.unit, own, old, sum);
        h[own_slot + slot + at] = made.h;
        for (var s = 0u; s < STATES; s++) {
            c[(layer * STATES + s) * slot + at] = plane(made.c, s);
        }
    }
}
