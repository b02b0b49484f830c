// What the sums of a dense layer's product become before they are stored: activation(sums + bias).

override ACTIVATION: u32;
override HAS_BIAS: u32; // 1: add the bias
override ALPHA: u32;    // α and β of the activation, as bits of f32
override BETA: u32;

@group(0) @binding(4) var<storage, read> bias: array<f32>; // [n]; one unused element without a bias

fn finished(sums: vec4f, columns: vec4u) -> vec4f {
    var z = sums;
    if HAS_BIAS == 1u {
        z += vec4f(bias[columns.x], bias[columns.y], bias[columns.z], bias[columns.w]);
    }
    let alpha = bitcast<f32>(ALPHA);
    let beta = bitcast<f32>(BETA);
    return vec4f(
        activate(ACTIVATION, alpha, beta, z.x),
        activate(ACTIVATION, alpha, beta, z.y),
        activate(ACTIVATION, alpha, beta, z.z),
        activate(ACTIVATION, alpha, beta, z.w),
    );
}
