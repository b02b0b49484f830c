// Elementwise kernels run over a grid of two dimensions, because one dimension has at most 65,535 workgroups.
const LANES = 256u;

fn linear_index(id: vec3u, groups: vec3u) -> u32 {
    return id.y * groups.x * LANES + id.x;
}

// Steps that TensorFlow's padding "same" puts in front of `steps` steps; twin of the function in src/kernel/shift.rs.
fn same_padding(steps: u32, window: u32, stride: u32) -> u32 {
    let windows = max((steps + stride - 1u) / stride, 1u);
    let whole = (windows - 1u) * stride + window;
    return (whole - min(whole, steps)) / 2u;
}
