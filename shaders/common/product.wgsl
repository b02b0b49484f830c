// Parameters of the matrix products, and addresses on their axes.

struct Params {
    m: u32,
    n: u32,
    k: u32,
    accumulate: u32,
    m_split: u32,
    k_split: u32,
    a_offset: u32,
    a_m_hi: i32,
    a_m_lo: i32,
    a_k_hi: i32,
    a_k_lo: i32,
    b_offset: u32,
    b_k_hi: i32,
    b_k_lo: i32,
    b_n: i32,
    c_offset: u32,
    c_m_hi: i32,
    c_m_lo: i32,
    part: u32,
    c_part: u32,
}

@group(0) @binding(0) var<uniform> p: Params;

fn split(index: u32, size: u32, hi: i32, lo: i32) -> i32 {
    return i32(index / size) * hi + i32(index % size) * lo;
}
