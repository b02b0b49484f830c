// What the kernels of a layer's forward time steps share: parameters, constants, and the cell of one row and unit. They bind `bias`
// and `words`.

struct Params {
    batch: u32,
    directions: u32,
    biases: u32,
    steps: u32,
    xw_offset: u32,
    h_in: u32,
    c_in: u32,
    c_out: u32,
    saved_offset: u32,
    first_step: u32,
    total_steps: u32,
    backwards: u32,
    site: u32,
    zoneout_h: u32,
    zoneout_c: u32,
    keep_h: f32,
    keep_c: f32,
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
override K: u32; // width of the recurrent state: H, or less if another kernel projects the hidden state
override TRAIN: u32;
override DROP: u32;    // 1: the mask multiplies h' before the product
override CARRIES: u32; // 1: sequences have lengths, 2: zoneout, 3: both
override KINDS: u32;   // of activations, as src/cell/settings.rs packs them
override TERMS: u32;   // of the recurrent product: K / HEADS, or 0 if there is none or if other kernels have added it to xw
override ROWS: u32;    // batch rows of a workgroup
override UNITS: u32;   // hidden units of a workgroup
override SPAN: u32;    // hidden units that a thread computes at once
override THREADS: u32; // of a workgroup
override HEADS: u32;   // groups of units without recurrent weights between them
override MEMORY: u32;  // elements of workgroup memory, for the kernels that share terms

@group(0) @binding(0) var<uniform> p: Params;

// A unit's parameters beside its weights.
struct Own {
    bias: vec4f, // the biases summed
    extra: vec4f,
}

// What a row and unit bring to a step beside the recurrent product. h is there only where it may be kept.
struct Given {
    xw: vec4f,
    c: State,
    h: f32,
}

// A row and unit after a step.
struct Advanced {
    c: State,
    h: f32,
    saved: array<f32, SAVED>,
}

// Elements of a slot [D, B, H].
fn slot_size() -> u32 {
    return p.directions * p.batch * H;
}

// True if the time of a step is before the end of a row's sequence.
fn takes_part(step: u32, d: u32, row: u32) -> bool {
    let s = p.first_step + step;
    let time = select(s, p.total_steps - 1u - s, d == 1u || p.backwards == 1u);
    return CARRIES % 2u == 0u || time < words[2u + row];
}

fn own_parameters(d: u32, unit: u32) -> Own {
    var b = vec4f();
    let parameters = d * (p.biases + EXTRA);
    if p.biases >= 1u {
        b = bias[parameters * H + unit];
    }
    if p.biases == 2u {
        b += bias[(parameters + 1u) * H + unit];
    }
    var extra = vec4f();
    if EXTRA == 1u {
        extra = bias[(parameters + p.biases) * H + unit];
    }
    return Own(b, extra);
}

// The state of a row and unit after a step, from its recurrent product, and what backward needs.
fn advance(step: u32, d: u32, row: u32, unit: u32, own: Own, old: Given, rh: vec4f) -> Advanced {
    let at = (d * p.batch + row) * H + unit; // in a slot [D, B, H]
    let out = cell_forward(old.xw, rh, own.bias, old.c, own.extra);
    var h_new = out.h;
    var c_new = out.c;
    if CARRIES >= 2u { // zoneout: in training a unit keeps its old state at random, in inference a share of it
        if TRAIN == 1u {
            let index = (p.first_step + step) * slot_size() + at;
            let chance = random_bits(vec2u(words[0], words[1]), vec2u(index, p.site));
            h_new = select(h_new, old.h, chance.x < p.zoneout_h);
            c_new = select(c_new, old.c, chance.y < p.zoneout_c);
        } else {
            h_new += p.keep_h * (old.h - h_new);
            c_new += p.keep_c * (old.c - c_new);
        }
    }
    var saved_values = out.saved;
    if !takes_part(step, d, row) {
        c_new = old.c;
        h_new = old.h; // 0 if it is to be projected, and then replaced by the old state
        saved_values = array<f32, SAVED>();
    }
    return Advanced(c_new, h_new, saved_values);
}
