// Weights as whole numbers from -127 to 127 with a factor for each gate of a unit, the largest of its weights / 127. The terms of a
// unit are packed by fours; terms past the last are 0.

struct Params {
    directions: u32,
    terms: u32,
    units: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> src: array<vec4f>;       // [D, terms, units] of 4 gates
@group(0) @binding(2) var<storage, read_write> dst: array<vec4u>; // [D, fours of terms, units] of 4 gates; factors [D, units] of 4 gates

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let i = linear_index(id, groups); // [D, units]
    if i >= p.directions * p.units {
        return;
    }
    let d = i / p.units;
    let unit = i % p.units;
    var largest = vec4f();
    for (var k = 0u; k < p.terms; k++) {
        largest = max(largest, abs(src[(d * p.terms + k) * p.units + unit]));
    }
    let factor = largest / 127.0;
    let inverse = select(vec4f(1.0) / factor, vec4f(), factor == vec4f());
    let fours = (p.terms + 3u) / 4u;
    for (var four = 0u; four < fours; four++) {
        var packed = vec4u();
        for (var n = 0u; n < 4u && 4u * four + n < p.terms; n++) {
            let value = src[(d * p.terms + 4u * four + n) * p.units + unit];
            let whole = vec4i(clamp(round(value * inverse), vec4f(-127.0), vec4f(127.0)));
            packed |= (vec4u(whole) & vec4u(0xffu)) << vec4u(8u * n);
        }
        dst[(d * fours + four) * p.units + unit] = packed;
    }
    dst[p.directions * fours * p.units + i] = bitcast<vec4u>(factor);
}
