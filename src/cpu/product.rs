//! Matrix products on the CPU: the one place that calls a library for them.

use super::Args;
use crate::kernel::{Call, params::Matmul};
use crate::real::Real;
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, Axis, ShapeBuilder};

/// A matrix in a slice: first element, rows and columns, and their strides, which may be negative.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub offset: i64,
    pub size: (usize, usize),
    pub strides: (i64, i64),
}

impl Layout {
    /// Rows one after another.
    pub fn rows(offset: usize, rows: usize, columns: usize) -> Layout {
        Layout { offset: offset as i64, size: (rows, columns), strides: (columns as i64, 1) }
    }

    /// The element with the lowest address: views start there, and axes that run backwards are turned round.
    fn base(&self) -> usize {
        let back = |n: usize, stride: i64| if stride < 0 { (n as i64 - 1) * stride } else { 0 };
        (self.offset + back(self.size.0, self.strides.0) + back(self.size.1, self.strides.1)) as usize
    }

    fn shape(&self) -> ndarray::StrideShape<ndarray::Ix2> {
        self.size.strides((self.strides.0.unsigned_abs() as usize, self.strides.1.unsigned_abs() as usize))
    }

    fn view<F>(self, data: &[F]) -> ArrayView2<'_, F> {
        // The plan's check has proven that the matrix lies inside the buffer.
        let mut view = ArrayView2::from_shape(self.shape(), &data[self.base()..]).expect("a matrix inside its buffer");
        self.turn(|axis| view.invert_axis(axis));
        view
    }

    fn view_mut<F>(self, data: &mut [F]) -> ArrayViewMut2<'_, F> {
        let mut view =
            ArrayViewMut2::from_shape(self.shape(), &mut data[self.base()..]).expect("a matrix inside its buffer");
        self.turn(|axis| view.invert_axis(axis));
        view
    }

    fn turn(&self, mut invert: impl FnMut(Axis)) {
        if self.strides.0 < 0 {
            invert(Axis(0));
        }
        if self.strides.1 < 0 {
            invert(Axis(1));
        }
    }
}

/// C = A·B, or C += A·B.
pub(super) fn product<F: Real>(a: &[F], la: Layout, b: &[F], lb: Layout, c: &mut [F], lc: Layout, accumulate: bool) {
    let beta = if accumulate { F::one() } else { F::zero() };
    general_mat_mul(F::one(), &la.view(a), &lb.view(b), beta, &mut lc.view_mut(c));
}

/// An axis of n indices split in two is one axis where the strides allow it. Returns (outer size, inner size, inner
/// strides) with outer size 1 in that case.
fn merge<const N: usize>(n: u32, split: u32, hi: [i32; N], lo: [i32; N]) -> (usize, usize, [i64; N]) {
    let (n, split) = (n as usize, split as usize);
    let wide = |strides: [i32; N]| strides.map(i64::from);
    if n <= split || (0..N).all(|k| hi[k] as i64 == lo[k] as i64 * split as i64) {
        (1, n, wide(lo))
    } else if split == 1 {
        (1, n, wide(hi))
    } else {
        (n.div_ceil(split), split, wide(lo))
    }
}

/// Twin of `shaders/matmul.wgsl`.
pub fn matmul<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Matmul = call.params();
    let ([a, b, c], _) = args.parts(0);
    let (m_outer, m_inner, [a_m, c_m]) = merge(p.m, p.m_split, [p.a_m_hi, p.c_m_hi], [p.a_m_lo, p.c_m_lo]);
    let (k_outer, k_inner, [a_k, b_k]) = merge(p.k, p.k_split, [p.a_k_hi, p.b_k_hi], [p.a_k_lo, p.b_k_lo]);
    for i in 0..m_outer {
        let rows = m_inner.min(p.m as usize - i * m_inner);
        for j in 0..k_outer {
            let terms = k_inner.min(p.k as usize - j * k_inner);
            let at =
                |offset: u32, m_hi: i32, k_hi: i32| offset as i64 + i as i64 * m_hi as i64 + j as i64 * k_hi as i64;
            let la = Layout { offset: at(p.a_offset, p.a_m_hi, p.a_k_hi), size: (rows, terms), strides: (a_m, a_k) };
            let lb = Layout {
                offset: at(p.b_offset, 0, p.b_k_hi),
                size: (terms, p.n as usize),
                strides: (b_k, p.b_n as i64),
            };
            let lc = Layout { offset: at(p.c_offset, p.c_m_hi, 0), size: (rows, p.n as usize), strides: (c_m, 1) };
            product(a, la, b, lb, c, lc, p.accumulate == 1 || j > 0);
        }
    }
}
