//! Gradient of the recurrent weights of heads.

use super::declare::{kernel, params};
use super::{Call, NoConstants, Region, Touch};
use crate::cpu::Args;
use crate::real::Real;

params! {
    /// `dr[u, c] (+)= Σ h[s, b, head of c · units + u]·dg[s, b, c]` over steps and rows.
    HeadProduct {
        /// Steps.
        steps: u32,
        /// B.
        batch: u32,
        /// Heads.
        heads: u32,
        /// Units of a head.
        units: u32,
        /// 1: add to dr; 0: overwrite it.
        accumulate: u32,
        /// First element of h [steps, B, heads · units].
        h_offset: u32,
        /// Stride of h by step.
        h_step: u32,
        /// Stride of h by row.
        h_row: u32,
        /// First element of dg [steps, B, 4 · heads · units].
        dg_offset: u32,
        /// Stride of dg by step.
        dg_step: u32,
        /// First element of dr [units, 4 · heads · units].
        dr_offset: u32,
    }
}

kernel! {
    /// Outer products of every head's hidden units and gate gradients, summed over time: one dispatch instead of a matrix
    /// product for each head.
    HEAD_PRODUCT = head_product(HeadProduct, NoConstants) {
        bindings: [read h, read dg, write dr],
        workgroup: [256, 1, 1],
        elementwise: |p| [p.units, p.columns()], flops: 2 * p.steps as u64 * p.batch as u64,
        touches: |p| p.touches(),
    }
}

impl HeadProduct {
    /// Columns of all heads, 4H.
    pub fn columns(&self) -> u32 {
        4 * self.heads * self.units
    }

    fn touches(&self) -> Vec<Touch> {
        let axes = |step: u32, row: u32, n: u32| [(self.steps, step as i32), (self.batch, row as i32), (n, 1)];
        let (columns, units) = (self.columns(), self.heads * self.units);
        vec![
            Touch::reads(Region::strided(self.h_offset, axes(self.h_step, self.h_row, units))),
            Touch::reads(Region::strided(self.dg_offset, axes(self.dg_step, columns, columns))),
            Touch::updates(Region::span(self.dr_offset, self.units, columns), self.accumulate == 1),
        ]
    }
}

/// Twin of `shaders/head_product.wgsl`.
fn head_product<F: Real>(call: &Call, args: &mut Args<F>) {
    let p: HeadProduct = call.params();
    let ([h, dg], [dr], _) = args.parts(0);
    let (units, columns) = (p.units as usize, p.columns() as usize);
    let dr = &mut dr[p.dr_offset as usize..][..units * columns];
    if p.accumulate == 0 {
        dr.fill(F::zero());
    }
    for (step, row) in (0..p.steps).flat_map(|step| (0..p.batch).map(move |row| (step, row))) {
        let h = &h[(p.h_offset + step * p.h_step + row * p.h_row) as usize..];
        let dg = &dg[(p.dg_offset + step * p.dg_step) as usize + row as usize * columns..][..columns];
        for (u, dr) in dr.chunks_exact_mut(columns).enumerate() {
            for ((dr, dg), h) in dr.chunks_mut(4 * units).zip(dg.chunks(4 * units)).zip(h.iter().skip(u).step_by(units))
            {
                dr.iter_mut().zip(dg).for_each(|(sum, &gradient)| *sum += *h * gradient);
            }
        }
    }
}
