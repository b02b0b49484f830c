// Elementwise kernels run over a grid of two dimensions, because one dimension has at most 65,535 workgroups.
const LANES = 256u;

fn linear_index(id: vec3u, groups: vec3u) -> u32 {
    return id.y * groups.x * LANES + id.x;
}
