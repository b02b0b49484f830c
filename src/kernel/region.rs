//! Elements that a call reads and writes.

/// Elements of a buffer: a block of up to four axes with strides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    offset: u32,
    /// Size and stride of each axis.
    axes: [(u32, i32); 4],
}

/// Reads and writes of one buffer of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touch {
    /// Elements read.
    pub read: Option<Region>,
    /// Elements written.
    pub write: Option<Region>,
}

impl Region {
    /// A block with strides.
    pub(super) fn strided<const N: usize>(offset: u32, axes: [(u32, i32); N]) -> Region {
        let mut all = [(1, 0); 4];
        all[4 - N..].copy_from_slice(&axes);
        Region { offset, axes: all }
    }

    /// Contiguous elements, counted as rows times columns since their number may pass 32 bits.
    pub(super) fn span(offset: u32, rows: u32, columns: u32) -> Region {
        Region::strided(offset, [(rows, columns as i32), (columns, 1)])
    }

    /// Number of elements, `u64::MAX` if there are more.
    pub fn len(&self) -> u64 {
        self.axes.iter().fold(1, |len: u64, &(n, _)| len.saturating_mul(n as u64))
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.axes.iter().any(|&(n, _)| n == 0)
    }

    /// First element, and one past the last. A block that would begin before its buffer has no sensible bounds: they
    /// are then larger than any buffer.
    pub fn bounds(&self) -> std::ops::Range<u64> {
        if self.is_empty() {
            return 0..0;
        }
        // Four products of 32-bit numbers pass 64 bits.
        let (mut low, mut high) = (self.offset as i128, self.offset as i128);
        for &(n, stride) in &self.axes {
            let reach = (n as i128 - 1) * stride as i128;
            low += reach.min(0);
            high += reach.max(0);
        }
        match (u64::try_from(low), u64::try_from(high)) {
            (Ok(low), Ok(high)) if high < u64::MAX => low..high + 1,
            _ => 0..u64::MAX,
        }
    }

    /// Every element.
    pub fn elements(&self) -> impl Iterator<Item = u64> {
        let Region { offset, axes: [a, b, c, d] } = *self;
        let at = move |axis: (u32, i32), index: u32| axis.1 as i64 * index as i64;
        (0..a.0).flat_map(move |i| {
            (0..b.0).flat_map(move |j| {
                (0..c.0).flat_map(move |k| {
                    (0..d.0).map(move |l| (offset as i64 + at(a, i) + at(b, j) + at(c, k) + at(d, l)) as u64)
                })
            })
        })
    }
}

impl Touch {
    pub(super) fn none() -> Touch {
        Touch::default()
    }

    pub(super) fn reads(region: Region) -> Touch {
        Touch { read: Some(region), write: None }
    }

    pub(super) fn writes(region: Region) -> Touch {
        Touch { read: None, write: Some(region) }
    }

    /// Writes a region, and reads it before that if `also_reads`.
    pub(super) fn updates(region: Region, also_reads: bool) -> Touch {
        Touch { read: also_reads.then_some(region), write: Some(region) }
    }

    /// Elements read and elements written, together.
    pub fn len(&self) -> u64 {
        [self.read, self.write].iter().flatten().fold(0, |len: u64, region| len.saturating_add(region.len()))
    }

    /// True if the buffer is bound but not used.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One past the last element touched.
    pub fn end(&self) -> u64 {
        [self.read, self.write].iter().flatten().map(|region| region.bounds().end).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_all_elements() {
        let region = Region::strided(20, [(3, -6), (2, 4), (2, 1)]);
        let elements: Vec<u64> = region.elements().collect();
        assert_eq!(elements.len() as u64, region.len());
        let bounds = *elements.iter().min().unwrap()..elements.iter().max().unwrap() + 1;
        assert_eq!(region.bounds(), bounds);
        assert_eq!(bounds, 8..26);
        assert_eq!(Region::strided(5, [(3, -6)]).bounds().end, u64::MAX);
        assert!(Region::span(7, 0, 3).is_empty());
        // Sizes and bounds that pass 64 bits saturate.
        let huge = Region::strided(0, [(u32::MAX, i32::MAX); 4]);
        assert_eq!((huge.len(), huge.bounds().end), (u64::MAX, u64::MAX));
        let powers = Region::strided(0, [(1 << 16, 0); 4]);
        assert!(!powers.is_empty() && powers.len() == u64::MAX && powers.bounds() == (0..1));
    }
}
