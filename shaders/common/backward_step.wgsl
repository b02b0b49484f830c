// What the kernels of a layer's backward time steps share: parameters, tensors, and the cell of one row and unit.

struct Params {
    batch: u32,
    directions: u32,
    biases: u32,
    steps: u32,
    has_next: u32,
    first: u32,
    dy_from: u32,
    dy_offset: u32,
    dy_step: u32,
    dy_direction: u32,
    dy_row: u32,
    dy_whole: u32,
    saved_offset: u32,
    saved_step: u32,
    c_in: u32,
    dg_next: u32,
    dg_offset: u32,
    first_step: u32,
    total_steps: u32,
    backwards: u32,
    site: u32,
    zoneout_h: u32,
    zoneout_c: u32,
    drop_site: u32,
    drop: u32,
    drop_scale: f32,
    gate_alpha: f32,
    gate_beta: f32,
    candidate_alpha: f32,
    candidate_beta: f32,
    output_alpha: f32,
    output_beta: f32,
    clip: f32,
    cell_clip: f32,
}

override H: u32;
override DROP: u32;    // 1: h' was multiplied by a mask before the product
override CARRIES: u32; // 1: sequences have lengths, 2: zoneout, 3: both
override KINDS: u32;   // of activations, as src/cell/settings.rs packs them
override TERMS: u32;   // of the recurrent product: H / HEADS, or 0 if there is none
override ROWS: u32;    // batch rows of a workgroup
override UNITS: u32;   // hidden units of a workgroup
override SPAN: u32;    // hidden units that a thread computes at once
override THREADS: u32; // of a workgroup
override HEADS: u32;   // groups of units without recurrent weights between them
override MEMORY: u32;  // elements of workgroup memory, for the kernels that share terms

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> saved: array<f32>;        // [steps, SAVED, D, B, H], steps by stride
@group(0) @binding(2) var<storage, read> c: array<f32>;            // [1 + steps, STATES, D, B, H]
@group(0) @binding(3) var<storage, read> dy: array<f32>;           // [steps, D, B, H] by strides
@group(0) @binding(4) var<storage, read> rt: array<Weights>;       // [D, 4H / HEADS (from), units (to)], four units an element
@group(0) @binding(5) var<storage, read_write> dg: array<vec4f>;   // [slots, D, B, H] of 4 gates
// [1 + EXTRA, D, B, H] of 4 gates: gradients of the bias and of the further parameters, summed over time; then, one number
// after the other, the gradients of the states [STATES, D, B, H] and of the hidden state where it is carried past the cell [D, B, H]
@group(0) @binding(6) var<storage, read_write> sums: array<vec4f>;
@group(0) @binding(7) var<storage, read> words: array<u32>;        // [2 + B]: key of random bits, lengths
@group(0) @binding(8) var<storage, read> bias: array<vec4f>;       // [D, biases + EXTRA, H] of 4 gates

// True if the time of a step is before the end of a row's sequence.
fn takes_part(step: u32, d: u32, row: u32) -> bool {
    let s = p.first_step + step;
    let time = select(s, p.total_steps - 1u - s, d == 1u || p.backwards == 1u);
    return CARRIES % 2u == 0u || time < words[2u + row];
}

// What a row and unit bring to a backward step beside the recurrent product.
struct Given {
    kept: array<f32, SAVED>,
    c_prev: State,
    c_new: State,
    dy: f32,
}

// What a row and unit carry from a backward step to the step before it.
struct Carried {
    bias: vec4f,  // gradients of parameters, summed over the steps
    extra: vec4f,
    dc: State,    // gradient of the states
    dh: f32,      // of h where it is carried past the cell
}

// Elements of a slot [D, B, H].
fn slot_size() -> u32 {
    return p.directions * p.batch * H;
}

// The unit's further parameters.
fn extra_parameters(d: u32, unit: u32) -> vec4f {
    if EXTRA == 1u {
        return bias[(d * (p.biases + 1u) + p.biases) * H + unit];
    }
    return vec4f();
}

fn given(step: u32, d: u32, row: u32, unit: u32) -> Given {
    let slot = slot_size();
    let at = (d * p.batch + row) * H + unit; // in a slot [D, B, H]
    var old: Given;
    // At constant indices: around a store at a variable one, FXC would unroll the loop over time steps, and fails.
    let kept_at = p.saved_offset + step * p.saved_step + at;
    old.kept[0] = saved[kept_at];
    if SAVED >= 2u {
        old.kept[min(1u, SAVED - 1u)] = saved[kept_at + slot];
    }
    if SAVED >= 3u {
        old.kept[min(2u, SAVED - 1u)] = saved[kept_at + 2u * slot];
    }
    if SAVED >= 4u {
        old.kept[min(3u, SAVED - 1u)] = saved[kept_at + 3u * slot];
    }
    if SAVED >= 5u {
        old.kept[min(4u, SAVED - 1u)] = saved[kept_at + 4u * slot];
    }
    let c_in = p.c_in + step * STATES * slot + at;
    for (var s = 0u; s < STATES; s++) {
        old.c_prev = with_plane(old.c_prev, s, c[c_in + s * slot]);
        old.c_new = with_plane(old.c_new, s, c[c_in + (STATES + s) * slot]);
    }
    if step >= p.dy_from && (p.dy_whole == 1u || takes_part(step, d, row)) {
        old.dy = dy[p.dy_offset + (step - p.dy_from) * p.dy_step + d * p.dy_direction + row * p.dy_row + unit];
    }
    return old;
}

// What later steps left in `sums` to a step; gradients of parameters begin with 0 at the first of a sequence's steps back.
fn carried(step: u32, at: u32) -> Carried {
    let slot = slot_size();
    let dc_at = 4u * (1u + EXTRA) * slot + at;
    var old: Carried;
    if p.first == 0u || step + 1u < p.steps {
        old.bias = sums[at];
        if EXTRA == 1u {
            old.extra = sums[slot + at];
        }
    }
    for (var s = 0u; s < STATES; s++) {
        let plane_at = dc_at + s * slot;
        old.dc = with_plane(old.dc, s, sums[plane_at / 4u][plane_at % 4u]);
    }
    if CARRIES > 0u {
        let carry_at = dc_at + STATES * slot;
        old.dh = sums[carry_at / 4u][carry_at % 4u];
    }
    return old;
}

// Leaves to earlier steps what a row and unit carry.
fn leave(at: u32, what: Carried) {
    let slot = slot_size();
    let dc_at = 4u * (1u + EXTRA) * slot + at;
    sums[at] = what.bias;
    if EXTRA == 1u {
        sums[slot + at] = what.extra;
    }
    for (var s = 0u; s < STATES; s++) {
        let plane_at = dc_at + s * slot;
        sums[plane_at / 4u][plane_at % 4u] = plane(what.dc, s);
    }
    if CARRIES > 0u {
        let carry_at = dc_at + STATES * slot;
        sums[carry_at / 4u][carry_at % 4u] = what.dh;
    }
}

// Result of a backward step for a row and unit.
struct Made {
    gates: vec4f, // gradients of W·x and R·h'
    carried: Carried,
}

// The cell of one row and unit, from the gradient of its hidden state through the later step's recurrent product; stores the gate
// gradients.
fn cell_step(step: u32, d: u32, row: u32, unit: u32, extra: vec4f, old: Given, later: Carried, recurrent: f32) -> Made {
    let slot = slot_size();
    let at = (d * p.batch + row) * H + unit;
    let key = vec2u(words[0], words[1]);
    let on = takes_part(step, d, row);
    var dh = recurrent;
    if DROP == 1u {
        dh *= select(p.drop_scale, 0.0, random_bits(key, vec2u(at, p.drop_site)).x < p.drop);
    }
    dh += old.dy;
    var dc = later.dc;
    var dh_past = 0.0; // past the cell
    var dc_past = State();
    if CARRIES > 0u {
        dh += later.dh;
        var past = vec2<bool>(!on);
        if CARRIES >= 2u {
            let index = (p.first_step + step) * slot + at;
            past = past | (random_bits(key, vec2u(index, p.site)) < vec2u(p.zoneout_h, p.zoneout_c));
        }
        dh_past = select(0.0, dh, past.x);
        dh = select(dh, 0.0, past.x);
        dc_past = select(State(), dc, past.y);
        dc = select(dc, State(), past.y);
    }
    let out = cell_backward(old.kept, old.c_prev, old.c_new, dh, dc, extra);
    // Rows past the end of their sequence have gradients of 0; their saved values are undefined.
    var made: Made;
    made.gates = select(vec4f(), out.gates, on);
    dg[p.dg_offset / 4u + step * slot + at] = made.gates;
    made.carried = Carried(
        select(vec4f(), out.bias, on) + later.bias,
        select(vec4f(), out.extra, on) + later.extra,
        dc_past + select(State(), out.c_prev, on),
        dh_past,
    );
    return made;
}
