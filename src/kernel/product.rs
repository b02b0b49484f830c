//! Matrix products.

use super::declare::{constants, kernel, params};
use super::dense::add_and_activate;
use super::{Call, Region, Touch, split_axis};
use crate::activation::Shape;
use crate::cpu::{Args, matmul};
use crate::real::Real;
use half::f16;

params! {
    /// C[m, n] (+)= Σ_k A[m, k]·B[k, n]. The axes m and k are split in two (m / m_split, m % m_split), each part with
    /// its own stride, so that rows (t, b) of a sequence can be read in either direction of time and from any layout.
    Matmul {
        /// Rows of C.
        m: u32,
        /// Columns of C.
        n: u32,
        /// Terms of each sum.
        k: u32,
        /// 1: add to C; 0: overwrite it.
        accumulate: u32,
        /// Inner size of the axis m.
        m_split: u32,
        /// Inner size of the axis k.
        k_split: u32,
        /// First element of A.
        a_offset: u32,
        /// Stride of A by m / m_split.
        a_m_hi: i32,
        /// Stride of A by m % m_split.
        a_m_lo: i32,
        /// Stride of A by k / k_split.
        a_k_hi: i32,
        /// Stride of A by k % k_split.
        a_k_lo: i32,
        /// First element of B.
        b_offset: u32,
        /// Stride of B by k / k_split.
        b_k_hi: i32,
        /// Stride of B by k % k_split.
        b_k_lo: i32,
        /// Stride of B by n.
        b_n: i32,
        /// First element of C.
        c_offset: u32,
        /// Stride of C by m / m_split.
        c_m_hi: i32,
        /// Stride of C by m % m_split; columns are contiguous.
        c_m_lo: i32,
        /// Terms that a workgroup sums; another workgroup sums the next ones, into another part of C. A multiple of k_split
        /// unless that is k. 0: all.
        part: u32,
        /// Stride of C by part.
        c_part: u32,
    }
}

constants! {
    /// Constants of [`MATMUL`].
    MatmulConstants {
        /// Rows of C that a workgroup computes: 64 or 128.
        rows: u32,
        /// Columns of C that a workgroup computes: 64, or 128 with 128 rows.
        columns: u32,
        /// Terms that pass through workgroup memory at once: 16, or 8 with 128 columns.
        depth: u32,
        /// True if neighbouring threads load neighbouring terms of a row of A, false if rows of a term.
        a_along_k: bool,
        /// True if neighbouring threads load neighbouring columns of a term of B, false if terms of a column.
        b_along_n: bool,
        /// True if k has two levels; false only where `k_split` is at least `k`.
        k_split: bool,
    }
}

kernel! {
    /// Matrix product with two-level row addressing, so that it reads sequences in either direction of time.
    MATMUL = matmul(Matmul, MatmulConstants) {
        bindings: [read a, read b, write c],
        workgroup: [16, 16, 1],
        groups: |p, c| p.groups(c.rows, c.columns),
        flops: |p| p.flops(),
        touches: |p, c| if p.takes(c) { p.touches() } else { Vec::new() },
        parts: ["product", "product_terms"],
    }
}

constants! {
    /// Constants of [`MATMUL_SKINNY`].
    MatmulSkinnyConstants {
        /// Rows of C that a thread computes: 1, 2, 4, 8 or 16, at least all.
        rows: u32,
        /// Threads that share the terms of a sum: 4, 8, 16, or 32 with up to 8 rows; 256 / `shares` threads have 4 columns of C each.
        shares: u32,
        /// True if four columns of a term of B lie side by side, false if four terms of a column do.
        b_along_n: bool,
        /// True if k has two levels, the inner one a multiple of 4; false only where `k_split` is at least `k`.
        k_split: bool,
    }
}

kernel! {
    /// The same product for up to 16 rows: each load of B serves all of them, and threads share the terms of a sum.
    MATMUL_SKINNY = matmul_skinny(Matmul, MatmulSkinnyConstants) {
        bindings: [read a, read b, write c],
        workgroup: [256, 1, 1],
        groups: |p, c| p.groups(16, 1024 / c.shares.max(1)),
        flops: |p| p.flops(),
        touches: |p, c| if p.skinny(c.shares) == Some(c) { p.touches() } else { Vec::new() },
        twin: matmul,
        parts: ["product", "product_terms", "product_sums"],
    }
}

constants! {
    /// Constants of [`MATMUL_SKINNY_DENSE`].
    MatmulSkinnyDenseConstants like MatmulSkinnyConstants {
        /// Kind of the activation.
        activation: u32,
        /// True if the bias is added.
        has_bias: bool,
        /// α of the activation.
        alpha: f32,
        /// β of the activation.
        beta: f32,
    }
}

kernel! {
    /// [`MATMUL_SKINNY`] of a dense layer: C = activation(A·B + bias).
    MATMUL_SKINNY_DENSE = matmul_skinny_dense(Matmul, MatmulSkinnyDenseConstants) {
        bindings: [read a, read b, write c, read bias],
        workgroup: [256, 1, 1],
        groups: |p, c| p.groups(16, 1024 / c.common.shares.max(1)),
        flops: |p| p.flops() + 4 * p.m as u64 * p.n as u64,
        touches: |p, c| {
            let mut touches = p.touches();
            touches.push(Touch::reads(Region::span(0, c.has_bias as u32, p.n)));
            let whole = [p.part, p.accumulate] == [0, 0];
            if whole && p.skinny(c.common.shares) == Some(c.common) { touches } else { Vec::new() }
        },
        file: "matmul_skinny",
        parts: ["product", "product_terms", "dense_sums"],
    }
}

/// Twin of [`MATMUL_SKINNY_DENSE`]: the product, then bias and activation.
fn matmul_skinny_dense<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Matmul = call.params();
    let MatmulSkinnyDenseConstants { activation: kind, has_bias, alpha, beta, .. } = call.constants();
    let product = &mut Args {
        buffers: &mut args.buffers[..3],
        bindings: &args.bindings[..3],
        weights: &args.weights[..3],
        scratch: args.scratch,
        lacking: args.lacking,
        team: args.team,
    };
    matmul(call, product);
    if args.lacking.is_some() {
        return;
    }
    let ([_, _, bias], [c], _) = args.parts(0);
    let activation = Shape { kind, alpha, beta };
    for m in 0..p.m {
        let (hi, lo) = ((m / p.m_split) as i32, (m % p.m_split) as i32);
        let first = p.c_offset as i64 + hi as i64 * p.c_m_hi as i64 + lo as i64 * p.c_m_lo as i64;
        let row = &mut c[first as usize..][..p.n as usize];
        add_and_activate(row, has_bias.then_some(bias), activation);
    }
}

constants! {
    /// Constants of [`MATMUL_REGISTERS`].
    MatmulRegistersConstants {
        /// Rows of C that a thread computes: 8, 4, or 1 (with `a_along_k`).
        rows: u32,
        /// True if four terms of a row of A lie side by side, false if four rows of a term do.
        a_along_k: bool,
        /// True if four columns of a term of B lie side by side, false if four terms of a column do.
        b_along_n: bool,
    }
}

kernel! {
    /// The same product without workgroup memory, where sizes and strides are multiples of 4.
    MATMUL_REGISTERS = matmul_registers(Matmul, MatmulRegistersConstants) {
        bindings: [read a, read b, write c],
        workgroup: [16, 4, 1],
        groups: |p, c| p.groups(4 * c.rows, 128),
        flops: |p| p.flops(),
        touches: |p, c| if p.fours() == Some(c) { p.touches() } else { Vec::new() }, // refused where alignments are not as promised
        twin: matmul,
        parts: ["product"],
    }
}

constants! {
    /// Constants of [`MATMUL_COOPERATIVE_8`].
    MatmulCooperative8Constants {
        /// Threads of a workgroup: four of the device's largest subgroups.
        threads: u32,
        /// Terms that pass through workgroup memory at once: as many as make 16 elements a thread.
        depth: u32,
        /// True if neighbouring threads load neighbouring terms of a row of A, false if rows of a term.
        a_along_k: bool,
        /// True if neighbouring threads load neighbouring columns of a term of B, false if terms of a column.
        b_along_n: bool,
        /// True if k has two levels; false only where `k_split` is at least `k`.
        k_split: bool,
    }
}

constants! {
    /// Constants of [`MATMUL_COOPERATIVE_16`].
    MatmulCooperative16Constants {
        /// Threads of a workgroup: four of the device's largest subgroups, 128 or 256.
        threads: u32,
        /// True if four columns of a term of B lie side by side, false if four terms of a column do.
        b_along_n: bool,
        /// True if k has two levels, the inner one a multiple of 4; false only where `k_split` is at least `k`.
        k_split: bool,
    }
}

/// Extensions of WGSL for products by cooperative matrices.
const COOPERATIVE: &[&str] = &["f16", "wgpu_cooperative_matrix"];

kernel! {
    /// The same product with operands rounded to f16, by cooperative matrices of 8 × 8: a workgroup has 64 × 64 elements of C.
    MATMUL_COOPERATIVE_8 = matmul_cooperative_8(Matmul, MatmulCooperative8Constants) {
        bindings: [read a, read b, write c],
        workgroup: [0, 1, 1],
        groups: |p, c| p.groups(64, 64),
        flops: |p| p.flops(),
        touches: |p, c| if p.takes_cooperative_8(c) { p.touches() } else { Vec::new() },
        twin: matmul_rounded,
        parts: ["product", "product_terms"],
        enables: COOPERATIVE,
    }
}

kernel! {
    /// The same by cooperative matrices of 16 × 16, where operands come by fours.
    MATMUL_COOPERATIVE_16 = matmul_cooperative_16(Matmul, MatmulCooperative16Constants) {
        bindings: [read a, read b, write c],
        workgroup: [0, 1, 1],
        groups: |p, c| p.groups(64, 64),
        flops: |p| p.flops(),
        touches: |p, c| if p.takes_cooperative_16(c) { p.touches() } else { Vec::new() },
        twin: matmul_rounded,
        parts: ["product", "product_terms"],
        enables: COOPERATIVE,
    }
}

/// Terms that a workgroup of the products by cooperative matrices sums at most. Some drivers end a shader's loops after 65,535
/// iterations, counted over nested loops together, and these take up to 58 iterations for 8 terms.
const MOST_COOPERATIVE_TERMS: u32 = 1 << 13;

impl Matmul {
    /// C = A·B, all three row-major.
    pub fn plain(m: u32, n: u32, k: u32) -> Matmul {
        Matmul {
            m,
            n,
            k,
            accumulate: 0,
            m_split: m,
            k_split: k,
            a_offset: 0,
            a_m_hi: 0,
            a_m_lo: k as i32,
            a_k_hi: 0,
            a_k_lo: 1,
            b_offset: 0,
            b_k_hi: 0,
            b_k_lo: n as i32,
            b_n: 1,
            c_offset: 0,
            c_m_hi: 0,
            c_m_lo: n as i32,
            part: 0,
            c_part: 0,
        }
    }

    /// Constants with which [`MATMUL_REGISTERS`] computes this product by loads of four elements; `None` if sizes or strides
    /// do not allow them.
    pub fn fours(&self) -> Option<MatmulRegistersConstants> {
        let four = |values: &[i64]| values.iter().all(|value| value % 4 == 0);
        let [k, m] = [self.k.min(self.k_split), self.m.min(self.m_split)].map(i64::from);
        let [a_k_hi, a_k_lo, a_m_hi, a_m_lo] = [self.a_k_hi, self.a_k_lo, self.a_m_hi, self.a_m_lo].map(i64::from);
        let [b_k_hi, b_k_lo, b_n] = [self.b_k_hi, self.b_k_lo, self.b_n].map(i64::from);
        let [a, b, c, n, all_m, all_k] =
            [self.a_offset, self.b_offset, self.c_offset, self.n, self.m, self.k].map(i64::from);
        // strides of an axis of one part do not matter
        let a_m_hi = if self.m <= self.m_split { 0 } else { a_m_hi };
        let (a_k_hi, b_k_hi) = if self.k <= self.k_split { (0, 0) } else { (a_k_hi, b_k_hi) };
        let c_m_hi = if self.m <= self.m_split { 0 } else { self.c_m_hi.into() };
        if !four(&[a, b, c, n, c_m_hi, self.c_m_lo.into(), a_k_hi, b_k_hi, a_m_hi]) {
            return None;
        }
        let along_k = a_k_lo == 1 && four(&[k, all_k, a_m_lo]);
        let along_m = a_m_lo == 1 && four(&[m, all_m, a_k_lo]);
        let along_n = b_n == 1 && four(&[b_k_lo]);
        let down_k = b_k_lo == 1 && four(&[k, all_k, b_n]);
        let rows = match self.m {
            1 if along_k => 1,
            ..=4 => 4,
            _ => 8,
        };
        let constants = MatmulRegistersConstants { rows, a_along_k: along_k, b_along_n: along_n };
        ((along_k || along_m) && (along_n || down_k)).then_some(constants)
    }

    /// Terms of a tile that is `columns` wide, of which workgroup memory holds one of A and one of B.
    pub(crate) fn depth(columns: u32) -> u32 {
        if columns == 128 { 8 } else { 16 }
    }

    /// Constants with which [`MATMUL`] computes this product by tiles of that size: 64 × 64, 128 × 64 or 128 × 128.
    pub fn tiles(&self, rows: u32, columns: u32) -> MatmulConstants {
        MatmulConstants {
            rows,
            columns,
            depth: Matmul::depth(columns),
            a_along_k: self.a_k_lo.unsigned_abs() <= self.a_m_lo.unsigned_abs(),
            b_along_n: self.b_n.unsigned_abs() <= self.b_k_lo.unsigned_abs(),
            k_split: self.k_split < self.k,
        }
    }

    /// True if [`MATMUL`] computes this product with those constants. Along which axis threads load is a matter of speed.
    fn takes(&self, c: MatmulConstants) -> bool {
        let size = [(64, 64), (128, 64), (128, 128)].contains(&(c.rows, c.columns));
        size && c.depth == Matmul::depth(c.columns) && (c.k_split || self.k_split >= self.k)
    }

    /// Constants with which [`MATMUL_SKINNY`] computes this product, with `shares` threads for the terms of a sum; `None` if it has
    /// too many rows, or sizes or strides that do not allow loads of four elements of B: four terms of any number of columns, or
    /// columns by fours.
    pub fn skinny(&self, shares: u32) -> Option<MatmulSkinnyConstants> {
        let four = |values: &[i64]| values.iter().all(|value| value % 4 == 0);
        let [b_k_hi, b_k_lo, b_n, offset] =
            [self.b_k_hi.into(), self.b_k_lo.into(), self.b_n.into(), self.b_offset.into()];
        let [n, k, inner, part] = [self.n, self.k, self.k_split, self.part].map(i64::from);
        let split = inner < k;
        let along_n = b_n == 1 && four(&[b_k_lo, n]);
        let down_k = b_k_lo == 1 && four(&[b_n, k]);
        let fits = four(&[offset, part]) && (!split || four(&[inner, k, b_k_hi])) && (along_n || down_k);
        let rows = self.m.next_power_of_two();
        let most = rows <= 16 && k >= 4 && [4, 8, 16, 32].contains(&shares) && rows * shares <= 256;
        (fits && most).then_some(MatmulSkinnyConstants { rows, shares, b_along_n: along_n, k_split: split })
    }

    /// Constants with which [`MATMUL_COOPERATIVE_8`] computes this product on a device whose largest subgroups have so many threads;
    /// `None` if a workgroup would have too many terms, or tiles that do not fit.
    pub fn cooperative_8(&self, subgroup: u32) -> Option<MatmulCooperative8Constants> {
        let fits = [8, 16, 32, 64].contains(&subgroup) && self.terms_of_a_part() <= MOST_COOPERATIVE_TERMS;
        fits.then_some(MatmulCooperative8Constants {
            threads: 4 * subgroup,
            depth: subgroup,
            a_along_k: self.a_k_lo.unsigned_abs() <= self.a_m_lo.unsigned_abs(),
            b_along_n: self.b_n.unsigned_abs() <= self.b_k_lo.unsigned_abs(),
            k_split: self.k_split < self.k,
        })
    }

    /// The same for [`MATMUL_COOPERATIVE_16`], which also wants four terms of A side by side, and of B, or four columns of B.
    pub fn cooperative_16(&self, subgroup: u32) -> Option<MatmulCooperative16Constants> {
        let fits = [32, 64].contains(&subgroup) && self.terms_of_a_part() <= MOST_COOPERATIVE_TERMS;
        let fours = self.fours().filter(|fours| fours.a_along_k && fits && self.part.is_multiple_of(4))?;
        let k_split = self.k_split < self.k;
        Some(MatmulCooperative16Constants { threads: 4 * subgroup, b_along_n: fours.b_along_n, k_split })
    }

    /// Terms of a workgroup's sums, at most.
    fn terms_of_a_part(&self) -> u32 {
        if self.part == 0 { self.k } else { self.part }
    }

    /// True if [`MATMUL_COOPERATIVE_8`] computes this product with those constants. Along which axis threads load is a matter of speed.
    fn takes_cooperative_8(&self, c: MatmulCooperative8Constants) -> bool {
        let own = self.cooperative_8(c.threads / 4);
        own.is_some_and(|own| [own.threads, own.depth] == [c.threads, c.depth]) && (c.k_split || self.k_split >= self.k)
    }

    /// True if [`MATMUL_COOPERATIVE_16`] does.
    fn takes_cooperative_16(&self, c: MatmulCooperative16Constants) -> bool {
        let own = self.cooperative_16(c.threads / 4);
        own.is_some_and(|own| own.b_along_n == c.b_along_n) && (c.k_split || self.k_split >= self.k)
    }

    /// True if C is contiguous.
    pub(crate) fn has_contiguous_result(&self) -> bool {
        let joined = self.m <= self.m_split || self.c_m_hi as i64 == self.c_m_lo as i64 * self.m_split as i64;
        self.m == 1 || self.c_m_lo == self.n as i32 && joined
    }

    /// Number of parts that share the terms of each sum.
    pub fn parts(&self) -> u32 {
        if self.part == 0 { 1 } else { self.k.div_ceil(self.part) }
    }

    /// Workgroups, each of which computes a block of `rows` × `columns` of C.
    fn groups(&self, rows: u32, columns: u32) -> [u64; 3] {
        [self.n.div_ceil(columns) as u64, self.m.div_ceil(rows) as u64, self.parts() as u64]
    }

    fn flops(&self) -> u64 {
        2 * self.m as u64 * self.n as u64 * self.k as u64
    }

    fn touches(&self) -> Vec<Touch> {
        let (m_hi, m_lo) = split_axis(self.m, self.m_split);
        let (k_hi, k_lo) = split_axis(self.k, self.k_split);
        let a = [(m_hi, self.a_m_hi), (m_lo, self.a_m_lo), (k_hi, self.a_k_hi), (k_lo, self.a_k_lo)];
        let b = [(k_hi, self.b_k_hi), (k_lo, self.b_k_lo), (self.n, self.b_n)];
        let c = [(self.parts(), self.c_part as i32), (m_hi, self.c_m_hi), (m_lo, self.c_m_lo), (self.n, 1)];
        vec![
            Touch::reads(Region::strided(self.a_offset, a)),
            Touch::reads(Region::strided(self.b_offset, b)),
            Touch::updates(Region::strided(self.c_offset, c), self.accumulate == 1),
        ]
    }
}

/// Twin of `shaders/matmul_cooperative_8.wgsl` and `shaders/matmul_cooperative_16.wgsl`: every operand rounded to f16. Only tests run it.
fn matmul_rounded<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: Matmul = call.params();
    let split = |at: u32, size: u32, hi: i32, lo: i32| (at / size) as i64 * hi as i64 + (at % size) as i64 * lo as i64;
    let rounded = |value: F| F::of(f16::from_f64(value.to_f64().unwrap_or(f64::NAN)).to_f32());
    let ([a, b], [c], _) = args.parts(0);
    for part in 0..p.parts() {
        let terms = if p.part == 0 { 0..p.k } else { part * p.part..p.k.min((part + 1) * p.part) };
        for m in 0..p.m {
            for n in 0..p.n {
                let term = |k| {
                    let at_a = p.a_offset as i64
                        + split(m, p.m_split, p.a_m_hi, p.a_m_lo)
                        + split(k, p.k_split, p.a_k_hi, p.a_k_lo);
                    let at_b = p.b_offset as i64 + split(k, p.k_split, p.b_k_hi, p.b_k_lo) + n as i64 * p.b_n as i64;
                    rounded(a[at_a as usize]) * rounded(b[at_b as usize])
                };
                let sum = terms.clone().map(term).fold(F::of(0.0), |sum, value| sum + value);
                let at = p.c_offset as i64 + part as i64 * p.c_part as i64 + split(m, p.m_split, p.c_m_hi, p.c_m_lo);
                let c = &mut c[(at + n as i64) as usize];
                *c = if p.accumulate == 1 { *c + sum } else { sum };
            }
        }
    }
}
