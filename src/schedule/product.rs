//! Matrix products: the ways to compute one on a device, the choice among them, and its commands.

use super::Builder;
use super::cost::Cost;
use crate::activation::Shape;
use crate::error::{Error, Result};
use crate::kernel::{self, Matmul, MatmulSkinnyDenseConstants, NoConstants};
use crate::plan::product::{ProductLaunch, ProductShape, ProductTile};
use crate::plan::{BufferId, Capabilities, Plan, Role};

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

/// Rows and columns from which on a product is worth cooperative matrices, of which it would leave most of a tile empty.
const LEAST_COOPERATIVE: u32 = 32;

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
        if let Some(matrices) = capabilities.cooperative
            && product.m > LEAST_COOPERATIVE
            && product.n > LEAST_COOPERATIVE
        {
            let tile = match matrices.side {
                16 => ProductTile::Cooperative16,
                _ => ProductTile::Cooperative8,
            };
            whole.push(one(tile));
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
                let part = launch.part(product).filter(|part| fits && part.parts() == parts);
                let whole = part.or((parts == 1).then_some(*product));
                if whole.is_some_and(|whole| launch.has_matrices(&whole, capabilities)) {
                    all.push(launch);
                }
            }
        }
        all
    }

    /// The ways to compute a product whose operands may be rounded to f16 or not.
    pub(crate) fn ways(product: &Matmul, rounds: bool, capabilities: &Capabilities) -> Vec<ProductLaunch> {
        let mut all = ProductLaunch::candidates(product, capabilities);
        all.retain(|launch| rounds || launch.tile.cooperative().is_none());
        all
    }

    /// The candidate of least estimated time.
    pub fn choose(product: &Matmul, capabilities: &Capabilities) -> ProductLaunch {
        ProductLaunch::by_model(product, true, capabilities)
    }

    /// The same where operands may be rounded or not.
    pub(crate) fn by_model(product: &Matmul, rounds: bool, capabilities: &Capabilities) -> ProductLaunch {
        ProductLaunch::least(&ProductLaunch::ways(product, rounds, capabilities), product, capabilities)
    }

    /// The device's own choice for products of this shape if it is a way to compute this one, else the model's.
    fn chosen(product: &Matmul, rounds: bool, capabilities: &Capabilities) -> ProductLaunch {
        let ways = ProductLaunch::ways(product, rounds, capabilities);
        let shape = ProductShape::of(product, rounds && capabilities.cooperative.is_some());
        // A product without a choice is not asked for, so that nobody measures it.
        let own = if ways.len() > 1 { capabilities.choices.product(shape) } else { None };
        own.filter(|launch| ways.contains(launch)).unwrap_or_else(|| ProductLaunch::least(&ways, product, capabilities))
    }

    /// The first of least estimated time.
    fn least(ways: &[ProductLaunch], product: &Matmul, capabilities: &Capabilities) -> ProductLaunch {
        let timed = ways.iter().map(|launch| (launch.cost(product, capabilities), launch));
        *timed.min_by(|a, b| a.0.total_cmp(&b.0)).expect("there is always a candidate").1
    }

    /// True if the kernel takes no cooperative matrices, or the device has them in this way.
    fn has_matrices(&self, product: &Matmul, capabilities: &Capabilities) -> bool {
        let Some(side) = self.tile.cooperative() else { return true };
        capabilities.cooperative.filter(|own| own.side == side).is_some_and(|own| match side {
            16 => product.cooperative_16(own.subgroup_threads).is_some(),
            _ => product.cooperative_8(own.subgroup_threads).is_some(),
        })
    }

    /// Estimated time in cycles of a compute unit of 64 lanes, for comparing candidates: the steps of the workgroups that a unit has, one
    /// after another, each as long as its arithmetic or as what it waits for, and another dispatch where parts are added up. The
    /// constants are round numbers for desktop GPUs; the tiles' shares of multiply-adds stand to each other as their speeds on an H100.
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
                let share = if self.tile.cooperative().is_some() {
                    2.0 // more multiply-adds than lanes
                } else if columns == 128 {
                    0.69
                } else if rows == 128 {
                    0.80
                } else {
                    0.65
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

    /// Work of the product: dispatches, bytes that workgroups load of A and B, multiply-adds with those of padding, threads. Without a time.
    pub(crate) fn work(&self, product: &Matmul, capabilities: &Capabilities) -> Cost {
        let groups = self.groups(product);
        let (rows, columns) = self.block();
        let threads = match (self.tile, capabilities.cooperative) {
            (ProductTile::Registers, _) => 64,
            (tile, Some(matrices)) if tile.cooperative().is_some() => 4 * matrices.subgroup_threads as u64,
            _ => THREADS,
        };
        let terms = product.k as f64 / self.parts.max(1) as f64;
        Cost {
            us: f64::NAN,
            dispatches: 1 + (self.parts > 1) as u64,
            bytes: 4.0 * groups as f64 * (rows + columns) as f64 * terms,
            fmas: groups as f64 * rows as f64 * columns as f64 * terms,
            threads: groups * threads,
        }
    }

    /// Rows and columns of C that a workgroup computes.
    fn block(&self) -> (u32, u32) {
        self.tile.size().unwrap_or((16, 4 * THREADS as u32 / self.shares.max(1)))
    }

    /// Workgroups of the product's own dispatch.
    fn groups(&self, product: &Matmul) -> u64 {
        let (rows, columns) = self.block();
        product.m.div_ceil(rows) as u64 * product.n.div_ceil(columns) as u64 * self.parts as u64
    }

    /// The product with parts for workgroups, if there are several and C is contiguous.
    fn part(&self, product: &Matmul) -> Option<Matmul> {
        let elements = product.m as u64 * product.n as u64 * self.parts as u64;
        if self.parts <= 1 || !product.has_contiguous_result() || elements > i32::MAX as u64 {
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
        self.products(whole, false, [a, b, c]);
    }

    /// The same for activations and weights of a forward pass, which [`Matrices::Cooperative`](crate::Matrices) allows to be rounded to
    /// f16. Gradients would lose what is below f16's range.
    pub(crate) fn rounded_matmul(&mut self, whole: Matmul, a: BufferId, b: BufferId, c: BufferId) {
        self.products(whole, true, [a, b, c]);
    }

    fn products(&mut self, whole: Matmul, rounds: bool, [a, b, c]: [BufferId; 3]) {
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
                let launch = ProductLaunch::chosen(&part, rounds, &self.capabilities);
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
            ProductTile::Cooperative8 | ProductTile::Cooperative16 => {
                let matrices = self.capabilities.cooperative.filter(|own| Some(own.side) == launch.tile.cooperative());
                let subgroup = matrices.ok_or_else(refused)?.subgroup_threads;
                if launch.tile == ProductTile::Cooperative8 {
                    let constants = shared.cooperative_8(subgroup).ok_or_else(refused)?;
                    self.push(&kernel::MATMUL_COOPERATIVE_8, None, &constants, &shared, &[a, b, sums]);
                } else {
                    let constants = shared.cooperative_16(subgroup).ok_or_else(refused)?;
                    self.push(&kernel::MATMUL_COOPERATIVE_16, None, &constants, &shared, &[a, b, sums]);
                }
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

/// Elements of a sample's largest matrix.
const MOST_ELEMENTS: u64 = 16 << 20;

impl ProductShape {
    /// The product that stands for the shape in measurements and estimates.
    pub fn sample(&self) -> Matmul {
        self.product(MOST_ELEMENTS)
    }

    /// Plan of the product in a given way, `repeats` times.
    pub fn sample_plan(&self, launch: ProductLaunch, repeats: u32, capabilities: &Capabilities) -> Result<Plan> {
        let product = self.sample();
        let mut plan = Builder::trusted(format!("{self}, {repeats} times"), capabilities.clone());
        // Strides may leave an element between rows.
        let len = |one: u32, other: u32| (one as u64 + 1) * (other as u64 + 1);
        let [a, b, c] =
            [("a", len(product.m, product.k)), ("b", len(product.k, product.n)), ("c", len(product.m, product.n))]
                .map(|(name, len)| plan.buffer(name, len, Role::Input));
        let [a, b, c] = [a?, b?, c?];
        for _ in 0..repeats {
            plan.matmul_by(launch, product, a, b, c)?;
        }
        plan.finish()
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
