// Weights of a forward step's recurrent product.

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
