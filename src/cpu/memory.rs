//! Copies and fills.

use super::Args;
use crate::kernel::{
    Call,
    params::{Fill, Half, StridedCopy},
};
use crate::real::Real;
use half::f16;

/// Twin of `shaders/copy.wgsl`.
pub fn copy<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: StridedCopy = call.params();
    let ([src], [dst], _) = args.parts(0);
    let at = |offset: u32, i: [u32; 2], strides: [i32; 2]| {
        offset as i64 + i[0] as i64 * strides[0] as i64 + i[1] as i64 * strides[1] as i64
    };
    for i0 in 0..p.n0 {
        for i1 in 0..p.n1 {
            let from = at(p.src_offset, [i0, i1], [p.src_0, p.src_1]);
            let to = at(p.dst_offset, [i0, i1], [p.dst_0, p.dst_1]);
            matrix(src, (from, p.src_2, p.src_3), dst, (to, p.dst_2, p.dst_3), (p.n2, p.n3), p.add == 1);
        }
    }
}

/// The two inner axes. Squares of 16 × 16 keep to a few cache lines where one side runs across its rows (a transpose).
fn matrix<F: Real>(
    src: &[F],
    (from, src_2, src_3): (i64, i32, i32),
    dst: &mut [F],
    (to, dst_2, dst_3): (i64, i32, i32),
    (n2, n3): (u32, u32),
    add: bool,
) {
    let place = |first: i64, i: u32, stride: i32| first + i as i64 * stride as i64;
    if src_3 == 1 && dst_3 == 1 {
        for i in 0..n2 {
            let own = &src[place(from, i, src_2) as usize..][..n3 as usize];
            let into = &mut dst[place(to, i, dst_2) as usize..][..n3 as usize];
            if add {
                into.iter_mut().zip(own).for_each(|(sum, &value)| *sum += value);
            } else {
                into.copy_from_slice(own);
            }
        }
        return;
    }
    const SQUARE: u32 = 16;
    for first2 in (0..n2).step_by(SQUARE as usize) {
        for first3 in (0..n3).step_by(SQUARE as usize) {
            for i in first2..n2.min(first2 + SQUARE) {
                let (own, into) = (place(from, i, src_2), place(to, i, dst_2));
                for j in first3..n3.min(first3 + SQUARE) {
                    let (own, into) = (place(own, j, src_3) as usize, place(into, j, dst_3) as usize);
                    dst[into] = if add { dst[into] + src[own] } else { src[own] };
                }
            }
        }
    }
}

/// Twin of `shaders/fill.wgsl`.
pub fn fill<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Fill = call.params();
    let ([], [dst], _) = args.parts(0);
    dst[p.offset as usize..][..p.n as usize].fill(F::of(p.value));
}

/// Twin of `shaders/half.wgsl`.
pub fn half<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Half = call.params();
    let ([src], [dst], _) = args.parts(0);
    for (word, pair) in dst[..p.n as usize].iter_mut().zip(src.as_chunks::<2>().0) {
        let [low, high] = pair.map(|value| f16::from_f64(value.to_f64().unwrap_or(f64::NAN)).to_bits() as u32);
        *word = F::of_word(low | high << 16);
    }
}

/// What [`half`] made, widened: for the twins of kernels that read f16. No plan of the CPU executor has these unless a test
/// asks for them.
pub(super) fn widened<F: Real>(words: &[F]) -> Vec<F> {
    let halves = words.iter().flat_map(|word| [word.word() as u16, (word.word() >> 16) as u16]);
    halves.map(|bits| F::of(f16::from_bits(bits).to_f32())).collect()
}
