//! Copies, fills and conversions.

use super::declare::{kernel, params};
use super::{NoConstants, Region, Touch};
use crate::cpu::{carry, copy, fill, half, trim};

params! {
    /// `dst[s, b, f] = src[s, b, f]` where the time of step s is before the row's length, else 0.
    Trim {
        /// Steps.
        steps: u32,
        /// B.
        batch: u32,
        /// Features of a row.
        features: u32,
        /// First element of the source.
        src_offset: u32,
        /// Source stride of a step.
        src_step: i32,
        /// Source stride of a row.
        src_row: i32,
        /// First element of the destination.
        dst_offset: u32,
        /// Destination stride of a step.
        dst_step: i32,
        /// Destination stride of a row.
        dst_row: i32,
        /// Time of the first step.
        time: u32,
        /// From one step's time to the next: 1 or −1.
        time_step: i32,
    }
}

kernel! {
    /// Copy of a sequence with zeros past each row's end.
    TRIM = trim(Trim, NoConstants) {
        bindings: [read words, read src, write dst],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.steps, p.batch, p.features], flops: 0,
        touches: |p| p.touches(),
    }
}

impl Trim {
    fn touches(&self) -> Vec<Touch> {
        let axes = |step: i32, row: i32| [(self.steps, step), (self.batch, row), (self.features, 1)];
        vec![
            Touch::reads(Region::span(2, 1, self.batch)),
            Touch::reads(Region::strided(self.src_offset, axes(self.src_step, self.src_row))),
            Touch::writes(Region::strided(self.dst_offset, axes(self.dst_step, self.dst_row))),
        ]
    }
}

params! {
    /// `dst[d, b, f]`, or what is added to it, of rows whose sequence does not hold a step's time.
    Carry {
        /// B.
        batch: u32,
        /// D.
        directions: u32,
        /// Features of a row.
        features: u32,
        /// First element of the source [D, B, features].
        src_offset: u32,
        /// First element of the destination.
        dst_offset: u32,
        /// The step of the scan.
        step: u32,
        /// T.
        total_steps: u32,
        /// 1: direction 0 runs from the end of time.
        backwards: u32,
        /// 1: add to the destination; 0: overwrite it.
        add: u32,
    }
}

kernel! {
    /// States, or their gradients, of rows whose sequence does not hold a time.
    CARRY = carry(Carry, NoConstants) {
        bindings: [read words, read src, write dst],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.directions, p.batch, p.features], flops: 0,
        touches: |p| p.touches(),
    }
}

impl Carry {
    fn touches(&self) -> Vec<Touch> {
        let rows = |at: u32| Region::span(at, self.directions * self.batch, self.features);
        vec![
            Touch::reads(Region::span(2, 1, self.batch)),
            Touch::reads(rows(self.src_offset)),
            Touch::updates(rows(self.dst_offset), true),
        ]
    }
}

params! {
    /// `dst[i] = src[i]`, or `dst[i] += src[i]`, over a block `[n0, n1, n2, n3]` with free strides.
    StridedCopy {
        /// Outermost size.
        n0: u32,
        /// Second size.
        n1: u32,
        /// Third size.
        n2: u32,
        /// Innermost size.
        n3: u32,
        /// First element of the source.
        src_offset: u32,
        /// Source stride of n0.
        src_0: i32,
        /// Source stride of n1.
        src_1: i32,
        /// Source stride of n2.
        src_2: i32,
        /// Source stride of n3.
        src_3: i32,
        /// First element of the destination.
        dst_offset: u32,
        /// Destination stride of n0.
        dst_0: i32,
        /// Destination stride of n1.
        dst_1: i32,
        /// Destination stride of n2.
        dst_2: i32,
        /// Destination stride of n3.
        dst_3: i32,
        /// 1: add to the destination; 0: overwrite it.
        add: u32,
    }
}

kernel! {
    /// Strided copy or accumulation of a four-dimensional block.
    COPY = copy(StridedCopy, NoConstants) {
        bindings: [read src, write dst],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.n0, p.n1, p.n2, p.n3], flops: p.add as u64,
        touches: |p| p.touches(),
    }
}

impl StridedCopy {
    fn touches(&self) -> Vec<Touch> {
        let sizes = [self.n0, self.n1, self.n2, self.n3];
        let axes = |strides: [i32; 4]| std::array::from_fn::<_, 4, _>(|k| (sizes[k], strides[k]));
        let (src, dst) =
            ([self.src_0, self.src_1, self.src_2, self.src_3], [self.dst_0, self.dst_1, self.dst_2, self.dst_3]);
        vec![
            Touch::reads(Region::strided(self.src_offset, axes(src))),
            Touch::updates(Region::strided(self.dst_offset, axes(dst)), self.add == 1),
        ]
    }
}

params! {
    /// `dst[offset .. offset + n] = value`.
    Fill {
        /// First element.
        offset: u32,
        /// How many.
        n: u32,
        /// The value.
        value: f32,
    }
}

kernel! {
    /// Sets a range to one value.
    FILL = fill(Fill, NoConstants) {
        bindings: [write dst],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.n], flops: 0,
        touches: |p| [Touch::writes(Region::span(p.offset, 1, p.n))],
    }
}

params! {
    /// `dst[k]` = `src[2k]` and `src[2k + 1]` in f16.
    Half {
        /// Pairs.
        n: u32,
    }
}

kernel! {
    /// Numbers rounded to f16, two to an element.
    HALF = half(Half, NoConstants) {
        bindings: [read src, write dst],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.n], flops: 0,
        touches: |p| [Touch::reads(Region::span(0, 1, 2 * p.n)), Touch::writes(Region::span(0, 1, p.n))],
    }
}
