// What the sums of a product become before they are stored: nothing else.
fn finished(sums: vec4f, columns: vec4u) -> vec4f {
    return sums;
}
