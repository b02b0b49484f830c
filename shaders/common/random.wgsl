// Threefry-2x32, 20 rounds. Twin of src/random.rs.

fn threefry_round(v: vec2u, rotation: u32) -> vec2u {
    let x = v.x + v.y;
    return vec2u(x, ((v.y << rotation) | (v.y >> (32u - rotation))) ^ x);
}

fn even_rounds(v: vec2u) -> vec2u {
    return threefry_round(threefry_round(threefry_round(threefry_round(v, 13u), 15u), 26u), 6u);
}

fn odd_rounds(v: vec2u) -> vec2u {
    return threefry_round(threefry_round(threefry_round(threefry_round(v, 17u), 29u), 16u), 24u);
}

// The bits at a counter for a key: two words.
fn random_bits(key: vec2u, counter: vec2u) -> vec2u {
    let third = 0x1bd11bdau ^ key.x ^ key.y;
    var v = even_rounds(counter + key) + vec2u(key.y, third + 1u);
    v = odd_rounds(v) + vec2u(third, key.x + 2u);
    v = even_rounds(v) + vec2u(key.x, key.y + 3u);
    v = odd_rounds(v) + vec2u(key.y, third + 4u);
    return even_rounds(v) + vec2u(third, key.x + 5u);
}
