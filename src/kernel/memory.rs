//! Copies and fills.

use super::declare::{kernel, params};
use super::{Call, NoConstants, Region, Touch};
use crate::cpu::Args;
use crate::real::Real;

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

/// Twin of `shaders/copy.wgsl`.
fn copy<F: Real>(call: &Call, args: &mut Args<F>) {
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

/// Rows and columns of the tiles by which a matrix is transposed: a row of a tile is one or two cache lines.
const TILE: u32 = 16;

/// Copies the two inner axes.
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
    if src_3 == 1 && dst_2 == 1 {
        return matrix(src, (from, src_3, src_2), dst, (to, dst_3, dst_2), (n3, n2), add);
    }
    let transposes = src_2 == 1 && dst_3 == 1 && src_3 >= 0 && dst_2 >= 0;
    for first2 in (0..n2).step_by(TILE as usize) {
        for first3 in (0..n3).step_by(TILE as usize) {
            let (own, into) = (place(from, first2, src_2), place(to, first2, dst_2));
            let (own, into) = (place(own, first3, src_3), place(into, first3, dst_3));
            let size = (TILE.min(n2 - first2), TILE.min(n3 - first3));
            if transposes && size == (TILE, TILE) {
                transpose(&src[own as usize..], src_3 as usize, &mut dst[into as usize..], dst_2 as usize, add);
                continue;
            }
            for i in 0..size.0 {
                for j in 0..size.1 {
                    let own = place(place(own, i, src_2), j, src_3) as usize;
                    let into = place(place(into, i, dst_2), j, dst_3) as usize;
                    dst[into] = if add { dst[into] + src[own] } else { src[own] };
                }
            }
        }
    }
}

/// Transposes a tile. Each row of both sides is touched once: rows with a stride of a power of two fall into the same few sets of a
/// cache, which would not keep them.
fn transpose<F: Real>(src: &[F], src_stride: usize, dst: &mut [F], dst_stride: usize, add: bool) {
    const N: usize = TILE as usize;
    let mut tile = [[F::zero(); N]; N];
    for (j, row) in tile.iter_mut().enumerate() {
        row.copy_from_slice(&src[j * src_stride..][..N]);
    }
    for i in 0..N {
        let into = &mut dst[i * dst_stride..][..N];
        for j in 0..N {
            into[j] = if add { into[j] + tile[j][i] } else { tile[j][i] };
        }
    }
}

params! {
    /// `dst[offset .. offset + n] = value`.
    Fill {
        /// First element.
        offset: u32,
        /// Elements.
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

/// Twin of `shaders/fill.wgsl`.
fn fill<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Fill = call.params();
    let ([], [dst], _) = args.parts(0);
    dst[p.offset as usize..][..p.n as usize].fill(F::of(p.value));
}
