//! Division of work and of buffers among threads.

use std::ops::Range;

/// Cuts `0..n` into at most `parts` ranges of about the same length, each but the last a multiple of `multiple`.
pub(super) fn share(n: usize, parts: usize, multiple: usize) -> impl Iterator<Item = Range<usize>> {
    let length = n.div_ceil(parts).next_multiple_of(multiple).max(1);
    (0..n).step_by(length).map(move |first| first..n.min(first + length))
}

/// A contiguous slice of a buffer, its receiver, and its index there.
pub(super) struct BufferSlice {
    pub at: usize,
    pub len: usize,
    pub to: usize,
    pub index: usize,
}

/// Deals disjoint slices of a buffer to `parts` receivers, each of which gets its slices in the order of `index`, from 0.
pub(super) fn deal<F>(buffer: &mut [F], mut slices: Vec<BufferSlice>, parts: usize) -> Vec<Vec<&mut [F]>> {
    let mut counts = vec![0; parts];
    for slice in &slices {
        counts[slice.to] += 1;
    }
    let mut dealt: Vec<Vec<&mut [F]>> =
        counts.into_iter().map(|count| (0..count).map(|_| Default::default()).collect()).collect();
    if !slices.is_sorted_by_key(|slice| slice.at) {
        slices.sort_unstable_by_key(|slice| slice.at);
    }
    let (mut rest, mut at) = (buffer, 0);
    for slice in slices {
        let (own, after) = std::mem::take(&mut rest)[slice.at - at..].split_at_mut(slice.len);
        dealt[slice.to][slice.index] = own;
        (rest, at) = (after, slice.at + slice.len);
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_and_keep_to_multiples() {
        for n in [0, 1, 5, 16, 33, 100] {
            for parts in 1..5 {
                let all: Vec<_> = share(n, parts, 4).collect();
                assert!(all.len() <= parts && all.iter().rev().skip(1).all(|range| range.len() % 4 == 0));
                assert_eq!(all.into_iter().flatten().collect::<Vec<_>>(), (0..n).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn slices_are_dealt_in_any_order_of_address() {
        let mut buffer: Vec<u32> = (0..10).collect();
        let slice = |at, len, to, index| BufferSlice { at, len, to, index };
        let dealt = deal(&mut buffer, vec![slice(7, 2, 0, 0), slice(4, 2, 1, 0), slice(1, 3, 0, 1)], 2);
        assert_eq!(dealt, vec![vec![&mut [7, 8][..], &mut [1, 2, 3]], vec![&mut [4, 5][..]]]);
    }
}
