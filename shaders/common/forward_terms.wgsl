// Terms of a forward step's recurrent product, and their weights.

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

// Weights of a unit's terms from the fourfold of `four` on. Terms past the last have h = 0, whatever their weights are; `all`: there are
// none.
fn kept(d: u32, unit: u32, four: u32, all: bool) -> Kept {
    if PACKED {
        let fours = max((TERMS + 3u) / 4u, 1u);
        let w = r[(d * fours + min(four, fours - 1u)) * H + unit];
        return Kept(w, w, w, w);
    }
    let k = 4u * four;
    if all {
        let at = (d * TERMS + k) * H + unit;
        return Kept(r[at], r[at + H], r[at + 2u * H], r[at + 3u * H]);
    }
    let at = unit + H * (d * TERMS + min(vec4u(k, k + 1u, k + 2u, k + 3u), vec4u(max(TERMS, 1u) - 1u)));
    return Kept(r[at.x], r[at.y], r[at.z], r[at.w]);
}

// A unit's recurrent product from the sum of its terms.
fn product_of(d: u32, unit: u32, sum: vec4f) -> vec4f {
    if PACKED && TERMS > 0u {
        return sum * factors(r[(p.directions * ((TERMS + 3u) / 4u) + d) * H + unit]);
    }
    return sum;
}
