// Terms of a forward step's recurrent product.

// h of a term of a row and head under its mask; 0 past the last term.
fn term(d: u32, row: u32, head: u32, k: u32) -> f32 {
    if k >= TERMS {
        return 0.0;
    }
    let at = (d * p.batch + row) * K + head * TERMS + k; // in a slot [D, B, K]
    var value = one_h(p.h_in + at);
    if DROP == 1u {
        value *= mask[at];
    }
    return value;
}

// h of four terms.
fn four_terms(d: u32, row: u32, head: u32, k: u32) -> vec4f {
    if TERMS % 4u != 0u || K % 4u != 0u {
        return vec4f(
            term(d, row, head, k),
            term(d, row, head, k + 1u),
            term(d, row, head, k + 2u),
            term(d, row, head, k + 3u),
        );
    }
    let at = (d * p.batch + row) * K + head * TERMS + min(k, max(TERMS, 4u) - 4u);
    var value = h[(p.h_in + at) / 4u];
    if DROP == 1u {
        value *= vec4f(mask[at], mask[at + 1u], mask[at + 2u], mask[at + 3u]);
    }
    return select(vec4f(), value, k < TERMS);
}
