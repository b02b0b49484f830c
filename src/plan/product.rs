//! Matrix products, and the ways to compute one, as data.

use crate::kernel::Matmul;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The kernel of a product and the block of C that a workgroup computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProductTile {
    /// [`kernel::MATMUL_REGISTERS`](crate::kernel::MATMUL_REGISTERS): no workgroup memory; sizes and strides are multiples of 4.
    Registers,
    /// [`kernel::MATMUL_SKINNY`](crate::kernel::MATMUL_SKINNY): up to 16 rows.
    Skinny,
    /// [`kernel::MATMUL`](crate::kernel::MATMUL) with 64 × 64 elements of C, 4 × 4 a thread.
    #[serde(rename = "64x64")]
    Tile64x64,
    /// [`kernel::MATMUL`](crate::kernel::MATMUL) with 128 × 64 elements of C, 8 × 4 a thread.
    #[serde(rename = "128x64")]
    Tile128x64,
    /// [`kernel::MATMUL`](crate::kernel::MATMUL) with 128 × 128 elements of C, 8 × 8 a thread.
    #[serde(rename = "128x128")]
    Tile128x128,
    /// [`kernel::MATMUL_COOPERATIVE_8`](crate::kernel::MATMUL_COOPERATIVE_8) with 64 × 64 elements of C: operands are rounded to f16.
    #[serde(rename = "cooperative_8")]
    Cooperative8,
    /// [`kernel::MATMUL_COOPERATIVE_16`](crate::kernel::MATMUL_COOPERATIVE_16), likewise.
    #[serde(rename = "cooperative_16")]
    Cooperative16,
}

impl ProductTile {
    /// Rows and columns of C that a workgroup computes, if all threads of one pass through the same terms; `None` for other kernels.
    pub(crate) fn size(self) -> Option<(u32, u32)> {
        match self {
            ProductTile::Registers | ProductTile::Skinny => None,
            ProductTile::Tile64x64 | ProductTile::Cooperative8 | ProductTile::Cooperative16 => Some((64, 64)),
            ProductTile::Tile128x64 => Some((128, 64)),
            ProductTile::Tile128x128 => Some((128, 128)),
        }
    }

    /// Rows of a cooperative matrix, if the kernel multiplies by them and so rounds its operands to f16.
    pub(crate) fn cooperative(self) -> Option<u32> {
        match self {
            ProductTile::Cooperative8 => Some(8),
            ProductTile::Cooperative16 => Some(16),
            _ => None,
        }
    }
}

impl fmt::Display for ProductTile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProductTile::Registers => "registers",
            ProductTile::Skinny => "skinny",
            ProductTile::Tile64x64 => "tiles of 64x64",
            ProductTile::Tile128x64 => "tiles of 128x64",
            ProductTile::Tile128x128 => "tiles of 128x128",
            ProductTile::Cooperative8 => "cooperative matrices of 8x8",
            ProductTile::Cooperative16 => "cooperative matrices of 16x16",
        })
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
/// assert_eq!(chosen, ProductLaunch { tile: ProductTile::Tile128x64, shares: 1, parts: 1 });
/// assert_eq!(serde_json::to_string(&chosen)?, r#"{"tile":"128x64","shares":1,"parts":1}"#);
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

impl fmt::Display for ProductLaunch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} shares x {} parts", self.tile, self.shares, self.parts)
    }
}

/// Rows and terms up to which products of other sizes are other shapes.
const EXACT: u32 = 64;
/// Rows from which on products are one shape.
const MANY_ROWS: u32 = 1 << 13;
/// Terms from which on products are one shape.
const MANY_TERMS: u32 = 1 << 15;
/// Multiply-adds of the least product that is worth a measurement: the others take about as long as a dispatch.
const LARGE: u64 = 1 << 20;

/// A product C [M, N] = A [M, K]·B [K, N], as far as its time and the ways to compute it depend on it. M and K may be T·B, so products
/// of about as many rows or terms are one shape: above 64, both are rounded up to powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct ProductShape {
    /// M.
    pub rows: u32,
    /// N.
    pub columns: u32,
    /// K.
    pub terms: u32,
    /// True if terms of A lie side by side, false if rows do.
    pub a_along_k: bool,
    /// True if columns of B lie side by side, false if terms do.
    pub b_along_n: bool,
    /// True if k has two levels.
    pub k_split: bool,
    /// True if the kernel for few rows can load B by fours.
    pub fours: bool,
    /// True if C is contiguous, so that workgroups can share sums.
    pub contiguous: bool,
    /// True if operands may be rounded to f16.
    pub rounds: bool,
}

impl ProductShape {
    /// The shape of a product whose operands may be rounded or not.
    pub fn of(product: &Matmul, rounds: bool) -> ProductShape {
        let about = |size: u32, most: u32| if size > EXACT { size.min(most).next_power_of_two() } else { size };
        let tiles = product.tiles(64, 64);
        ProductShape {
            rows: about(product.m, MANY_ROWS),
            columns: product.n,
            terms: about(product.k, MANY_TERMS),
            a_along_k: tiles.a_along_k,
            b_along_n: tiles.b_along_n,
            k_split: tiles.k_split,
            fours: Matmul { m: 1, ..*product }.skinny(4).is_some(),
            contiguous: product.has_contiguous_result(),
            rounds,
        }
    }

    /// A product of this shape, with at most `most` elements in each matrix as far as fewer rows and terms make it so.
    pub fn product(&self, most: u64) -> Matmul {
        let ProductShape { rows: mut m, columns: n, terms: mut k, .. } = *self;
        let fits = |m: u32, k: u32| {
            [(m, n), (m, k), (k, n)].iter().all(|&(rows, columns)| rows as u64 * columns as u64 <= most)
        };
        while !fits(m, k) && m.max(k) > EXACT {
            *if m >= k { &mut m } else { &mut k } /= 2;
        }
        let apart = |size: u32, is_fours: bool| size as i32 + !is_fours as i32;
        let plain = Matmul::plain(m, n, k);
        let (a_m_lo, a_k_lo) = if self.a_along_k { (k as i32, 1) } else { (1, m as i32) };
        let (b_k_lo, b_n) = if self.b_along_n { (apart(n, self.fours), 1) } else { (1, apart(k, self.fours)) };
        let k_split = if self.k_split { (k / 2).max(1) } else { k };
        let (a_k_hi, b_k_hi) = (a_k_lo * k_split as i32, b_k_lo * k_split as i32);
        let c_m_lo = apart(n, self.contiguous);
        Matmul { k_split, a_m_lo, a_k_hi, a_k_lo, b_k_hi, b_k_lo, b_n, c_m_lo, ..plain }
    }

    /// True if a choice among the ways to compute it is worth a measurement.
    pub fn is_large(&self) -> bool {
        self.rows as u64 * self.columns as u64 * self.terms as u64 >= LARGE
    }
}

impl fmt::Display for ProductShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProductShape { rows, columns, terms, a_along_k, b_along_n, rounds, .. } = self;
        let turned = |name: &str, as_is: bool| if as_is { name.to_string() } else { format!("{name}ᵀ") };
        write!(f, "product M={rows} N={columns} K={terms} {}·{}", turned("A", *a_along_k), turned("B", *b_along_n))?;
        f.write_str(if *rounds { " rounded" } else { "" })
    }
}
