// The axis of terms of the products whose kernels are compiled for one level or for two.

override K_SPLIT: u32; // 1: k has two levels; 0: k_split is not less than k

// Offset of a term.
fn along_k(k: u32, hi: i32, lo: i32) -> i32 {
    if K_SPLIT == 0u {
        return i32(k) * lo;
    }
    return split(k, p.k_split, hi, lo);
}
