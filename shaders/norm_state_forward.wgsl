// The hidden state of an LSTM with a normalised cell state: h = o ⊙ output(weight·normal(c) + bias), with o left in the place of
// h by the cell. Then zoneout, and rows past the end of their sequence keep their states. One workgroup a row.

struct Params {
    batch: u32,
    directions: u32,
    h_in: u32,
    c_in: u32,
    c_out: u32,
    step: u32,
    total_steps: u32,
    backwards: u32,
    site: u32,
    zoneout_h: u32,
    zoneout_c: u32,
    keep_h: f32,
    keep_c: f32,
    alpha: f32,
    beta: f32,
    epsilon: f32,
}

override H: u32;
override TRAIN: u32;
override CARRIES: u32; // 1: sequences have lengths, 2: zoneout, 3: both
override KIND: u32;    // of the output's activation

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> norm: array<f32>;    // [D, 2, H]: weight, bias
@group(0) @binding(2) var<storage, read_write> h: array<f32>; // [.., 2, D, B, H] from h_in: h', then o and h
@group(0) @binding(3) var<storage, read_write> c: array<f32>; // [D, B, H] at c_in: c'; at c_out: c
@group(0) @binding(4) var<storage, read> words: array<u32>;   // [2 + B]: key of random bits, lengths

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
    let first = row * H;
    let time = select(p.step, p.total_steps - 1u - p.step, d == 1u || p.backwards == 1u);
    let on = CARRIES % 2u == 0u || time < words[2u + row % p.batch];
    var sum = 0.0;
    for (var u = local.x; u < H; u += 64u) {
        sum += c[p.c_out + first + u];
    }
    let mean = total(local.x, sum) / f32(H);
    var squares = 0.0;
    for (var u = local.x; u < H; u += 64u) {
        let x = c[p.c_out + first + u] - mean;
        squares += x * x;
    }
    let scale = inverseSqrt(total(local.x, squares) / f32(H) + p.epsilon);
    for (var u = local.x; u < H; u += 64u) {
        let at = first + u;
        let c_prev = c[p.c_in + at];
        var c_new = c[p.c_out + at];
        let seen = norm[2u * d * H + u] * (c_new - mean) * scale + norm[(2u * d + 1u) * H + u];
        let h_prev = h[p.h_in + at];
        var h_new = h[p.h_in + slot + at] * activate(KIND, p.alpha, p.beta, seen);
        if CARRIES >= 2u {
            if TRAIN == 1u {
                let chance = random_bits(vec2u(words[0], words[1]), vec2u(p.step * slot + at, p.site));
                h_new = select(h_new, h_prev, chance.x < p.zoneout_h);
                c_new = select(c_new, c_prev, chance.y < p.zoneout_c);
            } else {
                h_new += p.keep_h * (h_prev - h_new);
                c_new += p.keep_c * (c_prev - c_new);
            }
        }
        h[p.h_in + slot + at] = select(h_prev, h_new, on);
        c[p.c_out + at] = select(c_prev, c_new, on);
    }
}
