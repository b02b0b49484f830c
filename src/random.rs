//! Random bits by counter: the same number for the same place, whoever asks and when. So a mask need not be kept: forward
//! and backward, the CPU and every GPU make it again.
//!
//! Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"), which
//! takes only additions, rotations and exclusive ors of 32 bits. Twin of `shaders/common/random.wgsl`.
//!
//! ```
//! use wgpu_lstm::random::{bits, threshold};
//! let key = [42, 7]; // a seed and the step of training
//! let dropped = (0..1000).filter(|&k| bits(key, [k, 0])[0] < threshold(0.3)).count();
//! assert!((250..350).contains(&dropped));
//! ```

/// Rotations of the eight rounds that repeat.
const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];

/// The bits at a counter for a key: two words.
pub fn bits(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    let keys = [key[0], key[1], 0x1bd1_1bda ^ key[0] ^ key[1]];
    let [mut x, mut y] = [counter[0].wrapping_add(key[0]), counter[1].wrapping_add(key[1])];
    for group in 0..5 {
        for rotation in &ROTATIONS[group % 2 * 4..][..4] {
            x = x.wrapping_add(y);
            y = y.rotate_left(*rotation) ^ x;
        }
        let next = group + 1;
        x = x.wrapping_add(keys[next % 3]);
        y = y.wrapping_add(keys[(next + 1) % 3]).wrapping_add(next as u32);
    }
    [x, y]
}

/// Bits below this come with the given probability, 0 to below 1.
pub fn threshold(probability: f64) -> u32 {
    (probability * 4_294_967_296.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of Random123 (kat_vectors, threefry2x32 20).
    #[test]
    fn known_answers() {
        assert_eq!(bits([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(bits([!0, !0], [!0, !0]), [0x1cb9_96fc, 0xbb00_2be7]);
        assert_eq!(bits([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]), [0xc492_3a9c, 0x483d_f7a0]);
    }

    #[test]
    fn bits_are_spread_evenly() {
        let count = 100_000;
        let mut ones = [0u32; 32];
        for k in 0..count {
            let word = bits([1, 2], [k, 3])[k as usize % 2];
            ones.iter_mut().enumerate().for_each(|(bit, sum)| *sum += word >> bit & 1);
        }
        // five standard deviations of a fair coin
        let limit = 5.0 * (f64::from(count) / 4.0).sqrt();
        assert!(ones.iter().all(|&sum| (f64::from(sum) - f64::from(count) / 2.0).abs() < limit), "{ones:?}");
    }
}
