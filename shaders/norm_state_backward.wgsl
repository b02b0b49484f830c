// norm_state_forward.wgsl backward: from the gradients of a step's states to those of its output gate and of its cell state, and
// to those that are carried past the step to the states before it. One workgroup a row.

struct Params {
    batch: u32,
    directions: u32,
    c_in: u32,
    saved_offset: u32,
    dh_offset: u32,
    dc_offset: u32,
    step: u32,
    total_steps: u32,
    backwards: u32,
    site: u32,
    zoneout_h: u32,
    zoneout_c: u32,
    alpha: f32,
    beta: f32,
    cell_clip: f32,
    epsilon: f32,
    first: u32,
}

override H: u32;
override CARRIES: u32; // 1: sequences have lengths, 2: zoneout, 3: both
override KINDS: u32;   // as in the step kernels (cells/open.wgsl)

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> norm: array<f32>;         // [D, 2, H]: weight, bias
@group(0) @binding(2) var<storage, read> c: array<f32>;            // [D, B, H] at c_in: c'
@group(0) @binding(3) var<storage, read> saved: array<f32>;        // [4, D, B, H] at saved_offset: i, f, g, o as activations save them
@group(0) @binding(4) var<storage, read> dh: array<f32>;           // [D, B, H] at dh_offset
@group(0) @binding(5) var<storage, read> words: array<u32>;        // [2 + B]: key of random bits, lengths
// [2, D, B, H] at dc_offset: the gradient of c, replaced by that of the step's own cell state; the part carried past the step
@group(0) @binding(6) var<storage, read_write> sums: array<f32>;
@group(0) @binding(7) var<storage, read_write> past: array<f32>;   // [D, B, H]: the gradient of h that is carried past the step
// [4, D, B, H]: the gradient of o; the terms of the gradients of weight and bias, summed over time; the gradient of the
// activation's argument
@group(0) @binding(8) var<storage, read_write> out: array<f32>;

// The step's cell state before zoneout.
fn made(at: u32) -> f32 {
    let slot = p.directions * p.batch * H;
    let s = p.saved_offset + at;
    // Only the values of these are needed, which do not depend on α and β once they are saved.
    let i = restored(KINDS & 0xffu, 0.0, 0.0, saved[s]);
    let f = restored(KINDS & 0xffu, 0.0, 0.0, saved[s + slot]).value;
    let g = restored((KINDS >> 8u) & 0xffu, 0.0, 0.0, saved[s + 2u * slot]).value;
    let whole = select(f, i.complement, ((KINDS >> 24u) & 1u) == 1u) * c[p.c_in + at] + i.value * g;
    return clamp(whole, -p.cell_clip, p.cell_clip);
}

// True for h and for c if the old state was carried past the step.
fn kept(at: u32, on: bool) -> vec2<bool> {
    var past = vec2<bool>(!on);
    if CARRIES >= 2u {
        let index = p.step * p.directions * p.batch * H + at;
        past = past | (random_bits(vec2u(words[0], words[1]), vec2u(index, p.site)) < vec2u(p.zoneout_h, p.zoneout_c));
    }
    return past;
}

@compute @workgroup_size(64, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
) {
    let row = group.y * groups.x + group.x; // d·B + b
    if row >= p.directions * p.batch {
        return;
    }
    let d = row / p.batch;
    let slot = p.directions * p.batch * H;
    let from_ = row * H;
    let time = select(p.step, p.total_steps - 1u - p.step, d == 1u || p.backwards == 1u);
    let on = CARRIES % 2u == 0u || time < words[2u + row % p.batch];
    var sum = 0.0;
    for (var u = local.x; u < H; u += 64u) {
        sum += made(from_ + u);
    }
    let mean = total(local.x, sum) / f32(H);
    var squares = 0.0;
    for (var u = local.x; u < H; u += 64u) {
        let x = made(from_ + u) - mean;
        squares += x * x;
    }
    let scale = inverseSqrt(total(local.x, squares) / f32(H) + p.epsilon);
    var straight = 0.0; // mean of weight·gradient of the activation's argument
    var along = 0.0;    // mean of that times the normalised state
    for (var u = local.x; u < H; u += 64u) {
        let at = from_ + u;
        let weight = norm[2u * d * H + u];
        let normal = (made(at) - mean) * scale;
        let normed = weight * normal + norm[(2u * d + 1u) * H + u];
        let y = with_slope((KINDS >> 16u) & 0xffu, p.alpha, p.beta, normed); // and its slope
        let o = restored(KINDS & 0xffu, 0.0, 0.0, saved[p.saved_offset + 3u * slot + at]).value;
        let whole = dh[p.dh_offset + at];
        let goes_past = kept(at, on);
        let own = select(whole, 0.0, goes_past.x);
        past[at] = select(0.0, whole, goes_past.x);
        let dc_at = p.dc_offset + at;
        let dc = sums[dc_at] + sums[dc_at + slot];
        sums[dc_at] = select(dc, 0.0, goes_past.y);
        sums[dc_at + slot] = select(0.0, dc, goes_past.y);
        let seen = own * o * y.y;
        out[at] = own * y.x;
        out[slot + at] = seen * normal + select(out[slot + at], 0.0, p.first == 1u);
        out[2u * slot + at] = seen + select(out[2u * slot + at], 0.0, p.first == 1u);
        out[3u * slot + at] = seen;
        straight += weight * seen;
        along += weight * seen * normal;
    }
    straight = total(local.x, straight) / f32(H);
    along = total(local.x, along) / f32(H);
    for (var u = local.x; u < H; u += 64u) {
        let at = from_ + u;
        let normal = (made(at) - mean) * scale;
        let own = norm[2u * d * H + u] * out[3u * slot + at];
        sums[p.dc_offset + at] += scale * (own - straight - normal * along);
    }
}
