// The factor that scales the gradients' norm down to at most max_norm, as torch.nn.utils.clip_grad_norm_ does.

struct Params {
    n: u32,
    max_norm: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> squares: array<f32>;     // [n] partial sums of squares
@group(0) @binding(2) var<storage, read_write> scale: array<f32>; // [2]: factor, norm

@compute @workgroup_size(1, 1, 1)
fn main() {
    var sum = 0.0;
    for (var i = 0u; i < p.n; i++) {
        sum += squares[i];
    }
    let norm = sqrt(sum);
    scale[0] = min(1.0, p.max_norm / (norm + 1e-6));
    scale[1] = norm;
}
