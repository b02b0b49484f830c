//! Matrix products: the ways to compute one on a device, the choice among them, and its commands.

use super::Builder;
use crate::activation::Shape;
use crate::error::{Error, Result};
use crate::kernel::{self, Matmul, MatmulSkinnyDenseConstants, NoConstants};
use crate::plan::{BufferId, Capabilities};
use serde::{Deserialize, Serialize};

/// Terms that one dispatch of a product may sum. Some drivers end a shader's loops after 65,535 iterations, counted over
/// nested loops together, and the shaders take up to 17 iterations for 16 terms.
pub(super) const MOST_TERMS: u32 = 1 << 15;

/// Threads of a workgroup of [`kernel::MATMUL`] and [`kernel::MATMUL_SKINNY`].
const THREADS: u64 = 256;

/// Parts that the sum of a product may have: each writes its own copy of C, and a thread adds up as many.
const PARTS: [u32; 5] = [1, 2, 4, 8, 16];

/// Terms of a part, at least.
const LEAST_TERMS: u32 = 128;

/// Estimated cycles from the end of a dispatch to the work of the next.
const DISPATCH: f64 = 10_000.0;

/// The kernel of a product and the block of C that a workgroup computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProductTile {
    /// [`kernel::MATMUL_REGISTERS`]: no workgroup memory; sizes and strides are multiples of 4.
    Registers,
    /// [`kernel::MATMUL_SKINNY`]: up to 16 rows.
    Skinny,
    /// [`kernel::MATMUL`] with 64 × 64 elements of C, 4 × 4 a thread.
    #[serde(rename = "64x64")]
    Tile64x64,
    /// [`kernel::MATMUL`] with 128 × 64 elements of C, 8 × 4 a thread.
    #[serde(rename = "128x64")]
    Tile128x64,
    /// [`kernel::MATMUL`] with 128 × 128 elements of C, 8 × 8 a thread.
    #[serde(rename = "128x128")]
    Tile128x128,
}

impl ProductTile {
    /// Rows and columns of C that a workgroup of [`kernel::MATMUL`] computes; `None` for other kernels.
    fn size(self) -> Option<(u32, u32)> {
        match self {
            ProductTile::Registers | ProductTile::Skinny => None,
            ProductTile::Tile64x64 => Some((64, 64)),
            ProductTile::Tile128x64 => Some((128, 64)),
            ProductTile::Tile128x128 => Some((128, 128)),
        }
    }
}

/// A way to compute a product: its kernel, and the workgroups and threads that share a sum. Plain data, for tables of what was
/// measured.
///
/// ```
/// use wgpu_lstm::Capabilities;
/// use wgpu_lstm::kernel::Matmul;
/// use wgpu_lstm::schedule::{ProductLaunch, ProductTile};
/// let (product, gpu) = (Matmul::plain(4096, 2048, 512), Capabilities::default());
/// let chosen = ProductLaunch::choose(&product, &gpu);
/// assert!(ProductLaunch::candidates(&product, &gpu).contains(&chosen));
/// assert_eq!(chosen, ProductLaunch { tile: ProductTile::Tile128x128, shares: 1, parts: 1 });
/// assert_eq!(serde_json::to_string(&chosen)?, r#"{"tile":"128x128","shares":1,"parts":1}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProductLaunch {
    /// Kernel, and block of C.
    pub tile: ProductTile,
    /// Threads of a workgroup that share the terms of a sum; 1 unless the kernel is [`ProductTile::Skinny`].
    pub shares: u32,
    /// Workgroups that share the terms of a sum; another dispatch adds up their parts. 1: none.
    pub parts: u32,
}

impl ProductLaunch {
    /// The ways to compute a product on a device, at least one. Adapters without fast workgroup memory, software that is, have one.
    pub fn candidates(product: &Matmul, capabilities: &Capabilities) -> Vec<ProductLaunch> {
        let one = |tile| ProductLaunch { tile, shares: 1, parts: 1 };
        if !capabilities.workgroup_tiles {
            let fours = product.fours().is_some();
            return vec![one(if fours { ProductTile::Registers } else { ProductTile::Tile64x64 })];
        }
        let mut whole = vec![one(ProductTile::Tile64x64)];
        if product.m > 64 {
            whole.push(one(ProductTile::Tile128x64));
        }
        if product.m > 64 && product.n > 64 {
            whole.push(one(ProductTile::Tile128x128));
        }
        for shares in [4, 8, 16, 32] {
            // More threads than blocks of four terms would be idle.
            if product.skinny(shares).is_some() && (shares == 4 || 4 * shares <= product.k) {
                whole.push(ProductLaunch { tile: ProductTile::Skinny, shares, parts: 1 });
            }
        }
        let fill = capabilities.busy_threads / THREADS;
        let mut all = Vec::new();
        for launch in whole {
            for parts in PARTS {
                let launch = ProductLaunch { parts, ..launch };
                let fits = product.k / parts >= LEAST_TERMS && launch.groups(product) <= fill;
                if parts == 1 || fits && launch.part(product).is_some_and(|part| part.parts() == parts) {
                    all.push(launch);
                }
            }
        }
        all
    }

    /// The candidate of least estimated time.
    pub fn choose(product: &Matmul, capabilities: &Capabilities) -> ProductLaunch {
        let candidates = ProductLaunch::candidates(product, capabilities).into_iter();
        let least =
            candidates.map(|launch| (launch.cost(product, capabilities), launch)).min_by(|a, b| a.0.total_cmp(&b.0));
        least.expect("there is always a candidate").1
    }

    /// Estimated time in cycles of a compute unit of 64 lanes, for comparing candidates: the steps of the workgroups that a unit has, one
    /// after another, each as long as its arithmetic or as what it waits for, and another dispatch where parts are added up. The
    /// constants are round numbers for desktop GPUs; shares of multiply-adds are those of compiled code (docs/kernels.md).
    pub fn cost(&self, product: &Matmul, capabilities: &Capabilities) -> f64 {
        const UNIT_THREADS: u64 = 1024; // that keep a unit busy
        const LANES: f64 = 64.0;
        const CACHE_BYTES: f64 = 64.0; // a cycle and unit
        const MEMORY_BYTES: f64 = 8.0; // a cycle and unit
        const BARRIERS: f64 = 400.0; // cycles of a tile's two barriers and first reads, which another workgroup hides
        const LOAD: f64 = 500.0; // cycles of a load that is begun a block ahead
        let units = (capabilities.busy_threads / UNIT_THREADS).max(1);
        let terms = self.part(product).map_or(product.k, |part| part.part) as f64;
        let threads = THREADS as f64;
        let (steps, work, waits, last) = match self.tile.size() {
            Some((rows, columns)) => {
                let depth = Matmul::depth(columns) as f64;
                let share = if columns == 128 {
                    0.80
                } else if rows == 128 {
                    0.74
                } else {
                    0.68
                };
                ((terms / depth).ceil(), rows as f64 * columns as f64 * depth / LANES / share, BARRIERS, 0.0)
            }
            None => {
                let rows = product.m.next_power_of_two() as f64;
                let blocks = if rows <= 4.0 { 4.0 } else { 1.0 }; // of a turn
                let turns = (terms / (4.0 * blocks * self.shares as f64)).ceil();
                let work = blocks * (16.0 * rows / 0.75 * threads / LANES).max(64.0 * threads / CACHE_BYTES);
                let last = (rows / 2.0).ceil() * (200.0 + 8.0 * self.shares as f64);
                (turns, work, LOAD, last + LOAD * (terms * rows / 2048.0).ceil())
            }
        };
        let of_a_unit = self.groups(product).div_ceil(units);
        let together = of_a_unit.min(UNIT_THREADS / THREADS);
        let rounds = of_a_unit.div_ceil(together) as f64;
        let whole = rounds * (steps * (together as f64 * work).max(work + waits) + last);
        let sums = 4.0 * product.m as f64 * product.n as f64 / MEMORY_BYTES / units as f64;
        whole + if self.parts > 1 { DISPATCH + (2.0 * self.parts as f64 + 1.0) * sums } else { 0.0 }
    }

    /// Workgroups of the product's own dispatch.
    fn groups(&self, product: &Matmul) -> u64 {
        let (rows, columns) = self.tile.size().unwrap_or((16, 4 * THREADS as u32 / self.shares.max(1)));
        product.m.div_ceil(rows) as u64 * product.n.div_ceil(columns) as u64 * self.parts as u64
    }

    /// The product with parts for workgroups, if there are several and C is contiguous.
    fn part(&self, product: &Matmul) -> Option<Matmul> {
        let joined =
            product.m <= product.m_split || product.c_m_hi as i64 == product.c_m_lo as i64 * product.m_split as i64;
        let contiguous = product.m == 1 || product.c_m_lo == product.n as i32 && joined;
        let elements = product.m as u64 * product.n as u64 * self.parts as u64;
        if self.parts <= 1 || !contiguous || elements > i32::MAX as u64 {
            return None;
        }
        let multiple = if product.k_split < product.k { product.k_split } else { 16 };
        let part = product.k.div_ceil(self.parts).next_multiple_of(multiple);
        Some(Matmul { accumulate: 0, c_offset: 0, part, c_part: product.m * product.n, ..*product })
    }
}

impl Builder {
    /// Adds a matrix product; see [`kernel::Matmul`]. Products that are too large for one dispatch are split: rows by the number
    /// of workgroups, terms by the iterations of a shader's loops.
    pub fn matmul(&mut self, whole: Matmul, a: BufferId, b: BufferId, c: BufferId) {
        let rows = self.capabilities.max_groups.min(65_535) as u32 * 16;
        let (k_split, [a_k_hi, b_k_hi], [a_k_lo, b_k_lo]) =
            joined(whole.k, whole.k_split, [whole.a_k_hi, whole.b_k_hi], [whole.a_k_lo, whole.b_k_lo]);
        let whole = Matmul { k_split, a_k_hi, a_k_lo, b_k_hi, b_k_lo, ..whole };
        for m in split(whole.m, whole.m_split, rows) {
            for k in split(whole.k, whole.k_split, MOST_TERMS) {
                let part = Matmul {
                    m: m.len,
                    m_split: m.split,
                    k: k.len,
                    k_split: k.split,
                    accumulate: (whole.accumulate == 1 || k.hi + k.lo > 0) as u32,
                    a_offset: k.moved(m.moved(whole.a_offset, whole.a_m_hi, whole.a_m_lo), whole.a_k_hi, whole.a_k_lo),
                    b_offset: k.moved(whole.b_offset, whole.b_k_hi, whole.b_k_lo),
                    c_offset: m.moved(whole.c_offset, whole.c_m_hi, whole.c_m_lo),
                    ..whole
                };
                let launch = ProductLaunch::choose(&part, &self.capabilities);
                self.matmul_by(launch, part, a, b, c).expect("a candidate computes the product");
            }
        }
    }

    /// Adds the product of a dense layer, activation(A·B + bias), in one dispatch; returns false, and adds nothing, where it takes several or
    /// its kernel does not.
    pub(crate) fn matmul_dense(
        &mut self,
        product: Matmul,
        [a, b, c]: [BufferId; 3],
        bias: Option<BufferId>,
        Shape { kind, alpha, beta }: Shape,
    ) -> bool {
        if product.accumulate == 1 || product.k > MOST_TERMS {
            return false;
        }
        let is_whole = |launch: &ProductLaunch| launch.tile == ProductTile::Skinny && launch.parts == 1;
        // Others take another dispatch.
        let candidates = ProductLaunch::candidates(&product, &self.capabilities).into_iter();
        let cost = |launch: &ProductLaunch| {
            launch.cost(&product, &self.capabilities) + if is_whole(launch) { 0.0 } else { DISPATCH }
        };
        let best = candidates.min_by(|a, b| cost(a).total_cmp(&cost(b))).filter(is_whole);
        let Some(common) = best.and_then(|launch| product.skinny(launch.shares)) else { return false };
        let has_bias = bias.is_some();
        let constants = MatmulSkinnyDenseConstants { common, activation: kind, has_bias, alpha, beta };
        let bias = bias.unwrap_or_else(|| self.unused());
        self.push(&kernel::MATMUL_SKINNY_DENSE, None, &constants, &product, &[a, b, c, bias]);
        true
    }

    /// Adds a product in a given way, such as one of [`ProductLaunch::candidates`], in one dispatch, or two where it has parts. Parts are
    /// added up in their order: the result does not depend on which workgroup is first.
    ///
    /// Returns [`Error::Plan`] for a way that cannot compute the product.
    ///
    /// ```
    /// use wgpu_lstm::kernel::Matmul;
    /// use wgpu_lstm::plan::Role;
    /// use wgpu_lstm::schedule::{Builder, ProductLaunch, ProductTile};
    /// use wgpu_lstm::{Capabilities, Device};
    /// let mut plan = Builder::new("product", Capabilities::default());
    /// let (a, b) = (plan.buffer("a", 2 * 512, Role::Input)?, plan.buffer("b", 512 * 8, Role::Input)?);
    /// let c = plan.buffer("c", 2 * 8, Role::Output)?;
    /// let launch = ProductLaunch { tile: ProductTile::Skinny, shares: 8, parts: 4 };
    /// plan.matmul_by(launch, Matmul::plain(2, 8, 512), a, b, c)?;
    /// let executable = Device::cpu().compile(plan.finish()?)?;
    /// executable.write((a, 0), &[0.5; 2 * 512])?;
    /// executable.write((b, 0), &[2.0; 512 * 8])?;
    /// executable.run()?;
    /// assert_eq!(executable.read((c, 0), 16)?, [512.0; 16]);
    /// # Ok::<(), wgpu_lstm::Error>(())
    /// ```
    pub fn matmul_by(
        &mut self,
        launch: ProductLaunch,
        product: Matmul,
        a: BufferId,
        b: BufferId,
        c: BufferId,
    ) -> Result<()> {
        let refused = || Error::Plan(format!("{launch:?} cannot compute the product {product:?}"));
        let part = launch.part(&product);
        if part.is_none() && launch.parts != 1 {
            return Err(refused());
        }
        let (shared, sums) = match part {
            Some(part) => (part, self.partial_sums(part.parts() as u64 * part.c_part as u64)),
            None => (product, c),
        };
        match launch.tile {
            ProductTile::Registers => {
                let along = shared.fours().filter(|_| launch.parts == 1).ok_or_else(refused)?;
                self.push(&kernel::MATMUL_REGISTERS, None, &along, &shared, &[a, b, sums]);
            }
            ProductTile::Skinny => {
                let constants = shared.skinny(launch.shares).ok_or_else(refused)?;
                self.push(&kernel::MATMUL_SKINNY, None, &constants, &shared, &[a, b, sums]);
            }
            tile => {
                let (rows, columns) = tile.size().ok_or_else(refused)?;
                self.push(&kernel::MATMUL, None, &shared.tiles(rows, columns), &shared, &[a, b, sums]);
            }
        }
        if let Some(part) = part {
            let params = kernel::ColumnSum {
                rows: part.parts(),
                columns: part.c_part,
                a_offset: 0,
                out_offset: product.c_offset,
                copies: 1,
                accumulate: product.accumulate,
            };
            self.push(&kernel::COLUMN_SUM_FEW, None, &NoConstants, &params, &[sums, c]);
        }
        Ok(())
    }
}

/// Joins the two levels of an axis of `n` indices if the strides allow it.
fn joined<const N: usize>(n: u32, inner: u32, hi: [i32; N], lo: [i32; N]) -> (u32, [i32; N], [i32; N]) {
    if (0..N).all(|k| hi[k] as i64 == lo[k] as i64 * inner as i64) {
        (n, hi, lo)
    } else if inner == 1 {
        (n, hi, hi)
    } else {
        (inner, hi, lo)
    }
}

/// A part of a two-level axis, from index (hi, lo) on.
struct AxisPart {
    hi: u32,
    lo: u32,
    len: u32,
    split: u32,
}

impl AxisPart {
    /// An offset moved to the part's start.
    fn moved(&self, offset: u32, hi: i32, lo: i32) -> u32 {
        (offset as i64 + self.hi as i64 * hi as i64 + self.lo as i64 * lo as i64) as u32
    }
}

/// Cuts an axis of `n` indices, in two levels by `inner`, into parts of at most `most`: whole inner axes if they are short
/// enough, else parts of one.
fn split(n: u32, inner: u32, most: u32) -> Vec<AxisPart> {
    let inner = inner.min(n);
    if inner <= most {
        let outer = (most / inner).min(n.div_ceil(inner));
        let starts = (0..n.div_ceil(inner)).step_by(outer as usize);
        return starts
            .map(|hi| AxisPart { hi, lo: 0, len: (outer * inner).min(n - hi * inner), split: inner })
            .collect();
    }
    (0..n.div_ceil(inner))
        .flat_map(|hi| {
            let held = inner.min(n - hi * inner);
            let piece = move |lo: u32| {
                let len = most.min(held - lo);
                AxisPart { hi, lo, len, split: len }
            };
            (0..held).step_by(most as usize).map(piece)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts of an axis name every index once, in order, by its two coordinates.
    #[test]
    fn parts_cover_an_axis() {
        for (n, inner) in [(1, 1), (10, 10), (10, 3), (12, 3), (7, 1), (9, 40)] {
            for most in [1, 2, 3, 4, 7, 100] {
                let mut given = Vec::new();
                for part in split(n, inner, most) {
                    assert!(part.len <= most && part.len > 0);
                    given.extend((0..part.len).map(|k| (part.hi + k / part.split, part.lo + k % part.split)));
                }
                let expected: Vec<(u32, u32)> = (0..n).map(|k| (k / inner, k % inner)).collect();
                assert_eq!(given, expected, "n {n}, inner {inner}, at most {most}");
            }
        }
    }
}
